"""Picture sheets that show how a training is doing, made from tensors and from meshes.

Meshes are dense points that are splatted, so no renderer is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from cupid_core.types import TriangleMesh

_GAP_PX = 2
_AZIMUTH, _ELEVATION = math.radians(-55.0), math.radians(25.0)
# The cube's diagonal fits into the picture.
_SPAN = 1.5
_BACKGROUND = 0.12
_AMBIENT = 0.55


def sheet(rows: Sequence[Sequence[Tensor]], tile: int = 128) -> Image.Image:
    """Arrange tiles in a grid.

    Args:
        rows: of (3, h, w) or (1, h, w) in [0, 1]; every row as long as the first.
        tile: edge of a tile in pixels.
    """
    lines = []
    for row in rows:
        tiles = [F.interpolate(t[None].float().cpu().expand(1, 3, -1, -1), size=(tile, tile))[0] for t in row]
        lines.append(torch.cat([F.pad(t, (0, _GAP_PX, 0, _GAP_PX), value=0.5) for t in tiles], dim=2))
    picture = torch.cat(lines, dim=1).clamp(0, 1)
    return Image.fromarray((picture.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())


def scatter(uv: Tensor, colors: Tensor, size: int = 128) -> Tensor:
    """Draw points (N, 2) in [0, 1] with colors (N, 3) on black: (3, size, size); later points cover earlier."""
    picture = torch.zeros(size, size, 3)
    column, row = (uv.cpu() * size).long().clamp(0, size - 1).unbind(-1)
    picture[row, column] = colors.cpu().float()
    return picture.permute(2, 0, 1)


def side_view(volume: Tensor, axis: int) -> Tensor:
    """Projection (1, R, R) of a volume (R, R, R) in [0, 1] along an axis, brighter where more of it is filled."""
    projection = volume.float().mean(dim=axis)
    return (projection / projection.max().clamp(min=1e-6)).T.flip(0)[None]


def mesh_sheet(rows: Sequence[Sequence[TriangleMesh | None]], edge: int = 128) -> Image.Image:
    """A grid of images, one row of meshes per row; None leaves its tile empty.

    Args:
        rows: equally long.
        edge: of a tile, pixels.
    """
    sheet = np.full((len(rows) * edge, max(len(row) for row in rows) * edge, 3), _BACKGROUND, np.float32)
    for i, row in enumerate(rows):
        for j, mesh in enumerate(row):
            if mesh is not None:
                sheet[i * edge : (i + 1) * edge, j * edge : (j + 1) * edge] = splat(mesh, edge).cpu().numpy()
    return Image.fromarray((sheet * 255).round().clip(0, 255).astype(np.uint8))


def splat(mesh: TriangleMesh, edge: int) -> Tensor:
    """Orthographic image (edge, edge, 3) in [0, 1] of the vertices, nearest in front; z is up.

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
