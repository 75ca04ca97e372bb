"""Voxels as boxes: a mesh for a structure that has no surface yet."""

from __future__ import annotations

import torch
from torch import Tensor

from cupid_core.errors import EmptyMeshError
from cupid_core.types import TriangleMesh

# Corners of a box by the bits of their number (4 x + 2 y + z), and its sides counter-clockwise seen from outside.
_SIDES = (
    (0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1),
    (2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3),
)  # fmt: skip


def voxel_boxes(coords: Tensor, resolution: int) -> TriangleMesh:
    """A box for each voxel; walls between neighbors are kept.

    Args:
        coords: (N, 3) integer voxels.
        resolution: voxels per edge of the canonical cube.

    Returns:
        8 N vertices, 12 N faces, canonical frame, no colors.

    Raises:
        EmptyMeshError: there is no voxel.
    """
    if not len(coords):
        raise EmptyMeshError("There is no voxel to convert.", hint="Check that the structure is not empty.")
    bits = torch.arange(8, device=coords.device)
    corners = torch.stack([bits // 4, bits // 2 % 2, bits % 2], dim=1)
    vertices = (coords[:, None] + corners).float() / resolution - 0.5
    sides = torch.tensor(_SIDES, device=coords.device)
    faces = torch.arange(len(coords), device=coords.device)[:, None, None] * 8 + sides
    return TriangleMesh(vertices.reshape(-1, 3), faces.reshape(-1, 3))
