"""Pictures for people who watch a training; knows tensors and pixels, not stages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

_GAP_PX = 2


def sheet(rows: Sequence[Sequence[Tensor]], tile: int = 128) -> Image.Image:
    """Arrange tiles.

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
    """Look through a volume (R, R, R) in [0, 1] along an axis: (1, R, R), brighter where it is filled further."""
    seen = volume.float().mean(dim=axis)
    return (seen / seen.max().clamp(min=1e-6)).T.flip(0)[None]
