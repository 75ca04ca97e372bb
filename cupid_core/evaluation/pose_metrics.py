"""Pose errors up to the symmetry of the object."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cupid_core.data.tabletop.symmetry import SymmetryGroup, elements

# Samples of a continuous symmetry; 5 degrees apart, so an error is at most 2.5 degrees too high.
CONTINUOUS_STEPS = 72


def group_rotations(symmetry: Tensor, steps: int = CONTINUOUS_STEPS) -> Tensor:
    """Rotations (M, 3, 3) of the object frame that leave the object unchanged.

    Args:
        symmetry: (3,) row of `SymmetryGroup`: fold about z (0 is continuous), mirror, flip.
        steps: samples of a continuous symmetry.
    """
    fold, mirror, flip = (int(value) for value in symmetry)
    return elements(SymmetryGroup(fold, bool(mirror), bool(flip)), steps)


def rotation_angles_deg(R_a: Tensor, R_b: Tensor) -> Tensor:
    """Angle (...) between rotations (..., 3, 3), degrees in [0, 180]."""
    relative = R_a.mT @ R_b
    # The arc cosine of the trace is inaccurate for small angles; sine and cosine together are not.
    skew = relative - relative.mT
    sine = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1).norm(dim=-1)
    cosine = relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1
    return torch.rad2deg(torch.atan2(sine, cosine))


def nearest_true_pose(
    T_true: Tensor, T_estimated: Tensor, symmetry: Tensor, steps: int = CONTINUOUS_STEPS
) -> Tensor:
    """The true pose, among those that are equal by symmetry, with the rotation nearest to an estimate.

    Args:
        T_true: (4, 4) T_camera_object.
        T_estimated: (4, 4).
        symmetry: (3,) row of `SymmetryGroup`.
        steps: samples of a continuous symmetry.

    Returns:
        (4, 4): T_true @ g for the best g of the group.
    """
    group = group_rotations(symmetry, steps).to(T_true)
    every = T_true[:3, :3] @ group
    best = int(rotation_angles_deg(every, T_estimated[:3, :3].to(T_true)).argmin())
    nearest = T_true.clone()
    nearest[:3, :3] = every[best]
    return nearest


def rotation_error_deg(
    T_true: Tensor, T_estimated: Tensor, symmetry: Tensor, steps: int = CONTINUOUS_STEPS
) -> float:
    """Angle between two rotations in degrees, the least over the symmetries of the object.

    Args:
        T_true: (4, 4).
        T_estimated: (4, 4).
        symmetry: (3,) row of `SymmetryGroup`.
        steps: samples of a continuous symmetry.
    """
    nearest = nearest_true_pose(T_true, T_estimated, symmetry, steps)
    return float(rotation_angles_deg(nearest[:3, :3], T_estimated[:3, :3].to(T_true)))


def uv_error_px(predicted: Tensor, truth: Tensor, voxels: Tensor, size: int) -> Tensor:
    """Median distance (B,) in pixels of image positions (B, 2, R, R, R) at voxels (B, R, R, R); NaN for none."""
    distance = (predicted - truth).norm(dim=1) * size
    return torch.where(voxels, distance, torch.nan).flatten(1).nanmedian(dim=1).values


def translation_error(T_true: Tensor, T_estimated: Tensor) -> float:
    """Distance between the object's origins in the camera frame, in the unit of the poses (4, 4)."""
    return float((T_true[:3, 3] - T_estimated[:3, 3].to(T_true)).norm())


def scale_error(true: float, estimated: float) -> float:
    """Relative error of a scale, the same for twice and half: exp|log(estimated / true)| - 1."""
    return math.exp(abs(math.log(estimated / true))) - 1
