"""The pose of an object as soon as stage 1 is done, in metres where that is possible without a mesh.

Knows voxels, poses and depth, no networks. What it tells is for those who wait; the result is made without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cupid_core.config import CupidConfig
from cupid_core.errors import CupidError, InvalidDepthError, PlacementError
from cupid_core.geometry.grid import box_of
from cupid_core.mesh.voxel_boxes import voxel_boxes
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.reconstruct.frame import Frame
from cupid_core.reconstruct.judge import judge
from cupid_core.reconstruct.progress import ObjectPose
from cupid_core.reconstruct.steps import Draw, Item
from cupid_core.reconstruct.view import ObjectView
from cupid_core.scene.place import Placement, place_up_to_scale, place_with_depth, place_with_size
from cupid_core.types import DepthMap

PoseOf = Callable[[Draw], ObjectPose]
"""What is told of a draw whose pose belongs to the camera of the whole image."""

# The surface may be anywhere in the outermost voxel: half of it is the deviation that is added.
_SURFACE_STD_VOXELS = 0.5


def first_draws(items: Sequence[Item], views: Sequence[ObjectView], config: CupidConfig) -> list[Draw]:
    """Of each view the draw whose voxels agree best with the image; none of a view where no draw has a pose.

    Args:
        items: with their poses, those of a view adjacent.
        views: what they were drawn for.
        config: of the comparison.

    Returns:
        Draws in the order of the views; their poses have the camera of the whole image.
    """
    chosen: list[Draw] = []
    for row, view in enumerate(views):
        draws = [item for item in items if isinstance(item, Draw) and item.view == row and item.pose is not None]
        if draws:
            best = draws[0] if len(draws) == 1 else max(draws, key=lambda d: judge(d, None, view, config).score)
            assert best.pose is not None
            camera = view.crop.uncrop_camera(best.pose.camera)
            chosen.append(replace(best, pose=replace(best.pose, camera=camera)))
    return chosen


def pose_up_to_scale(draw: Draw, id_: int) -> ObjectPose:
    """The pose of a draw in canonical units, and said so."""
    assert draw.pose is not None
    return _told(id_, place_up_to_scale(draw.pose))


def pose_in_frame(frame: Frame, draw: Draw, id_: int, config: CupidConfig) -> ObjectPose:
    """The pose of a draw in metres where depth or a known size gives them, else up to scale and said so.

    The voxels stand for the mesh that is not there yet; what they are coarser is in the covariance.

    Args:
        frame: image, labels, camera, depth, sizes.
        draw: its pose belongs to the camera of the whole image.
        id_: which object of the frame.
        config: of the placement.
    """
    assert draw.pose is not None
    try:
        return _told(id_, _placement(frame, draw, id_, config) or place_up_to_scale(draw.pose))
    except CupidError:  # the placement of the mesh meets it again, and tells it
        return pose_up_to_scale(draw, id_)


def _placement(frame: Frame, draw: Draw, id_: int, config: CupidConfig) -> Placement | None:
    """Metric, or None where the frame says nothing about metres."""
    assert draw.pose is not None
    boxes = voxel_boxes(draw.coords.cpu(), draw.resolution)
    surface_std = _SURFACE_STD_VOXELS / draw.resolution  # canonical units
    if frame.depth is not None:
        relative = surface_std / float(draw.pose.T_camera_object.translation.norm())
        with suppress(PlacementError, InvalidDepthError):  # the latter: no depth on the object
            pose, depth, mask = _window(draw.pose, frame.depth, frame.mask(id_))
            return place_with_depth(
                boxes,
                pose,
                replace(depth, scale_std=math.hypot(depth.scale_std, relative)),
                mask,
                camera_known=frame.camera is not None,
                config=config.placement,
                similarity=config.similarity,
            )
    if id_ in frame.sizes_m:
        extent = float((boxes.vertices.amax(dim=0) - boxes.vertices.amin(dim=0)).max())
        size_m = frame.sizes_m[id_]
        return place_with_size(boxes, draw.pose, size_m, size_m * 2 * surface_std / extent)
    return None


def _window(
    pose: PoseEstimate, depth: DepthMap, mask: NDArray[np.bool_]
) -> tuple[PoseEstimate, DepthMap, NDArray[np.bool_]]:
    """The same around the mask alone: nothing else is compared, and fewer pixels are drawn."""
    if depth.camera is not None:  # that of a depth model has its own pixels
        return pose, depth, mask
    box = box_of(mask)
    assert box is not None, "a mask without pixels was refused on reading"
    left, top, right, bottom = box
    rows, columns = slice(top, bottom), slice(left, right)
    camera = pose.camera.crop(left, top, right - left, bottom - top)
    measured = replace(depth, depth_m=depth.depth_m[rows, columns])
    return replace(pose, camera=camera), measured, mask[rows, columns]


def _told(id_: int, placement: Placement) -> ObjectPose:
    T = placement.S_camera_object.rigid()
    return ObjectPose(
        id=id_,
        quat_xyzw=tuple(T.quat_xyzw.tolist()),
        translation=tuple(T.translation.tolist()),
        covariance=tuple(placement.covariance.reshape(-1).tolist()),
        scale=placement.scale,
        scale_source=placement.scale_source,
        scale_std=placement.scale_std,
    )
