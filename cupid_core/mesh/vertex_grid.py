"""A regular grid whose vertices are named by integer keys.

Sets of vertices (and of cubes, each named by its lowest corner) are sorted int64 tensors, so memory follows the
number of members, never the volume of the grid, and every result is independent of the order of the input.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cupid_core.mesh.flexicubes_tables import N_CORNERS, corner_offset


@dataclass(frozen=True)
class VertexGrid:
    """A grid of resolution^3 cubes with (resolution + 1)^3 vertices.

    Attributes:
        resolution: cubes per axis; the key of vertex (x, y, z) is (x * n + y) * n + z with n = resolution + 1.
    """

    resolution: int

    @property
    def strides(self) -> tuple[int, int, int]:
        """Difference of keys between neighbors along x, y, z."""
        side = self.resolution + 1
        return side * side, side, 1

    def key(self, coords: Tensor) -> Tensor:
        """Keys (N,) int64 of integer coordinates (N, 3)."""
        x, y, z = coords.long().unbind(-1)
        stride_x, stride_y, stride_z = self.strides
        return x * stride_x + y * stride_y + z * stride_z

    def coordinate(self, keys: Tensor, axis: int) -> Tensor:
        """Coordinate (N,) int64 of vertices along one axis."""
        return torch.div(keys, self.strides[axis], rounding_mode="floor") % (self.resolution + 1)

    def coords(self, keys: Tensor) -> Tensor:
        """Coordinates (N, 3) int64 of vertices."""
        return torch.stack([self.coordinate(keys, axis) for axis in range(3)], dim=-1)

    def corner_shift(self, corner: int) -> int:
        """Difference of keys between corner 0..7 of a cube and the cube's lowest corner."""
        return sum(o * stride for o, stride in zip(corner_offset(corner), self.strides, strict=True))

    def vertices_of(self, cube_keys: Tensor) -> Tensor:
        """All vertices of a set of cubes: sorted keys; built axis by axis, so it never holds 8 keys per cube."""
        vertices = cube_keys
        for stride in reversed(self.strides):
            vertices = unique_keys(torch.cat([vertices, vertices + stride]))
        return vertices


# Corners in the order in which a vertex meets its cubes when the cubes ascend: adding in this order gives the sums
# that a loop over ascending cubes gives, bit for bit.
CORNERS_BY_ASCENDING_CUBE = tuple(sorted(range(N_CORNERS), key=corner_offset, reverse=True))


def unique_keys(keys: Tensor) -> Tensor:
    """The sorted set of int64 keys (N,)."""
    members: Tensor = torch.unique_consecutive(torch.sort(keys).values)
    return members


def lookup(members: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Find keys in a sorted set.

    Args:
        members: (M,) sorted unique keys.
        wanted: (N,) keys.

    Returns:
        (N,) int64 index into `members` (0 where absent) and (N,) bool whether it is there.
    """
    if members.numel() == 0:
        absent = torch.zeros_like(wanted, dtype=torch.bool)
        return torch.zeros_like(wanted), absent
    index = torch.searchsorted(members, wanted).clamp_(max=members.numel() - 1)
    found = members[index] == wanted
    return index.mul_(found), found
