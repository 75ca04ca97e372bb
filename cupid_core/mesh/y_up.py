"""The one place where y is up: inside `.glb` files. Doing and undoing stand together.

glTF wants x right, y up, z towards the viewer; everywhere else in this package z is up and y points away. The two
differ by a quarter turn about x.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from cupid_core.types import TriangleMesh


def points_to_y_up(points: Tensor) -> Tensor:
    """Points or directions (..., 3), z up, to glTF: (x, y, z) becomes (x, z, -y). Undone by `points_from_y_up`."""
    x, y, z = points.unbind(-1)
    return torch.stack([x, z, -y], dim=-1)


def points_from_y_up(points: Tensor) -> Tensor:
    """Points or directions (..., 3) of glTF to z up: (x, y, z) becomes (x, -z, y). Undone by `points_to_y_up`."""
    x, y, z = points.unbind(-1)
    return torch.stack([x, -z, y], dim=-1)


def mesh_to_y_up(mesh: TriangleMesh) -> TriangleMesh:
    """A mesh as glTF wants it; undone by `mesh_from_y_up`."""
    return _turned(mesh, points_to_y_up)


def mesh_from_y_up(mesh: TriangleMesh) -> TriangleMesh:
    """A mesh of a glTF file with z up; undone by `mesh_to_y_up`."""
    return _turned(mesh, points_from_y_up)


def _turned(mesh: TriangleMesh, turn: Callable[[Tensor], Tensor]) -> TriangleMesh:
    normals = None if mesh.normals is None else turn(mesh.normals)
    return replace(mesh, vertices=turn(mesh.vertices), normals=normals)
