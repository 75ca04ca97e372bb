"""Settings of a scene of several objects: metric placement, occlusion, refinement, quality."""

from __future__ import annotations

from pydantic import model_validator

from cupid_core.config.base import Settings, setting


class PlacementConfig(Settings):
    """Metric scale and position of an object, and what may occlude it (`scene.place`, `scene.occlusion`)."""

    border_px: int = setting(
        3, "px", "Pixels this close to the border of the mask or of the silhouette are left out.", ge=0, le=50
    )
    max_depth_jump: float = setting(
        0.02, "1", "Largest step of depth to a neighbor that counts as one surface, relative.", gt=0.0, le=1.0
    )
    min_pairs: int = setting(
        30, "count", "Fewer pixels with rendered and measured depth than this give no scale.", ge=8, le=100_000
    )
    max_pairs: int = setting(
        4000, "count", "Most pairs that are used, sampled evenly over the visible surface.", ge=64, le=1_000_000
    )
    independent_patches: int = setting(
        16,
        "count",
        "Number of independent measurements that a visible surface counts as: errors of shape and of sensors "
        "belong to whole patches.",
        ge=1,
        le=100_000,
    )
    similarity_gain: float = setting(
        0.2,
        "1",
        "Camera known: share by which a similarity must lower the residual of the scale along the rays to be "
        "taken; 1 never takes it.",
        ge=0.0,
        le=1.0,
    )
    similarity_max_shift: float = setting(
        0.02,
        "1",
        "Camera known: how far a similarity may move the object in the image (rms), relative to its size there.",
        gt=0.0,
        le=1.0,
    )
    occlusion_reach_px: int = setting(
        10,
        "px",
        "Objects whose masks come this close may occlude each other; depth is compared there.",
        ge=1,
        le=200,
    )
    occlusion_step_m: float = setting(
        0.008, "m", "Step of depth from which one object is in front.", gt=0.0, le=1.0
    )
    occlusion_step: float = setting(
        0.01, "1", "The same, relative to the depth; the larger of both counts.", gt=0.0, le=1.0
    )
    occlusion_share: float = setting(
        0.25, "1", "An object in front along this share of the common border occludes the other.", gt=0.0, le=1.0
    )
    occlusion_pixels: int = setting(
        12, "count", "With fewer pixels of depth at the border the order is unknown.", ge=1, le=10_000
    )


class RefineConfig(Settings):
    """Moving an object, never its shape, to fit depth and mask (`scene.refine`)."""

    iterations: int = setting(8, "count", "Rounds of rendering and solving.", ge=1, le=100)
    size_px: int = setting(
        160, "px", "Longer side of the crop in which the object is rendered in every round.", ge=32, le=4096
    )
    tukey_cutoff: float = setting(
        4.7, "sigma", "Residuals beyond this many robust deviations have no influence.", ge=2.0, le=20.0
    )
    depth_noise: float = setting(
        0.005,
        "1",
        "Smallest standard deviation of depth residuals, relative to depth.",
        gt=0.0,
        le=1.0,
    )
    outline_noise_px: float = setting(
        1.0, "px", "Smallest standard deviation of the mask's border, in pixels of the crop.", gt=0.0, le=50.0
    )
    independent_patches: int = setting(
        40, "count", "Number of independent measurements that depth, and the outline, count as.", ge=1, le=100_000
    )
    translation_std: float = setting(
        0.15, "1", "Expected error of the position, relative to the size of the object.", gt=0.0, le=10.0
    )
    rotation_std_rad: float = setting(0.15, "rad", "Expected error of the rotation.", gt=0.0, le=3.0)
    scale_std: float = setting(0.1, "1", "Expected relative error of the scale.", gt=0.0, le=1.0)
    max_iou_loss: float = setting(
        0.005, "1", "Loss of silhouette IoU from which the refinement is rejected.", ge=0.0, le=1.0
    )
    max_residual_growth: float = setting(
        0.02, "1", "Relative growth of the depth residual from which the refinement is rejected.", ge=0.0, le=1.0
    )
    residual_tolerance_m: float = setting(
        0.0005, "m", "Growth of the depth residual that is never a reason to reject.", ge=0.0, le=0.1
    )


