"""Targets of the completion of shapes: the true surface in the cube of a pose, and the pose to correct it to."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cupid_core.evaluation.pose_metrics import nearest_true_pose, rotation_angles_deg
from cupid_core.geometry.sim3 import Sim3
from cupid_core.training.structure_batch import PosedViews

# In a frame that is not their own, objects fill less than the cube: a wrong coarse size shall not cut them off.
_FILLED = 0.96


def completion_targets(views: PosedViews, coarse: Sim3, canonical_within_deg: float) -> tuple[Sim3, Sim3]:
    """The poses that coarse ones are to be corrected to.

    An object whose coarse rotation is far off keeps that rotation: only place and size are corrected. To recognize
    the canonical rotation is not what the completion can do.

    Args:
        views: with true poses; `depth` is zero where the coarse pose did not use it.
        coarse: (B,) S_camera_object.
        canonical_within_deg: up to which error, the least over the symmetries, the target is the canonical pose.

    Returns:
        S_camera_object (B,) of the object's own frame, the nearest by symmetry, and (B,) of the target.
    """
    T = torch.eye(4).repeat(len(coarse.scale), 1, 1)
    T[:, :3, :3], T[:, :3, 3] = views.rotation, views.translation
    estimated = torch.eye(4).repeat(len(coarse.scale), 1, 1)
    estimated[:, :3, :3] = coarse.rotation()
    nearest = torch.stack([nearest_true_pose(*item) for item in zip(T, estimated, views.symmetry, strict=True)])
    # Without depth a view determines no distance: the object is as far away as the coarse pose puts it.
    measured = views.depth.flatten(1).amax(dim=1) > 0
    unit = torch.where(measured, 1.0, coarse.translation[:, 2] / views.translation[:, 2])
    true = Sim3.from_rotation_translation(unit, nearest[:, :3, :3], unit[:, None] * nearest[:, :3, 3])
    own = rotation_angles_deg(true.rotation(), coarse.rotation()) < canonical_within_deg
    kept = _with_rotation(views, true, coarse.quat_xyzw)
    target = Sim3(
        torch.where(own, true.scale, kept.scale),
        torch.where(own[:, None], true.quat_xyzw, kept.quat_xyzw),
        torch.where(own[:, None], true.translation, kept.translation),
    )
    return true, target


def surface_voxels(views: PosedViews, true: Sim3, S_camera_cube: Sim3, resolution: int) -> Tensor:
    """(B, R, R, R) bool: the voxels of cubes that the true surfaces pass through.

    Args:
        views: with the surface voxels of the objects in their own frames.
        true: (B,) from `completion_targets`.
        S_camera_cube: (B,) poses of the cubes.
        resolution: R.
    """
    item, points = _surface(views)
    inside = _moved(points, item, S_camera_cube.inverse() @ _generated(views, true))
    coords = torch.floor((inside + 0.5) * resolution).long()
    kept = ((coords >= 0) & (coords < resolution)).all(dim=1)
    volume = torch.zeros(len(S_camera_cube.scale), *(resolution,) * 3, dtype=torch.bool, device=points.device)
    volume[(item[kept], *coords[kept].unbind(dim=1))] = True
    return volume


def _surface(views: PosedViews) -> tuple[Tensor, Tensor]:
    """Items (N,) and canonical centers (N, 3) of all surface voxels."""
    item, *coords = views.shell.nonzero(as_tuple=True)
    return item, (torch.stack(coords, dim=1) + 0.5) / views.shell.shape[-1] - 0.5


def _moved(points: Tensor, item: Tensor, transforms: Sim3) -> Tensor:
    """Points (N, 3) by the transform of their item."""
    matrices = transforms.matrix()[item]
    moved: Tensor = (matrices[:, :3, :3] @ points[:, :, None])[..., 0] + matrices[:, :3, 3]
    return moved


def _generated(views: PosedViews, true: Sim3) -> Sim3:
    """Poses (B,) as the objects were generated; a symmetric pose is equal for the object, not for its voxels."""
    return Sim3.from_rotation_translation(true.scale, views.rotation, true.scale[:, None] * views.translation)


def _with_rotation(views: PosedViews, true: Sim3, quat_xyzw: Tensor) -> Sim3:
    """Poses (B,) of these rotations (B, 4) whose cubes hold the objects as the canonical cube does."""
    count = len(quat_xyzw)
    turn = Sim3(torch.ones_like(true.scale), quat_xyzw, torch.zeros_like(true.translation))
    item, points = _surface(views)
    turned = _moved(points, item, turn.inverse() @ _generated(views, true))
    index = item[:, None].expand(-1, 3)
    low = turned.new_full((count, 3), math.inf).scatter_reduce(0, index, turned, "amin")
    high = turned.new_full((count, 3), -math.inf).scatter_reduce(0, index, turned, "amax")
    return Sim3((high - low).amax(dim=1) / _FILLED, quat_xyzw, turn.apply((low + high) / 2))
