"""Masks of detected objects from arrays, opacity, boxes and label images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cupid_core.config import CropConfig
from cupid_core.errors import EmptyMaskError, InvalidImageError
from cupid_core.image.mask_values import is_soft, one_channel, selected_pixels

Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]

# Largest piece of a small object's mask that may be a speck.
_SPECK_PX = 16


def mask_from_array(mask: NDArray[Any], height: int, width: int) -> Mask:
    """Read the mask of one object from numbers, as `mask_values.selected_pixels` understands them.

    Args:
        mask: (H, W), (H, W, 1) or (1, H, W) bool, integer or floating.
        height: rows of the image it belongs to.
        width: columns of that image.

    Returns:
        (height, width) bool.

    Raises:
        InvalidImageError: another shape or size, NaN or infinity, or numbers that allow no single reading.
        EmptyMaskError: no pixel is selected.
    """
    flat = flat_array(mask)
    _check_size(flat, height, width, "mask")
    if flat.dtype.kind not in "buif" or not np.isfinite(flat).all():
        raise InvalidImageError(
            f"The mask ({flat.dtype}) holds NaN, infinity or no numbers.", hint="Give zero for the background."
        )
    return _not_empty(
        selected_pixels(flat) if flat.size else flat != 0,
        "The mask selects no pixel.",
        "Check which detection it belongs to; probabilities count from one half, scores from zero.",
    )


def mask_from_picture(pixels: NDArray[Any], height: int, width: int) -> Mask:
    """Read the mask of one object from a picture: its opacity where that selects something, else its gray values.

    Args:
        pixels: (H, W) or (H, W, C): gray, gray and opacity, RGB or RGBA. Colors are gray up to what lossy
            compression leaves, or one color on black.
        height: rows of the image it belongs to.
        width: columns of that image.

    Returns:
        (height, width) bool.

    Raises:
        InvalidImageError: as `mask_from_array`, or several colors.
        EmptyMaskError: no pixel is selected.
    """
    flat = flat_array(pixels)
    if flat.ndim == 3 and flat.shape[2] in (2, 3, 4) and flat.size:
        _check_size(flat[..., 0], height, width, "mask")
        if flat.shape[2] != 3:
            opacity, flat = flat[..., -1], flat[..., :-1]
            if not _opaque(opacity).all():
                return mask_from_alpha(opacity)
        flat = one_channel(flat) if flat.shape[2] == 3 else flat[..., 0]
    return mask_from_array(flat, height, width)


def mask_from_alpha(alpha: NDArray[Any], *, threshold: float | None = None) -> Mask:
    """Read the opacity of an image as the mask of its object.

    Args:
        alpha: (H, W) whole numbers up to the white of their type, or floating in [0, 1].
        threshold: opacity from which a pixel belongs to the object; `crop.alpha_threshold` where None.

    Returns:
        (H, W) bool.

    Raises:
        EmptyMaskError: no pixel is opaque enough.
        InvalidImageError: the image is opaque everywhere, so its opacity says nothing about an object.
    """
    limit = CropConfig().alpha_threshold if threshold is None else threshold
    selected = _opaque(alpha, limit)
    if alpha.size and selected.all():
        raise InvalidImageError(
            "The image is opaque everywhere: its alpha selects no object.",
            hint="Give a mask, a label image or a box, or cut the object out.",
        )
    return _not_empty(
        selected,
        f"No pixel is more than {100 * limit:g} % opaque.",
        "Give an image whose alpha is the mask of the object.",
    )


def without_specks(mask: Mask) -> Mask:
    """A mask without the specks that lie outside the box of the object, and would decide its crop.

    A speck is a connected piece of less than 1 % of the largest piece, or of at most 16 pixels and 5 %. What an
    occluder cuts off is larger; what lies inside the box of the others stays, because it changes nothing.

    Args:
        mask: (H, W) bool with at least one pixel.

    Returns:
        (H, W) bool, at least its largest piece.
    """
    count, pieces, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = facts[1:, cv2.CC_STAT_AREA]
    largest = int(areas.max())
    is_speck = areas < max(0.01 * largest, min(_SPECK_PX + 1, 0.05 * largest))
    if count <= 2 or not is_speck.any():
        return mask
    lefts, tops = facts[1:, cv2.CC_STAT_LEFT], facts[1:, cv2.CC_STAT_TOP]
    rights, bottoms = lefts + facts[1:, cv2.CC_STAT_WIDTH], tops + facts[1:, cv2.CC_STAT_HEIGHT]
    left, top = lefts[~is_speck].min(), tops[~is_speck].min()
    right, bottom = rights[~is_speck].max(), bottoms[~is_speck].max()
    outside = (lefts < left) | (tops < top) | (rights > right) | (bottoms > bottom)
    dropped = np.concatenate(([False], is_speck & outside))
    cleaned: Mask = mask & ~dropped[pieces]
    return cleaned


def flat_array(values: NDArray[Any]) -> NDArray[Any]:
    """(H, W) of an array that has one channel, (H, W, 1) or (1, H, W); others as they are."""
    if values.ndim == 3 and values.shape[2] == 1:
        return values[..., 0]
    return values[0] if values.ndim == 3 and values.shape[0] == 1 else values


def _opaque(alpha: NDArray[Any], limit: float | None = None) -> Mask:
    threshold = CropConfig().alpha_threshold if limit is None else limit
    white = float(np.iinfo(alpha.dtype).max) if alpha.dtype.kind in "ui" else 1.0
    return np.asarray(alpha > threshold * white, dtype=np.bool_)


def mask_from_box(box: Box, height: int, width: int) -> Mask:
    """Everything inside a box.

    Args:
        box: x0, y0, x1, y1 in pixels; columns x0 up to and without x1, rows y0 up to and without y1. Fractions
            widen it to whole pixels; what lies beyond the image is cut off.
        height: rows of the image.
        width: columns of the image.

    Returns:
        (height, width) bool.

    Raises:
        EmptyMaskError: the box has no pixel inside the image.
    """
    x0, y0, x1, y1 = clip_box(box, height, width)
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def clip_box(box: Box, height: int, width: int) -> tuple[int, int, int, int]:
    """Whole pixels of a box that lie inside the image; arguments and errors as `mask_from_box`."""
    if not all(math.isfinite(value) for value in box):
        raise EmptyMaskError(f"The box {box} is not finite.", hint="Give x0, y0, x1, y1 in pixels.")
    x0, y0 = max(math.floor(box[0]), 0), max(math.floor(box[1]), 0)
    x1, y1 = min(math.ceil(box[2]), width), min(math.ceil(box[3]), height)
    if x0 >= x1 or y0 >= y1:
        raise EmptyMaskError(
            f"The box {box} has no pixel inside the image of {width} x {height}.",
            hint="Give x0, y0, x1, y1 in pixels, x to the right, y down, x0 < x1 and y0 < y1.",
        )
    return x0, y0, x1, y1


def masks_from_labels(labels: NDArray[Any], height: int, width: int) -> dict[int, Mask]:
    """One mask per object of a label image.

    Args:
        labels: (H, W) integer or bool; the value is the id of the object, zero is background.
        height: rows of the image it belongs to.
        width: columns of that image.

    Returns:
        id -> (height, width) bool, ids ascending.

    Raises:
        InvalidImageError: another size or type, a negative label, or values that are no ids (compressed with
            loss, resampled).
        EmptyMaskError: background only.
    """
    labels = flat_array(labels)
    _check_size(labels, height, width, "label image")
    if labels.dtype.kind not in "bui" or (labels.dtype.kind == "i" and labels.size and int(labels.min()) < 0):
        raise InvalidImageError(
            f"The label image has type {labels.dtype} or negative values.",
            hint="Give whole numbers: 0 for the background, the id of the object elsewhere.",
        )
    if is_soft(labels):
        raise InvalidImageError(
            f"The label image has {len(np.unique(labels))} values, most of them only along borders: it was "
            "compressed with loss, resampled or blurred.",
            hint="Write labels as PNG, and resize them by the nearest pixel.",
        )
    ids = [int(value) for value in np.unique(labels) if value != 0]
    if not ids:
        raise EmptyMaskError("The label image holds background only.", hint="Check which image it belongs to.")
    return {number: np.asarray(labels == number, dtype=np.bool_) for number in ids}


def labels_from_masks(masks: Mapping[int, NDArray[Any]], height: int, width: int) -> NDArray[np.int32]:
    """Combine masks into one label image; undoes `masks_from_labels`. Where masks overlap the smaller one wins.

    Args:
        masks: id (1 or higher) -> mask as `mask_from_array` reads it.
        height: rows of the image.
        width: columns of the image.

    Returns:
        (height, width) int32, 0 where there is no object.

    Raises:
        InvalidImageError: as `mask_from_array`, or an id below 1.
        EmptyMaskError: no mask at all, a mask without pixels, or one that lies wholly under others.
    """
    if not masks:
        raise EmptyMaskError("No mask was given.", hint="Give one mask per object.")
    if min(masks) < 1:
        raise InvalidImageError(
            f"Object id {min(masks)} is below 1.", hint="Zero is the background: count from 1."
        )
    read = {number: mask_from_array(mask, height, width) for number, mask in masks.items()}
    labels = np.zeros((height, width), dtype=np.int32)
    # Ties are broken by id, so that the order of the mapping does not matter.
    for number in sorted(read, key=lambda key: (-int(read[key].sum()), key)):
        labels[read[number]] = number
    covered = sorted(set(read) - {int(value) for value in np.unique(labels)})
    if covered:
        raise EmptyMaskError(
            f"The masks of objects {covered} lie wholly under smaller ones.",
            hint="Give every object pixels of its own.",
        )
    return labels


def _check_size(values: NDArray[Any], height: int, width: int, name: str) -> None:
    if values.ndim != 2 or values.shape != (height, width):
        raise InvalidImageError(
            f"The {name} is {values.shape}, the image {(height, width)} (height, width).",
            hint=f"Give the {name} of this image, one value per pixel.",
        )


def _not_empty(mask: Mask, problem: str, hint: str) -> Mask:
    if not mask.any():
        raise EmptyMaskError(problem, hint=hint)
    return mask
