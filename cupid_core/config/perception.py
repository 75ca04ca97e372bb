"""Settings of masks and depth that are estimated instead of given."""

from __future__ import annotations

from typing import Literal

from cupid_core.config.base import Settings, setting


class SegmenterConfig(Settings):
    """Where masks come from when a box or points are given (`perception.segmenters`)."""

    kind: Literal["grabcut", "sam2"] = setting(
        "grabcut", "choice", "GrabCut needs a box and no weights; sam2 needs the extra and weights."
    )
    grabcut_iterations: int = setting(5, "count", "Rounds of GrabCut.", ge=1, le=50)
    grabcut_side_px: int = setting(
        256, "px", "Longer side to which box and surroundings are scaled for GrabCut.", ge=32, le=2048
    )
    grabcut_context: float = setting(
        0.1,
        "1",
        "Surroundings beyond the slack on every side, as a fraction of the longer side of the box.",
        ge=0.05,
        le=4.0,
    )
    grabcut_slack: float = setting(
        0.05, "1", "How far the object may reach beyond its box, as a fraction of its longer side.", ge=0.0, le=0.5
    )
    min_fill: float = setting(
        0.05, "1", "Masks that fill a smaller fraction of their box count as nothing found.", ge=0.0, lt=1.0
    )
    sam2_weights: str = setting(
        "facebook/sam2.1-hiera-tiny",
        "name",
        "Hub id with its commit (name@<commit>), or path of a .pt file, of SAM 2 or 2.1.",
    )
    sam2_config: str = setting(
        "", "name", "Configuration of a .pt file inside the package sam2; empty takes it from the file's name."
    )
    sam2_side_px: int = setting(
        1024,
        "px",
        "Side of the input image of SAM 2, a multiple of 256; 1024 is what it was trained on.",
        ge=256,
        le=1024,
    )


class DepthConfig(Settings):
    """Where metric depth comes from (`perception.depth`)."""

    kind: Literal["none", "moge"] = setting(
        "none", "choice", "Source of depth where no sensor gave any; moge needs the extra and weights."
    )
    sensor_scale_std: float = setting(
        0.01, "1", "Relative standard deviation of all depths of a sensor together.", ge=0.0, le=1.0
    )
    model_scale_std: float = setting(
        0.1, "1", "Relative standard deviation of all depths of a depth model together; assumed.", ge=0.0, le=1.0
    )
    moge_weights: str = setting(
        "Ruicheng/moge-2-vits-normal",
        "name",
        "Hub id with its commit (name@<commit>), or path of a model.pt, of MoGe-2.",
    )
    moge_resolution_level: int = setting(
        9, "1", "Detail of MoGe's depth; lower is faster and coarser.", ge=0, le=9
    )


class PerceptionConfig(Settings):
    """Masks and depth that are estimated from the image."""

    segmenter: SegmenterConfig = SegmenterConfig()
    depth: DepthConfig = DepthConfig()
