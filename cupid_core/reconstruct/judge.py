"""How well a draw agrees with the image it was drawn for, and the number that draws are ranked by.

Knows views, meshes and renderings, no networks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cupid_core.config import CupidConfig
from cupid_core.errors import PlacementError
from cupid_core.mesh.voxel_boxes import voxel_boxes
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.reconstruct.results import Hypothesis
from cupid_core.reconstruct.steps import Draw
from cupid_core.reconstruct.view import ObjectView
from cupid_core.render.raycast import render_mesh
from cupid_core.scene.place import Placement, place_with_depth
from cupid_core.scene.quality import measure_quality
from cupid_core.types import Quality, TriangleMesh


def judge(draw: Draw, mesh: TriangleMesh | None, view: ObjectView, config: CupidConfig) -> Hypothesis:
    """Render a draw into its crop and compare.

    Args:
        draw: with its pose.
        mesh: its mesh in the canonical frame; None compares the boxes of its voxels.
        view: what it was drawn for.
        config: size of the rendering, weights of the rank, thresholds of the verdict.
    """
    assert draw.pose is not None
    pose = replace(draw.pose, camera=view.crop.uncrop_camera(draw.pose.camera))
    shown = mesh if mesh is not None else voxel_boxes(draw.coords, draw.resolution)
    placement = _placement(shown, pose, view, config)
    quality = _quality(draw.pose, shown, view, config)
    if placement is not None:
        quality = replace(quality, depth_residual_m=placement.residual_m)
    return Hypothesis(
        mesh=mesh,
        pose=pose,
        coords=draw.coords.cpu(),
        uv=draw.uv.cpu(),
        resolution=draw.resolution,
        crop_camera=draw.pose.camera,
        quality=quality,
        score=_score(quality, shown, placement, view.crop.side, config),
        number=draw.number,
    )


def _quality(pose: PoseEstimate, shown: TriangleMesh, view: ObjectView, config: CupidConfig) -> Quality:
    """Agreement inside the crop, at the size of the settings; reprojection stays in pixels of the image."""
    size = min(config.reconstruct.judge_size, view.crop.side)
    rendering = render_mesh(shown, pose.T_camera_object, pose.camera.resize(size, size))
    rgba = np.array(Image.fromarray(view.crop.rgba).resize((size, size), Image.Resampling.BOX))
    quality = measure_quality(
        rendering,
        rgba[..., 3] > 127,
        rgba[..., :3],
        replace(pose, reprojection_rms_px=pose.reprojection_rms_px * size / view.crop.side),
        hidden=None if view.hidden is None else _shrunk(view.hidden, size),
        config=config.quality,
    )
    return replace(quality, reprojection_rms_px=pose.reprojection_rms_px)


def _shrunk(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    small: NDArray[np.bool_] = (
        np.array(
            Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).resize((size, size), Image.Resampling.BOX)
        )
        > 127
    )
    return small


def _placement(shown: TriangleMesh, pose: PoseEstimate, view: ObjectView, config: CupidConfig) -> Placement | None:
    """Where depth puts the draw; None without depth, or where it puts it nowhere."""
    if view.depth is None:
        return None
    try:
        return place_with_depth(
            shown, pose, view.depth, view.mask, camera_known=view.camera_known, config=config.placement
        )
    except PlacementError:
        return None


def _score(
    quality: Quality, shown: TriangleMesh, placement: Placement | None, side: int, config: CupidConfig
) -> float:
    """Silhouette IoU, less what colors, pixels of the voxels and depth are off by."""
    weights = config.reconstruct
    score = quality.silhouette_iou - weights.reprojection_weight * quality.reprojection_rms_px / side
    if quality.color_psnr_db is not None:
        score -= weights.color_weight * 10 ** (-quality.color_psnr_db / 20)
    if placement is not None and placement.residual_m is not None:
        extent = shown.vertices.amax(dim=0) - shown.vertices.amin(dim=0)
        score -= weights.depth_weight * min(1.0, placement.residual_m / (placement.scale * float(extent.max())))
    return score
