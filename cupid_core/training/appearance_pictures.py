"""Pictures of meshes for people who watch a training: dense points, splatted, so no renderer is needed.

Knows meshes, not networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cupid_core.types import TriangleMesh

_AZIMUTH, _ELEVATION = math.radians(-55.0), math.radians(25.0)
# The cube's diagonal fits into the picture.
_SPAN = 1.5
_BACKGROUND = 0.12
_AMBIENT = 0.55


def mesh_sheet(rows: Sequence[Sequence[TriangleMesh | None]], edge: int = 128) -> Image.Image:
    """A grid of pictures, one row of meshes per row; None leaves its place empty.

    Args:
        rows: equally long.
        edge: of a picture, pixels.
    """
    sheet = np.full((len(rows) * edge, max(len(row) for row in rows) * edge, 3), _BACKGROUND, np.float32)
    for i, row in enumerate(rows):
        for j, mesh in enumerate(row):
            if mesh is not None:
                sheet[i * edge : (i + 1) * edge, j * edge : (j + 1) * edge] = splat(mesh, edge).cpu().numpy()
    return Image.fromarray((sheet * 255).round().clip(0, 255).astype(np.uint8))


def splat(mesh: TriangleMesh, edge: int) -> Tensor:
    """Orthographic picture (edge, edge, 3) in [0, 1] of the vertices, nearest in front; z is up.

    Vertices must lie closer than a pixel to each other, as those of a fine extraction do.
    """
    right = mesh.vertices.new_tensor([-math.sin(_AZIMUTH), math.cos(_AZIMUTH), 0.0])
    level = mesh.vertices.new_tensor([math.cos(_AZIMUTH), math.sin(_AZIMUTH), 0.0])
    upward = mesh.vertices.new_tensor([0.0, 0.0, 1.0])
    towards = level * math.cos(_ELEVATION) + upward * math.sin(_ELEVATION)
    up = upward * math.cos(_ELEVATION) - level * math.sin(_ELEVATION)
    column = ((mesh.vertices @ right / _SPAN + 0.5) * edge).long().clamp(0, edge - 1)
    row = ((0.5 - mesh.vertices @ up / _SPAN) * edge).long().clamp(0, edge - 1)
    place, height = row * edge + column, mesh.vertices @ towards
    nearest = height.new_full((edge * edge,), -math.inf).scatter_reduce(0, place, height, reduce="amax")
    front = height >= nearest[place]
    colors = torch.full_like(mesh.vertices, 0.7) if mesh.colors is None else mesh.colors
    if mesh.normals is not None:
        facing = (mesh.normals @ towards).clamp(0, 1)
        colors = colors * (_AMBIENT + (1 - _AMBIENT) * facing)[:, None]
    picture = mesh.vertices.new_full((edge * edge, 3), _BACKGROUND)
    picture[place[front]] = colors[front]
    return picture.view(edge, edge, 3)
