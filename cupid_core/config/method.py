"""Settings of the method itself: samplers, similarity, crop, pose."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from cupid_core.config.base import Settings, setting


class SamplerConfig(Settings):
    """One sampling run of a flow network."""

    steps: int = setting(25, "count", "Number of solver steps from noise to data.", ge=1, le=1000)
    solver: Literal["euler", "heun"] = setting(
        "euler", "choice", "Solver; heun is of second order and calls the network twice per step."
    )
    guidance_strength: float = setting(
        3.0, "1", "Guidance s in (1 + s) conditional - s unconditional; 0 switches it off.", ge=0.0, le=100.0
    )
    guidance_from_t: float = setting(
        0.5, "1", "Lowest flow time with guidance; 0 is data, 1 is noise.", ge=0.0, le=1.0
    )
    guidance_to_t: float = setting(1.0, "1", "Highest flow time with guidance.", ge=0.0, le=1.0)
    rescale_t: float = setting(
        3.0, "1", "Shift of the schedule towards noise; 1 is uniform in time.", gt=0.0, le=100.0
    )

    @model_validator(mode="after")
    def _interval_has_an_inside(self) -> SamplerConfig:
        if self.guidance_from_t > self.guidance_to_t:
            raise ValueError(f"guidance_from_t {self.guidance_from_t} is above guidance_to_t {self.guidance_to_t}")
        return self


class StructureSamplerConfig(SamplerConfig):
    """The sampling run of stage 1 (CUPID's evaluation settings)."""

    guidance_strength: float = setting(
        7.5, "1", "Guidance s in (1 + s) conditional - s unconditional; 0 switches it off.", ge=0.0, le=100.0
    )


class SimilarityConfig(Settings):
    """Robust alignment of two point sets (`geometry.similarity.align_robust`)."""

    hypotheses: int = setting(
        512, "count", "Minimal three-point alignments sampled to find a start.", ge=1, le=100_000
    )
    finest_noise: float = setting(
        0.005,
        "1",
        "Finest noise tried for the start, as a fraction of the size of the target points; doublings follow.",
        gt=0.0,
        le=1.0,
    )
    max_iterations: int = setting(30, "count", "Reweighting rounds after the start.", ge=1, le=1000)
    min_inlier_ratio: float = setting(
        0.1, "1", "Alignments supported by a smaller fraction of the points are refused.", ge=0.0, le=1.0
    )
    seed: int = setting(0, "count", "Seed of the samples, where the caller gives no generator.", ge=0)


class CropConfig(Settings):
    """The square crop around an object that the networks take (`image.crop`)."""

    margin: float = setting(
        1.2, "1", "Side of the square, as a multiple of the longer side of the mask's box.", ge=1.0, le=4.0
    )
    alpha_threshold: float = setting(
        0.8, "1", "Pixels with more opacity than this belong to the object.", ge=0.0, lt=1.0
    )


class PoseConfig(Settings):
    """Object pose from 3D-2D pairs (`pose.solve_pose`). Image fractions are of the longer image side."""

    intrinsics: Literal["fixed", "focal", "prior"] = setting(
        "fixed",
        "choice",
        "What to refine of a given camera: nothing, one focal length, or fx, fy, cx, cy around their values.",
    )
    focal_std: float = setting(
        0.1, "1", "Standard deviation of a given focal length that is refined, relative.", gt=0.0, le=2.0
    )
    principal_point_std: float = setting(
        0.005,
        "image fraction",
        "Standard deviation of a refined principal point; around the image center when no camera is given.",
        gt=0.0,
        le=1.0,
    )
    unknown_principal_point_std: float = setting(
        0.15,
        "image fraction",
        "How far the principal point may be from the center when no camera is given, as in cropped images: for "
        "the covariance, and for pairs that contradict a centered one.",
        gt=0.0,
        le=1.0,
    )
    unknown_focal: float = setting(
        0.85,
        "image fraction",
        "Most likely focal length when no camera is given. Depth cameras have 0.5 to 1.0, phones 0.7 to 0.8.",
        gt=0.05,
        le=50.0,
    )
    unknown_focal_std_log: float = setting(
        0.3, "1", "Standard deviation of the logarithm of that focal length.", gt=0.0, le=5.0
    )
    independent_pairs: int = setting(
        0,
        "count",
        "Number of independent measurements that all pairs together count as when they are weighed against what "
        "is known of the camera; 0 takes every pair as independent.",
        ge=0,
        le=1_000_000,
    )
    image_width_px: int = setting(
        518, "px", "Width of the image that uv refer to when no camera is given.", ge=1, le=100_000
    )
    image_height_px: int = setting(
        518, "px", "Height of the image that uv refer to when no camera is given.", ge=1, le=100_000
    )
    border_margin: float = setting(
        0.5 / 64,
        "1",
        "Pairs with u or v this close to 0 or 1 may be clamped and wait until the pose shows they are inside.",
        ge=0.0,
        lt=0.5,
    )
    tukey_cutoff: float = setting(
        6.0, "sigma", "Residual from which a pair counts as an outlier, in robust deviations.", ge=3.0, le=20.0
    )
    sample_points: int = setting(
        1024,
        "count",
        "Pairs that starts, curvature and noise are computed from; the refinement uses all.",
        ge=64,
        le=100_000,
    )
    hypotheses: int = setting(
        64, "count", "Four-point poses sampled when outliers degrade the ordinary start.", ge=8, le=10_000
    )
    trusted_noise: float = setting(
        0.02, "image fraction", "Robust residual up to which an ordinary start is accepted.", gt=0.0, le=0.5
    )
    max_noise: float = setting(
        0.05, "image fraction", "Robust residual from which the pose fails.", gt=0.0, le=0.5
    )