class ShapeFitConfig(Settings):
    """Fitting pose, three axis scales and smooth surface offsets to mask and depth (`scene.shape_fit`)."""

    seed: int = setting(0, "count", "Seed of the random rays; the same seed gives the same fit.", ge=0, le=2**31)
    hypotheses: int = setting(
        2, "count", "Best hypotheses of an object that are fitted, before they are compared again.", ge=1, le=64
    )
    steps: int = setting(
        100, "count", "Steps of Adam on the nine parameters of pose and axis scales.", ge=1, le=10_000
    )
    offset_steps: int = setting(
        60, "count", "Further steps with surface offsets; 0 stops at nine parameters.", ge=0, le=10_000
    )
    window_px: int = setting(
        80, "px", "Longer side of the lattice of pixels that rays are taken from.", ge=16, le=1024
    )
    block_px: int = setting(
        4,
        "px",
        "Side of the lattice's checkerboard blocks; every other one is held out and measures the fit.",
        ge=1,
        le=64,
    )
    rays_per_step: int = setting(900, "count", "Random rays of one step.", ge=64, le=100_000)
    samples_per_ray: int = setting(
        12, "count", "Places along a ray at which the distance is looked up.", ge=4, le=256
    )
    points: int = setting(400, "count", "Measured points that are used at most.", ge=16, le=100_000)
    min_points: int = setting(
        24, "count", "With fewer measured points to fit the depth is not used.", ge=4, le=10_000
    )
    grid_size: int = setting(48, "count", "Nodes per axis of the grid of signed distances.", ge=8, le=256)
    offset_size: int = setting(7, "count", "Nodes per axis of the grid of surface offsets.", ge=2, le=48)
    padding: float = setting(
        0.12, "1", "How far the grids reach beyond the mesh, relative to its longest side.", gt=0.0, le=1.0
    )
    start_softness: float = setting(
        0.04, "1", "Width of the soft silhouette at the start, relative to the object.", gt=0.0, le=1.0
    )
    softness: float = setting(
        0.008, "1", "Width of the soft silhouette at the end, relative to the object.", gt=0.0, le=1.0
    )
    rotation_rate: float = setting(0.012, "rad", "Step size of the rotation.", gt=0.0, le=1.0)
    translation_rate: float = setting(
        0.008, "1", "Step size of the translation, relative to the object.", gt=0.0, le=1.0
    )
    scale_rate: float = setting(0.012, "1", "Step size of the logarithm of the axis scales.", gt=0.0, le=1.0)
    offset_rate: float = setting(
        0.004, "1", "Step size of the surface offsets, relative to the object.", gt=0.0, le=1.0
    )
    silhouette_weight: float = setting(1.5, "1", "Weight of the silhouette in the loss.", ge=0.0, le=100.0)
    depth_weight: float = setting(1.0, "1", "Weight of the measured points in the loss.", ge=0.0, le=100.0)
    free_space_weight: float = setting(
        0.5, "1", "Weight of the space in front of the measured points, which is empty.", ge=0.0, le=100.0
    )
    rotation_weight: float = setting(
        0.02, "1/rad^2", "Weight of the squared angle between the fit and its start.", ge=0.0, le=100.0
    )
    anisotropy_weight: float = setting(
        0.05, "1", "Weight of squared log-scales of the axes around their mean.", ge=0.0, le=100.0
    )
    offset_std: float = setting(
        0.03, "1", "Expected size of the surface offsets, relative to the object.", gt=0.0, le=1.0
    )
    offset_weight: float = setting(
        0.2, "1", "Weight of squared offsets in units of their expected size.", ge=0.0, le=100.0
    )
    smoothness_weight: float = setting(
        20.0, "1", "Weight of squared differences between neighboring offsets.", ge=0.0, le=10_000.0
    )
    max_offset: float = setting(
        0.08, "1", "No offset is larger, relative to the longest side of the object.", gt=0.0, le=0.5
    )
    stiffening: float = setting(
        10.0,
        "1",
        "How much stronger the priors are per share of the observation in doubt: outline beside occluders, mask "
        "whose depth is elsewhere.",
        ge=0.0,
        le=1000.0,
    )
    no_depth_stiffening: float = setting(
        20.0, "1", "How much stronger these priors are without depth.", ge=1.0, le=1000.0
    )
    enough_agreement: float = setting(
        0.9,
        "1",
        "No offsets where nine parameters reach this judged agreement: they would bend the hidden side in vain.",
        ge=-10.0,
        le=1.0,
    )
    max_hidden_outline: float = setting(
        0.3,
        "1",
        "No offsets where a larger share of the mask's outline lies beside an occluder or the image border.",
        ge=0.0,
        le=1.0,
    )
    max_disagreement: float = setting(
        0.15,
        "1",
        "No offsets where depth in a larger share of the mask is not that of the object.",
        ge=0.0,
        le=1.0,
    )
    residual_weight: float = setting(
        2.0,
        "1",
        "Judging: depth residual, as a share of the object's size, against silhouette IoU.",
        ge=0.0,
        le=100.0,
    )
    min_gain: float = setting(
        0.003, "1", "The nine parameters are kept only if the judged agreement gains more.", ge=0.0, le=1.0
    )
    min_offset_gain: float = setting(
        0.02, "1", "The offsets are kept only if they gain more over the nine parameters.", ge=0.0, le=1.0
    )
    max_iou_loss: float = setting(
        0.005, "1", "Loss of silhouette IoU from which a fit is refused.", ge=0.0, le=1.0
    )
    max_residual_growth: float = setting(
        0.005,
        "1",
        "Growth of the depth residual, relative to the object, from which a fit is refused.",
        ge=0.0,
        le=1.0,
    )
    max_resizing: float = setting(
        0.35,
        "1",
        "Change of the logarithm of the scale from which a fit is refused: one view does not support more.",
        gt=0.0,
        le=10.0,
    )


