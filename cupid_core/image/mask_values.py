"""What the numbers of a mask mean: two values, soft borders, probabilities, scores below and above zero.

Knows arrays, not files. Where the numbers allow two readings, they are refused rather than guessed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_core.errors import InvalidImageError

_WHITES = (255.0, 65535.0)
# What resampling with a filter that overshoots (bicubic, Lanczos) adds above white and below black.
_OVERSHOOT = 0.25
# More values than this that nowhere cover 3 x 3 pixels are the steps of a soft border, not thin objects.
_THIN_VALUES = 8
# Of white: how far the channels of a gray picture may differ after lossy compression.
_GRAY_TOLERANCE = 1 / 8


def selected_pixels(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels of the object in the mask of one object.

    Two values, one of them zero: the other is the object, whatever it is (1, 7, 254, 255, True). More values:

    * floating in [0, 1]: probabilities, cut at one half;
    * reaching the upper half of 255 or 65535: a picture with soft or noisy borders, cut at half of that white;
    * one negative value: the background, as -1 often is;
    * many negative values: scores before a sigmoid, cut at zero.

    Args:
        values: (H, W) bool, integer or floating, finite.

    Returns:
        (H, W) bool; may be empty.

    Raises:
        InvalidImageError: the numbers allow no single reading: several objects, or scores of an unknown scale.
    """
    if values.dtype.kind == "b":
        return np.asarray(values, dtype=np.bool_)
    levels = np.unique(values)
    negative = levels[levels < 0]
    if len(negative) > 1 and not _overshoots(levels):
        return np.asarray(values > 0, dtype=np.bool_)
    if len(negative) == 1 and not _overshoots(levels):
        values = np.where(values < 0, 0, values)
        levels = np.unique(values)
    if len(levels) <= 2 and (levels[0] == 0 or (len(levels) == 1 and values.dtype.kind != "f")):
        return np.asarray(values != 0, dtype=np.bool_)
    highest = float(levels[-1])
    if values.dtype.kind == "f" and highest <= 1 + _OVERSHOOT:
        return np.asarray(values > 0.5, dtype=np.bool_)
    white = next((white for white in _WHITES if white / 2 < highest <= white * (1 + _OVERSHOOT)), None)
    if white is None or (
        levels[0] >= 0 and len(levels) > 2 and not is_soft(values) and _has_areas_between(values)
    ):
        raise _ambiguous(levels)
    return np.asarray(values > white / 2, dtype=np.bool_)


def is_soft(values: NDArray[Any]) -> bool:
    """Whether most values are steps of a border: they nowhere cover 3 x 3 pixels, as ids of objects do."""
    levels = np.unique(values)
    thin = len(levels) - len(_values_with_area(values))
    return thin > _THIN_VALUES and 2 * thin > len(levels)


def one_channel(colors: NDArray[Any]) -> NDArray[Any]:
    """The single channel of a mask or label image that was written in colors.

    Args:
        colors: (H, W, 3). Gray up to what lossy compression leaves; or one color on black.

    Returns:
        (H, W) numbers of the same type; bool of one color on black.

    Raises:
        InvalidImageError: several colors.
    """
    white = float(np.iinfo(colors.dtype).max) if colors.dtype.kind in "ui" else max(1.0, float(colors.max()))
    if float(np.ptp(colors.astype(np.float32), axis=2).max()) <= _GRAY_TOLERANCE * white:
        return colors[..., 1]
    lit = np.asarray(colors.any(axis=2), dtype=np.bool_)
    if not lit.all() and bool((colors[lit] == colors[lit][0]).all()):
        return lit
    raise InvalidImageError(
        "The mask has several colors, and no opacity that selects an object.",
        hint="Give a gray picture: white where the object is, black elsewhere.",
    )


def _overshoots(levels: NDArray[Any]) -> bool:
    """Whether the values below zero are those of a filter, on a mask from 0 to 1 or from 0 to white."""
    lowest, highest = float(levels[0]), float(levels[-1])
    white = next((white for white in (1.0, *_WHITES) if white / 2 < highest <= white * (1 + _OVERSHOOT)), None)
    return white is not None and levels.dtype.kind == "f" and -_OVERSHOOT * white <= lowest < 0


def _values_with_area(values: NDArray[Any]) -> NDArray[Any]:
    """The values that cover 3 x 3 pixels somewhere."""
    inside = values[1:-1, 1:-1]
    if not inside.size:
        return inside.ravel()
    height, width = values.shape
    flat = np.ones(inside.shape, dtype=np.bool_)
    for row in range(3):
        for column in range(3):
            flat &= values[row : height - 2 + row, column : width - 2 + column] == inside
    return np.unique(inside[flat])


def _has_areas_between(values: NDArray[Any]) -> bool:
    areas = _values_with_area(values)
    return bool(((areas > values.min()) & (areas < values.max())).any())


def _ambiguous(levels: NDArray[Any]) -> InvalidImageError:
    some = ", ".join(f"{value:g}" for value in levels[:4].tolist())
    more = f", ... {levels[-1]:g}" if len(levels) > 4 else ""
    return InvalidImageError(
        f"The mask has {len(levels)} values ({some}{more}), so it does not say what belongs to the object.",
        hint="Give 0 and 255, or probabilities from 0 to 1; an image with the ids of several objects is a label "
        "image.",
    )
