"""Converts arrays of any image type to 8-bit RGB and, where there is one, an opacity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_core.errors import InvalidImageError

# What rounding in a conversion to floating point may leave above 1.
_ABOVE_ONE = 1e-3
_TWELVE_BITS = 4096


@dataclass(frozen=True, eq=False)
class RgbImage:
    """An image in the form that the method takes.

    Attributes:
        rgb: (H, W, 3) uint8.
        alpha: (H, W) uint8 opacity, or None where the image has none.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None


def to_rgb8(image: NDArray[Any], *, bits: int | None = None) -> RgbImage:
    """Convert an image to 8-bit RGB.

    Gray is repeated over the three channels, opacity is kept apart. Sixteen bits become eight by v / 257 (65535 is
    white), rounded. Cameras with 10 or 12 bits leave the upper bits of 16 empty, which looks like a nearly black
    16-bit image: where no value reaches 4096 the number of bits must be said. Floating images are in [0, 1].

    Args:
        image: (H, W), (H, W, 1) gray, (H, W, 2) gray and opacity, (H, W, 3) RGB or (H, W, 4) RGBA; uint8, uint16
            or floating.
        bits: significant bits of a uint16 image, 9 to 16.

    Raises:
        InvalidImageError: another shape or type, no pixels, NaN or infinity, floats outside [0, 1], or uint16
            with an unknown number of bits.
    """
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 2, 3, 4) or 0 in image.shape:
        raise InvalidImageError(
            f"The image is {image.shape} {image.dtype}, expected (H, W) gray, (H, W, 3) RGB or (H, W, 4) RGBA "
            f"with at least one pixel.",
            hint="Put height first and channels last; give one image, not a batch.",
        )
    pixels = _to_uint8(image.reshape(*image.shape[:2], channels), bits)
    colors = pixels[..., :1] if channels < 3 else pixels[..., :3]
    rgb = np.ascontiguousarray(np.broadcast_to(colors, (*pixels.shape[:2], 3)))
    return RgbImage(rgb, np.ascontiguousarray(pixels[..., -1]) if channels in (2, 4) else None)


def _to_uint8(image: NDArray[Any], bits: int | None) -> NDArray[np.uint8]:
    # Types are compared by name: ROS images may come in the other byte order.
    if image.dtype.name == "uint16":
        return _from_uint16(image, bits)
    if bits is not None:
        raise InvalidImageError(
            f"bits = {bits} was given with an image of type {image.dtype}.", hint="Leave it out: it is for uint16."
        )
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind == "f":
        return _from_floating(image)
    raise InvalidImageError(
        f"The image has type {image.dtype}, expected uint8, uint16 or floating.",
        hint="Convert it to uint8; a mask is not an image.",
    )


def _from_uint16(image: NDArray[Any], bits: int | None) -> NDArray[np.uint8]:
    highest = int(image.max())
    if bits is None and 0 < highest < _TWELVE_BITS:
        raise InvalidImageError(
            f"No value of this uint16 image is above {highest}, so it may hold 10, 12 or 16 bits.",
            hint="Convert it to 8 bits per channel, or scale it so that white is 65535.",
        )
    white = 2 ** (16 if bits is None else bits) - 1
    if not 2**8 < white < 2**16 or highest > white:
        raise InvalidImageError(
            f"The uint16 image reaches {highest}, bits = {bits} allows {white}.", hint="Give bits from 9 to 16."
        )
    # In uint32, exactly rounded: half of white is added before dividing.
    scaled = (image.astype(np.uint32) * 255 + white // 2) // white
    eight: NDArray[np.uint8] = scaled.astype(np.uint8)
    return eight


def _from_floating(image: NDArray[Any]) -> NDArray[np.uint8]:
    if not np.isfinite(image).all():
        raise InvalidImageError(
            f"{int((~np.isfinite(image)).sum())} values of the image are NaN or infinite.",
            hint="Fill the holes, or mask them out, before.",
        )
    lowest, highest = float(image.min()), float(image.max())
    if lowest < -_ABOVE_ONE or highest > 1.0 + _ABOVE_ONE:
        raise InvalidImageError(
            f"The floating image reaches from {lowest:g} to {highest:g}, expected [0, 1].",
            hint="Divide by 255 if it is an 8-bit image in floats, or convert it to uint8.",
        )
    scaled: NDArray[Any] = np.rint(np.clip(image.astype(np.float64), 0.0, 1.0) * 255.0)
    return scaled.astype(np.uint8)
