"""Thickens a set of voxels with a Gaussian."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cupid_core.errors import InvalidTensorError

# 95 % quantile of the chi-square distribution with 3 degrees of freedom: where the Gaussian is cut off.
_CHI2_95 = 7.814728


def dilate_voxels(coords: Tensor, resolution: int, sigma: float, min_weight: float) -> tuple[Tensor, Tensor]:
    """Add the neighbors of each voxel, weighted by their distance.

    Args:
        coords: (N, 3) integer voxels of a grid.
        resolution: voxels per axis; neighbors beyond it are dropped.
        sigma: standard deviation of the Gaussian in voxels, positive.
        min_weight: neighbors with a smaller weight are dropped.

    Returns:
        (M, 3) int64 voxels in ascending order (x-major), each once; (M,) float32 weights, the largest of all
        sources: 1 for the input itself, exp(-d^2 / (2 sigma^2)) at distance d.

    Raises:
        InvalidTensorError: coordinates are not integer (N, 3) within the grid, or sigma is not positive.

    Source: CUPID (arXiv 2510.20776), released data set code; off (sigma 0) in the published training.
    """
    if coords.dim() != 2 or coords.shape[1] != 3 or coords.is_floating_point():
        raise InvalidTensorError(
            f"Voxels are {tuple(coords.shape)} {coords.dtype}, expected (N, 3) integer.",
            hint="Pass integer (x, y, z) without the batch column.",
        )
    if bool(((coords < 0) | (coords >= resolution)).any()) or not sigma > 0:
        raise InvalidTensorError(
            f"Voxels must lie in 0..{resolution - 1} and sigma {sigma:g} must be positive.",
            hint="Check the resolution; leave out the dilation for sigma 0.",
        )
    offsets, weights = _kernel(sigma, min_weight, coords.device)
    moved = coords.long()[:, None] + offsets
    inside = ((moved >= 0) & (moved < resolution)).all(dim=-1)
    strides = torch.tensor([resolution * resolution, resolution, 1], device=coords.device)
    keys, member = torch.unique((moved * strides).sum(dim=-1)[inside], return_inverse=True)
    source_weights = weights.expand(len(coords), -1)[inside]
    largest = torch.zeros(len(keys), device=coords.device).scatter_reduce_(
        0, member, source_weights, reduce="amax"
    )
    voxels = [torch.div(keys, stride, rounding_mode="floor") % resolution for stride in strides.tolist()]
    return torch.stack(voxels, dim=1), largest


def _kernel(sigma: float, min_weight: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Offsets (K, 3) int64 and weights (K,) float32 of the Gaussian."""
    radius = math.ceil(sigma * math.sqrt(_CHI2_95))
    axis = torch.arange(-radius, radius + 1, device=device)
    offsets = torch.cartesian_prod(axis, axis, axis)
    weights = torch.exp(-offsets.float().square().sum(dim=1) / (2 * sigma**2))
    kept = weights >= min_weight
    return offsets[kept], weights[kept]
