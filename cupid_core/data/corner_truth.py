"""True signed distance, color and normal at the corners of the small cubes inside voxels.

A mesh decoder turns every voxel into 4 x 4 x 4 cubes; this is the truth it learns from, wherever that comes from
(analytic objects, scanned meshes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from cupid_core.errors import InvalidTensorError


@dataclass(frozen=True, eq=False)
class CornerTruth:
    """Truth at the corners of the k^3 cubes of N voxels; corners that voxels share are there once.

    Attributes:
        voxels: (N, 4) int64 (object row, x, y, z), as asked for.
        resolution: voxels per axis.
        cubes: k, cubes per voxel and axis.
        place: (N, k + 1, k + 1, k + 1) int64 row of every corner of every voxel, indexed [x, y, z].
        position: (V, 3) canonical coordinates of the corners.
        sdf: (V,) signed distance in canonical units, negative inside.
        color: (V, 3) sRGB albedo of the nearest surface point, in [0, 1].
        normal: (V, 3) unit outward normal there, object frame.
    """

    voxels: Tensor
    resolution: int
    cubes: int
    place: Tensor
    position: Tensor
    sdf: Tensor
    color: Tensor
    normal: Tensor

    def to(self, device: torch.device | str) -> CornerTruth:
        """The same truth on another device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("resolution", "cubes")}
        return replace(self, **{name: value.to(device) for name, value in tensors.items()})

    def lattice(self, per_edge: int) -> Tensor:
        """Rows (N, per_edge^3) of an even lattice of corners in every voxel, x slowest.

        Raises:
            InvalidTensorError: the cubes cannot be divided into `per_edge` - 1 equal steps.
        """
        if per_edge < 2 or self.cubes % (per_edge - 1):
            raise InvalidTensorError(
                f"{self.cubes} cubes per edge have no even lattice of {per_edge} corners.",
                hint="Use 2 corners per edge, or one more than a divisor of the cubes.",
            )
        step = self.cubes // (per_edge - 1)
        return self.place[:, ::step, ::step, ::step].flatten(1)

    def cube_corners(self) -> Tensor:
        """Rows (k^3 N, 8) of the corners of every cube.

        Cubes of a voxel are adjacent, in the order in which halving the voxel again and again leaves them (z
        fastest in each halving); corner j has the offset (j & 1, j >> 1 & 1, j >> 2 & 1).
        """
        low = halved_cubes(self.cubes, self.place.device)
        number = torch.arange(8, device=low.device)
        corner = low[:, None] + torch.stack([number & 1, number >> 1 & 1, number >> 2 & 1], dim=-1)
        side = self.cubes + 1
        table = (corner[..., 0] * side + corner[..., 1]) * side + corner[..., 2]
        return self.place.flatten(1)[:, table.flatten()].reshape(-1, 8)

    def mirrored(self) -> CornerTruth:
        """The truth of the mirror image y -> -y of every object."""
        flip = torch.tensor([1.0, -1.0, 1.0], device=self.position.device)
        voxels = self.voxels.clone()
        voxels[:, 2] = self.resolution - 1 - voxels[:, 2]
        return replace(
            self,
            voxels=voxels,
            place=self.place.flip(2),
            position=self.position * flip,
            normal=self.normal * flip,
        )


@dataclass(frozen=True, eq=False)
class CornerPlaces:
    """The corners of the k^3 cubes of N voxels, each once, before anything is known about them.

    Attributes:
        place: (N, k + 1, k + 1, k + 1) int64 row of every corner of every voxel.
        owner: (V,) object row of the corners, ascending.
        position: (V, 3) canonical coordinates.
    """

    place: Tensor
    owner: Tensor
    position: Tensor


def corner_places(voxels: Tensor, resolution: int, cubes: int) -> CornerPlaces:
    """Where the truth of voxels has to be known.

    Args:
        voxels: (N, 4) int64 (object row, x, y, z).
        resolution: voxels per axis.
        cubes: k, cubes per voxel and axis.
    """
    side = resolution * cubes + 1
    step = torch.arange(cubes + 1, device=voxels.device)
    inner = torch.cartesian_prod(step, step, step)
    offset = torch.cat([torch.zeros_like(inner[:, :1]), inner], dim=1)
    corner = voxels[:, None] * voxels.new_tensor([1, cubes, cubes, cubes]) + offset
    key = ((corner[..., 0] * side + corner[..., 1]) * side + corner[..., 2]) * side + corner[..., 3]
    keys, place = torch.unique(key, return_inverse=True)
    owner = torch.div(keys, side**3, rounding_mode="floor")
    cell = torch.stack([keys // side**2 % side, keys // side % side, keys % side], dim=-1)
    return CornerPlaces(place.reshape(-1, *(cubes + 1,) * 3), owner, cell / (side - 1) - 0.5)


def joined_truth(parts: Sequence[CornerTruth]) -> CornerTruth:
    """Several truths as one, their objects numbered on: part k's row 0 comes after the last row of part k - 1.

    Raises:
        InvalidTensorError: none are given, or they differ in resolution or cubes.
    """
    if len({(part.resolution, part.cubes) for part in parts}) != 1:
        raise InvalidTensorError(
            f"{len(parts)} truths of different grids cannot be joined.",
            hint="Use one resolution and one number of cubes.",
        )
    rows = corners = 0
    voxels, place = [], []
    for part in parts:
        voxels.append(part.voxels + part.voxels.new_tensor([rows, 0, 0, 0]))
        place.append(part.place + corners)
        rows += int(part.voxels[:, 0].max()) + 1 if len(part.voxels) else 1
        corners += len(part.position)
    values = {
        name: torch.cat([getattr(part, name) for part in parts]) for name in ("position", "sdf", "color", "normal")
    }
    return CornerTruth(torch.cat(voxels), parts[0].resolution, parts[0].cubes, torch.cat(place), **values)


def halved_cubes(cubes: int, device: torch.device | str = "cpu") -> Tensor:
    """Lowest corners (cubes^3, 3) int64 of the cubes of a voxel, in the order of repeated halving.

    Raises:
        InvalidTensorError: `cubes` is not a power of two.
    """
    if cubes < 1 or cubes & (cubes - 1):
        raise InvalidTensorError(f"{cubes} cubes are no repeated halves.", hint="Use a power of two.")
    half = torch.arange(2, device=device)
    child = torch.cartesian_prod(half, half, half)
    low = torch.zeros(1, 3, dtype=torch.int64, device=device)
    while cubes > 1:
        low = (2 * low[:, None] + child).flatten(0, 1)
        cubes //= 2
    return low
