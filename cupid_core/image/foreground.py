"""Combines an image and a mask into one RGBA image."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cupid_core.errors import EmptyMaskError, InvalidImageError

RgbaImage = npt.NDArray[np.uint8]


def with_mask(image: npt.NDArray[np.uint8], mask: npt.NDArray[Any]) -> RgbaImage:
    """Put a mask into the alpha channel.

    Args:
        image: (H, W, 3) or (H, W, 4) uint8 RGB(A); an alpha that is there is replaced.
        mask: (H, W) bool, integer or floating; every non-zero pixel is the object, as in label images.

    Returns:
        (H, W, 4) uint8, alpha 0 or 255. The colors of the background are kept.

    Raises:
        InvalidImageError: no pixels, wrong shape or type, or image and mask differ in size.
        EmptyMaskError: the mask selects no pixel.
    """
    _check_image(image, channels=(3, 4))
    if mask.ndim != 2 or mask.shape != image.shape[:2]:
        raise InvalidImageError(
            f"The mask is {mask.shape}, the image {image.shape[:2]} (height, width).",
            hint="Give the mask of this image, one value per pixel.",
        )
    if not np.isfinite(mask).all():
        raise InvalidImageError("The mask holds NaN or infinity.", hint="Give zero for the background.")
    alpha = np.where(mask != 0, np.uint8(255), np.uint8(0))
    if not alpha.any():
        raise EmptyMaskError("The mask selects no pixel.", hint="Check which detection it belongs to.")
    return np.concatenate([image[..., :3], alpha[..., None]], axis=2)


def check_rgba(rgba: RgbaImage) -> None:
    """Check that this is an (H, W, 4) uint8 image with pixels.

    Raises:
        InvalidImageError: it is not.
    """
    _check_image(rgba, channels=(4,))


def _check_image(image: npt.NDArray[np.uint8], channels: tuple[int, ...]) -> None:
    if image.ndim != 3 or image.shape[2] not in channels or 0 in image.shape or image.dtype != np.uint8:
        wanted = " or ".join(f"(H, W, {count})" for count in channels)
        raise InvalidImageError(
            f"The image is {image.shape} {image.dtype}, expected {wanted} uint8 with at least one pixel.",
            hint="Convert it to 8 bits per channel in RGB order.",
        )
