"""Figures of predicted structures against their truth; knows grids, image positions, cameras as tensors."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.config import PoseConfig
from cupid_core.data.tabletop import SymmetryGroup, elements
from cupid_core.errors import PoseError
from cupid_core.geometry.camera import Camera
from cupid_core.pose import solve_pose
from cupid_core.training.structure_batch import StructureTruth, voxel_centres


def occupancy_iou(predicted: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union (B,) of bool grids (B, ...); 1 where both are empty."""
    both = (predicted & truth).flatten(1).sum(1)
    either = (predicted | truth).flatten(1).sum(1)
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both, dtype=torch.float32))


def occupancy_f1(predicted: Tensor, truth: Tensor) -> Tensor:
    """F1 (B,) of bool grids (B, R, R, R) where a voxel counts as right up to one voxel away."""
    near_truth, near_predicted = _dilated(truth), _dilated(predicted)
    precision = (predicted & near_truth).flatten(1).sum(1) / predicted.flatten(1).sum(1).clamp(min=1)
    recall = (truth & near_predicted).flatten(1).sum(1) / truth.flatten(1).sum(1).clamp(min=1)
    return 2 * precision * recall / (precision + recall).clamp(min=1e-9)


def uv_error_px(predicted: Tensor, truth: Tensor, voxels: Tensor, size: int) -> Tensor:
    """Median distance (B,) in pixels of image positions (B, 2, R, R, R) at voxels (B, R, R, R); NaN for none."""
    distance = (predicted - truth).norm(dim=1) * size
    return torch.where(voxels, distance, torch.nan).flatten(1).nanmedian(dim=1).values


def rotation_error_deg(T_true: Tensor, T_estimated: Tensor, symmetry: Tensor, steps: int = 72) -> float:
    """Angle between two rotations, the least over the symmetries of the object.

    Args:
        T_true: (4, 4).
        T_estimated: (4, 4).
        symmetry: (3,) row of `SymmetryGroup`.
        steps: rotations that stand for a continuous symmetry.
    """
    fold, mirror, flip = (int(value) for value in symmetry)
    group = elements(SymmetryGroup(fold, bool(mirror), bool(flip)), steps).to(T_true)
    relative = (T_estimated[:3, :3].T @ T_true[:3, :3] @ group[..., :3, :3]).diagonal(dim1=-2, dim2=-1).sum(-1)
    return math.degrees(float(torch.arccos(((relative - 1) / 2).clamp(-1, 1)).min()))


def pose_errors_deg(occupied: Tensor, uv: Tensor, truth: StructureTruth, size: int) -> Tensor:
    """Rotation errors (B,) of the poses with known camera; 180 where there is no pose.

    Args:
        occupied: (B, R, R, R) bool, predicted.
        uv: (B, 2, R, R, R) predicted image positions.
        truth: cameras and symmetries.
        size: edge of the image in pixels.
    """
    centres = voxel_centres(occupied.shape[-1])
    errors = []
    for item in range(len(occupied)):
        camera = Camera.from_normalised(truth.intrinsics[item].double(), size, size)
        try:
            estimate = solve_pose(
                centres[occupied[item]].double(),
                uv[item].permute(1, 2, 3, 0)[occupied[item]].double(),
                camera=camera,
                config=PoseConfig(max_noise=0.5),
            )
        except PoseError:
            errors.append(180.0)
            continue
        estimated = estimate.T_camera_object.matrix()
        errors.append(rotation_error_deg(truth.T_camera_object[item].double(), estimated, truth.symmetry[item]))
    return torch.tensor(errors)


def _dilated(grid: Tensor) -> Tensor:
    return F.max_pool3d(grid[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
