"""Morphology of masks: outline, erosion, dilation, distance to the border."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def outline(mask: Mask) -> Mask:
    """The pixels (H, W) of a mask that touch, by an edge, a pixel outside it; the image border is not outside."""
    return mask & ~eroded(mask, 1)


def eroded(mask: Mask, pixels: int) -> Mask:
    """A mask (H, W) without the pixels within `pixels` of one outside it; the image border is not outside."""
    if pixels <= 0 or mask.all():
        return mask.copy()
    return np.asarray(_distance(~mask) > pixels) & mask


def dilated(mask: Mask, pixels: int) -> Mask:
    """A mask (H, W) with all pixels whose centers lie within `pixels` of it."""
    if pixels <= 0 or not mask.any():
        return mask.copy()
    return np.asarray(_distance(mask) <= pixels)


def signed_distance(mask: Mask) -> npt.NDArray[np.float32]:
    """Distance (H, W) in pixels from every pixel center to the border of a mask; negative inside.

    The border runs half-way between a pixel inside and its neighbor outside. Infinite where the mask is empty or
    full.
    """
    if mask.all() or not mask.any():
        return np.full(mask.shape, -np.inf if mask.all() else np.inf, np.float32)
    return np.where(mask, 0.5 - _distance(~mask), _distance(mask) - 0.5).astype(np.float32)


def nearest_of(mask: Mask) -> npt.NDArray[np.int64]:
    """For every pixel the row-major number (H, W) of the nearest pixel of a mask that is not empty."""
    source = np.where(mask, np.uint8(0), np.uint8(1))
    _, labels = cv2.distanceTransformWithLabels(
        source, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(int(labels.max()) + 1, np.int64)
    table[labels[mask]] = np.flatnonzero(mask)
    return np.asarray(table[labels])


def _distance(mask: Mask) -> npt.NDArray[np.float32]:
    """Exact distance (H, W) of every pixel to the nearest pixel of a mask."""
    return np.asarray(
        cv2.distanceTransform(np.where(mask, np.uint8(0), np.uint8(1)), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    )
