"""Random points on the surface of a mesh."""

from __future__ import annotations

import torch
from torch import Tensor

from cupid_core.errors import InputError
from cupid_core.types import TriangleMesh


def points_on_surface(mesh: TriangleMesh, count: int, seed: int = 0) -> Tensor:
    """Random points (count, 3) on a mesh, evenly by area; the same for the same mesh and seed.

    Raises:
        InputError: the mesh has no area.
    """
    corners = mesh.vertices.double()[mesh.faces]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    total = torch.linalg.cross(first, second).norm(dim=1).cumsum(0)
    if not len(total) or not float(total[-1]) > 0:
        raise InputError("A mesh without area has no surface.", hint="Leave it out.")
    draw = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(total)
    face = torch.searchsorted(total, draw[:, 0] * total[-1]).clamp(max=len(total) - 1)
    # The square root spreads points evenly over a triangle instead of concentrating them in one corner.
    root, along = draw[:, 1:2].sqrt(), draw[:, 2:]
    points = corners[face, 0] + first[face] * (root * (1 - along)) + second[face] * (root * along)
    return points.to(mesh.vertices.dtype)
