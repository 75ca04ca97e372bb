"""Metrics of images and silhouettes."""

from __future__ import annotations

import math

from torch import Tensor

from cupid_core.errors import InputError

# Squared error below which two images count as equal: 120 dB.
_LEAST_ERROR = 1e-12


def psnr(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio in dB of values in [0, 1]; at most 120."""
    return -10 * math.log10(max(mean_squared_error, _LEAST_ERROR))


def picture_psnr(picture: Tensor, truth: Tensor, where: Tensor | None = None) -> float:
    """PSNR in dB of two images.

    Args:
        picture: (H, W, C) in [0, 1].
        truth: (H, W, C) in [0, 1].
        where: (H, W) bool, pixels that count; None for all.

    Returns:
        At most 120 dB; NaN where no pixel counts.

    Raises:
        InputError: the images differ in shape.
    """
    if picture.shape != truth.shape:
        raise InputError(
            f"Pictures of {tuple(picture.shape)} and {tuple(truth.shape)} cannot be compared.",
            hint="Render with the camera of the true picture.",
        )
    error = (picture.double() - truth.double()).square()
    if where is not None:
        error = error[where]
    return psnr(float(error.mean())) if error.numel() else math.nan


def silhouette_iou(silhouette: Tensor, truth: Tensor) -> float:
    """Intersection over union of bool silhouettes (H, W); 1 where both are empty.

    Raises:
        InputError: they differ in shape.
    """
    if silhouette.shape != truth.shape:
        raise InputError(
            f"Silhouettes of {tuple(silhouette.shape)} and {tuple(truth.shape)} cannot be compared.",
            hint="Render with the camera of the true silhouette.",
        )
    either = int((silhouette | truth).sum())
    return int((silhouette & truth).sum()) / either if either else 1.0
