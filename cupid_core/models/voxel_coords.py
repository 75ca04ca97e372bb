"""Integer voxel coordinates: small cubes of them, one number per cell, and whether they can be indexed at all."""

from __future__ import annotations

import torch
from torch import Tensor

from cupid_core.errors import InvalidTensorError


def cube(side: int, device: torch.device | str) -> Tensor:
    """(side**3, 3) int64 cells of a small cube, x outermost, z fastest."""
    axis = torch.arange(side, device=device)
    return torch.cartesian_prod(axis, axis, axis)


def cell_code(cells: Tensor, side: int) -> Tensor:
    """One number per (item, x, y, z) cell of a grid of `side` cells per axis, ascending: (N, 4) to (N,)."""
    return ((cells[:, 0] * side + cells[:, 1]) * side + cells[:, 2]) * side + cells[:, 3]


def cell_of_code(code: Tensor, side: int) -> Tensor:
    """Undo `cell_code`: (N,) to (N, 4)."""
    parts = [code // side**3, code // side**2 % side, code // side % side, code % side]
    return torch.stack(parts, dim=1)


def check_arguments(coords: Tensor, resolution: int, window: int | None, levels: int) -> None:
    """Check arguments as far as possible without reading the values.

    Raises:
        InvalidTensorError: see `VoxelTopology.build`.
    """
    if coords.dim() != 2 or coords.shape[1] != 4 or coords.is_floating_point() or coords.dtype == torch.bool:
        raise InvalidTensorError(
            f"coords is {tuple(coords.shape)} {coords.dtype}, expected (N, 4) integers (item, x, y, z).",
            hint="Give one row of four integers per voxel.",
        )
    if coords.shape[0] == 0:
        raise InvalidTensorError("There is no voxel.", hint="Check the occupancy before building a topology.")
    if resolution < 1 or levels < 0 or resolution % 2**levels:
        raise InvalidTensorError(
            f"Resolution {resolution} cannot be halved {levels} times.",
            hint="Use a resolution divisible by 2**levels, e.g. 64.",
        )
    if window is not None and window < 1:
        raise InvalidTensorError(f"Window size {window} is below 1.", hint="Use a window of at least one voxel.")


def check_voxels(coords: Tensor, resolution: int, batch_size: int | None) -> int:
    """Check the values of coords (N, 4) int64 and return the batch size; the host waits for the device.

    Raises:
        InvalidTensorError: see `VoxelTopology.build`.
    """
    low, high = coords.amin(0), coords.amax(0)
    code = torch.sort(cell_code(coords, resolution)).values
    repeated = (code[1:] == code[:-1]).sum()
    present = torch.unique(coords[:, 0]).numel()
    *bounds, twice = torch.cat([low, high, repeated[None]]).tolist()
    count = batch_size if batch_size is not None else bounds[4] + 1
    if bounds[0] < 0 or bounds[4] >= count:
        raise InvalidTensorError(
            f"Item numbers reach from {bounds[0]} to {bounds[4]}, expected 0 to {count - 1}.",
            hint="Number the items from zero, or give the right batch_size.",
        )
    if min(bounds[1:4]) < 0 or max(bounds[5:8]) >= resolution:
        raise InvalidTensorError(
            f"Coordinates reach from {min(bounds[1:4])} to {max(bounds[5:8])}, expected 0 to {resolution - 1}.",
            hint="Give the resolution of the grid the voxels come from.",
        )
    if twice:
        raise InvalidTensorError(f"{twice} voxels are there twice.", hint="Remove duplicates (torch.unique).")
    if present != count:
        raise InvalidTensorError(
            f"{count - present} of {count} items have no voxel.", hint="Leave empty items out of the batch."
        )
    return int(count)
