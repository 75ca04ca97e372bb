"""The two discrete grids of the method: where a voxel is in the canonical cube, which pixels a mask covers."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Mask = npt.NDArray[np.bool_]
PixelBox = tuple[int, int, int, int]
_Coords = TypeVar("_Coords", Tensor, npt.NDArray[Any])


def voxel_centers(coords: _Coords, resolution: int) -> _Coords:
    """Centers of voxels in the canonical cube [-0.5, 0.5]^3.

    Args:
        coords: (..., 3) voxel indices, whole or floating; whole numbers give the default floating type.
        resolution: voxels per edge of the cube.
    """
    return (coords + 0.5) / resolution - 0.5


def all_voxel_centers(resolution: int, device: torch.device | str = "cpu") -> Tensor:
    """Centers (r, r, r, 3) float32 of all voxels of the canonical cube, indexed [x, y, z]."""
    axis = voxel_centers(torch.arange(resolution, device=device), resolution)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)


def box_of(mask: Mask) -> PixelBox | None:
    """Smallest box (x0, y0, x1, y1) around a mask (H, W), far edges excluded; None where the mask is empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