class QualityConfig(Settings):
    """Thresholds between good, doubtful and failed reconstructions (`scene.quality`)."""

    good_iou: float = setting(0.75, "1", "Silhouette IoU below this is doubtful.", ge=0.0, le=1.0)
    failed_iou: float = setting(0.4, "1", "Silhouette IoU below this has failed.", ge=0.0, le=1.0)
    good_psnr_db: float = setting(
        10.0, "dB", "Color PSNR below this is doubtful; light and shade alone cost much of it.", ge=0.0, le=60.0
    )
    good_reprojection: float = setting(
        0.05,
        "1",
        "Reprojection RMS above this share of the object's size in the image is doubtful.",
        gt=0.0,
        le=1.0,
    )
    failed_reprojection: float = setting(
        0.2, "1", "Reprojection RMS above this share of the object's size in the image has failed.", gt=0.0, le=1.0
    )
    good_inliers: float = setting(0.5, "1", "Inlier ratio of the pose below this is doubtful.", ge=0.0, le=1.0)
    failed_inliers: float = setting(0.1, "1", "Inlier ratio of the pose below this has failed.", ge=0.0, le=1.0)
    good_depth: float = setting(
        0.08, "1", "Depth residual above this share of the object's longest side is doubtful.", gt=0.0, le=10.0
    )
    failed_depth: float = setting(
        0.4, "1", "Depth residual above this share of the object's longest side has failed.", gt=0.0, le=10.0
    )

    @model_validator(mode="after")
    def _failed_is_worse_than_doubtful(self) -> QualityConfig:
        better = (
            self.failed_iou <= self.good_iou,
            self.failed_inliers <= self.good_inliers,
            self.failed_reprojection >= self.good_reprojection,
            self.failed_depth >= self.good_depth,
        )
        if not all(better):
            raise ValueError("a 'failed' threshold is stricter than the 'good' one beside it")
        return self
