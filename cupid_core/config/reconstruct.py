"""Settings of a reconstruction as a whole."""

from __future__ import annotations

from typing import Literal

from cupid_core.config.base import Settings, setting

RuntimeName = Literal["auto", "torch", "onnx", "tensorrt"]


class ReconstructConfig(Settings):
    """How the steps of the method are put together (`reconstruct`)."""

    samplers: Literal["checkpoint", "settings"] = setting(
        "checkpoint",
        "choice",
        "Take steps, solver and guidance of the samplers from the checkpoint, or from these settings.",
    )
    runtime: RuntimeName = setting(
        "auto",
        "choice",
        "What runs the networks: torch; onnx or tensorrt as `cupid export` and `cupid build` prepared them; auto "
        "takes what is prepared and measured faster than torch.",
    )
    stages_folder: str = setting(
        "", "name", "Folder of exported networks; empty looks in the checkpoint's folder and in the user's cache."
    )
    batch: int = setting(
        8, "count", "Hypotheses, of all objects together, that go through the networks at once.", ge=1, le=256
    )
    rank_by: Literal["mesh", "voxels"] = setting(
        "mesh",
        "choice",
        "What of the hypotheses is compared with the image: their meshes, or the boxes of their voxels, after "
        "which only the best one is decoded; quicker, and a little worse.",
    )
    complete_shapes: bool = setting(
        True,
        "switch",
        "Complete the shape of the first hypothesis in one pass, where the checkpoint has the networks for it.",
    )
    try_turns: bool = setting(
        True,
        "switch",
        "Look at each crop also turned by 90, 180 and 270 degrees, and complete the shape in the turn that the "
        "network is surest of; with known gravity only the upright one is looked at.",
    )
    pose_corrections: int = setting(
        2, "count", "How often the completion of the shape corrects the coarse pose and looks again.", ge=0, le=8
    )
    color: Literal["auto", "photo", "generated"] = setting(
        "auto",
        "choice",
        "Color of placed objects: from the photograph where it shows them, elsewhere generated and shifted to "
        "meet it; or all of it generated, without the light of the photograph; auto does what the checkpoint says "
        "(`color` in its pipeline.json), generated where it says nothing.",
    )
    border_occludes: bool = setting(
        True, "switch", "Mark the outside of the image as occluded: an object at the border may continue there."
    )
    score_size: int = setting(
        192, "px", "Edge of the rendering that is compared with the image to rank hypotheses.", ge=32, le=2048
    )
    color_weight: float = setting(
        0.5, "1", "Rank: color error (mean absolute, 0 to 1) against silhouette IoU.", ge=0.0, le=10.0
    )
    depth_weight: float = setting(
        1.0,
        "1",
        "Rank: depth residual, as a share of the object's size, against silhouette IoU.",
        ge=0.0,
        le=100.0,
    )
    reprojection_weight: float = setting(
        2.0, "1", "Rank: reprojection error, as a share of the crop, against silhouette IoU.", ge=0.0, le=100.0
    )
