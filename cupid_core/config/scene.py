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
