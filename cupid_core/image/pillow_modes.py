"""Numbers of a picture of any mode of Pillow; a palette image is read as what the caller wants from it."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cupid_core.errors import InvalidImageError

HALF_OF_WHITE = 127
# What a palette image is read as: its colors, the numbers of its colors, or the mask of one object.
Palette: TypeAlias = Literal["colors", "indices", "mask"]


def pillow_pixels(image: Image.Image, palette: Palette) -> NDArray[Any]:
    """Numbers of a picture: (H, W) or (H, W, C); bool of one bit per pixel.

    Args:
        image: of any mode of Pillow.
        palette: what a palette image is read as.

    Raises:
        InvalidImageError: a palette image with several objects is read as a mask.
    """
    if image.mode == "P" and palette == "indices":
        return _label_indices(image)
    if image.mode == "P":
        if "transparency" in image.info:
            rgba = np.asarray(image.convert("RGBA"))
            if palette == "colors" or int(rgba[..., 3].min()) < HALF_OF_WHITE:
                return rgba
        return np.asarray(image.convert("RGB")) if palette == "colors" else _palette_mask(image)
    if image.mode in ("PA", "RGBa"):
        image = image.convert("RGBA")
    elif image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "F") and not image.mode.startswith("I;16"):
        image = image.convert("RGB")  # CMYK, YCbCr, Lab, HSV
    pixels = np.asarray(image)
    if image.mode == "1" and palette == "colors":
        return pixels.astype(np.uint8) * np.uint8(255)
    if image.mode == "I" and int(pixels.min()) >= 0 and int(pixels.max()) < 2**16:
        return pixels.astype(np.uint16)
    return pixels


def _label_indices(image: Image.Image) -> NDArray[Any]:
    """Indices of a palette image; of one in black and white that begins with white, where it is white."""
    indices = np.asarray(image)
    colors = _palette(image)[np.unique(indices)]
    if {tuple(color) for color in colors.tolist()} == {(0, 0, 0), (255, 255, 255)} and indices.min() == 0:
        white = _palette(image)[indices][..., 0] > 0
        return white if bool(white[indices == 0].all()) else indices
    return indices


def _palette_mask(image: Image.Image) -> NDArray[Any]:
    """Grays of a gray palette, else which pixels have another index than the background."""
    indices, table = np.asarray(image), _palette(image)
    used = np.unique(indices)
    if int(np.ptp(table[used].astype(np.int32), axis=1).max()) == 0:
        grays: NDArray[Any] = table[indices][..., 1]
        return grays
    black = used[~table[used].any(axis=1)]
    background = black if len(black) else used[used == 0]
    objects = sorted(set(used.tolist()) - set(background.tolist()))
    if len(objects) > 1:
        raise InvalidImageError(
            f"The palette image has several colors beside the background: those with the numbers {objects[:8]}.",
            hint="Give the mask of one object, or give it as a label image.",
        )
    return np.isin(indices, background, invert=True)


def _palette(image: Image.Image) -> NDArray[np.uint8]:
    """(256, 3) colors; black where the file states none."""
    table = np.zeros((256, 3), dtype=np.uint8)
    stored = np.asarray(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    table[: len(stored)] = stored
    return table
