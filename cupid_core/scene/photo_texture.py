"""Lays out a texture without unwrapping: a picture for the triangles it shows, a cell for each of the others.

    +---------------------+
    | picture             |   triangles it shows lie where they are in it
    +---------------------+
    | [][][][][][][][][]  |   the others: 2 x 2 texels each, between which colors are linear as between vertices
    +---------------------+

Quicker than an unwrapping and free of its distortion; the price is that the other triangles share no vertex.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from cupid_core.types import Texture

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

_CORNERS = np.array([[0.5, 0.5], [1.5, 0.5], [0.5, 1.5]], np.float32)
_ORDER_BITS = 10


def photo_texture(
    picture: Floats, corner_px: Floats, shown: Mask, corners: Floats, corner_colors: Floats
) -> Texture:
    """A texture of a picture and of the colors at the corners of what it does not show.

    Args:
        picture: (h, w, 3) sRGB in [0, 1].
        corner_px: (F, 3, 2) where the corners of all triangles are in it, pixel centers at integers.
        shown: (F,) triangles that take their color from it.
        corners: (F, 3, 3) positions of the corners; neighbors in space become neighbors in the texture, so that
            smaller versions of it mix only them.
        corner_colors: (F, 3, 3) sRGB in [0, 1].
    """
    height, width = picture.shape[:2]
    rest = np.flatnonzero(~shown)
    side = _power_of_two(len(rest))
    top = height + height % 2  # cells begin at even texels, so that half the size has one texel for each
    size = np.array([max(width, 2 * side), top + 2 * side])
    image = np.zeros((size[1], size[0], 3), np.float32)
    image[:height, :width] = picture
    image[:height, width:], image[height:top] = image[:height, width - 1 : width], image[height - 1 : height]
    uv = (corner_px + 0.5).astype(np.float32)
    order = rest[np.argsort(_space_order(corners[rest].mean(axis=1)), kind="stable")]
    column, row = _curve(np.arange(len(order)))
    left, above = 2 * column, top + 2 * row
    uv[order] = np.stack([left, above], axis=1)[:, None] + _CORNERS
    first, second, third = corner_colors[order].transpose(1, 0, 2)
    image[above, left], image[above, left + 1], image[above + 1, left] = first, second, third
    image[above + 1, left + 1] = second + third - first
    texels = torch.from_numpy((image.clip(0, 1) * 255).round().astype(np.uint8))
    return Texture(torch.from_numpy((uv / size).astype(np.float32)).clamp(0, 1), texels)


def _power_of_two(cells: int) -> int:
    """Least power of two whose square holds so many cells; 0 for none."""
    side = 1 if cells else 0
    while side * side < cells:
        side *= 2
    return side


def _space_order(points: Floats) -> Ints:
    """Position (N,) of points (N, 3) along a curve through space that keeps neighbors together (Morton)."""
    if not len(points):
        return np.zeros(0, np.int64)
    low = points.min(axis=0)
    cell = (points - low) / max(float((points.max(axis=0) - low).max()), 1e-12) * (2**_ORDER_BITS - 1)
    whole, code = cell.astype(np.int64), np.zeros(len(points), np.int64)
    for bit in range(_ORDER_BITS):
        for axis in range(3):
            code |= ((whole[:, axis] >> bit) & 1) << (3 * bit + axis)
    return code


def _curve(index: Ints) -> tuple[Ints, Ints]:
    """Column and row of places along such a curve in the plane."""
    column, row = np.zeros_like(index), np.zeros_like(index)
    for bit in range(_ORDER_BITS + 6):
        column |= ((index >> (2 * bit)) & 1) << bit
        row |= ((index >> (2 * bit + 1)) & 1) << bit
    return column, row
