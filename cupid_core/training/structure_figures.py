"""Poses of predicted structures against their truth; knows grids, image positions, cameras as tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from cupid_core.config import PoseConfig
from cupid_core.errors import PoseError
from cupid_core.evaluation.pose_metrics import rotation_error_deg
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.grid import all_voxel_centers
from cupid_core.pose import solve_pose
from cupid_core.training.structure_batch import StructureTruth


def pose_errors_deg(occupied: Tensor, uv: Tensor, truth: StructureTruth, size: int) -> Tensor:
    """Rotation errors (B,) of the poses with known camera; 180 where there is no pose.

    Args:
        occupied: (B, R, R, R) bool, predicted.
        uv: (B, 2, R, R, R) predicted image positions.
        truth: cameras and symmetries.
        size: edge of the image in pixels.
    """
    centers = all_voxel_centers(occupied.shape[-1])
    errors = []
    for item in range(len(occupied)):
        camera = Camera.from_normalized(truth.intrinsics[item].double(), size, size)
        try:
            estimate = solve_pose(
                centers[occupied[item]].double(),
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
