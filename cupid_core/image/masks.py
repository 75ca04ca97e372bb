"""Masks of detected objects from arrays, opacity, boxes and label images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_core.config import CropConfig
from cupid_core.errors import EmptyMaskError, InvalidImageError

Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]


def mask_from_array(mask: NDArray[Any], height: int, width: int) -> Mask:
    """Read a mask: every non-zero pixel belongs to the object, as in label images.

    Integer masks that reach the white of their type (255, 65535) are images of a mask, with soft or noisy
    borders: they are cut at half of it.

    Args:
        mask: (H, W) or (H, W, 1) bool, integer or floating.
        height: rows of the image it belongs to.
        width: columns of that image.

    Returns:
        (height, width) bool.

    Raises:
        InvalidImageError: another shape or size, NaN or infinity.
        EmptyMaskError: no pixel is selected.
    """
    flat = mask[..., 0] if mask.ndim == 3 and mask.shape[2] == 1 else mask
    _check_size(flat, height, width, "mask")
    if flat.dtype.kind not in "buif" or not np.isfinite(flat).all():
        raise InvalidImageError(
            f"The mask ({flat.dtype}) holds NaN, infinity or no numbers.", hint="Give zero for the background."
        )
    white = int(np.iinfo(flat.dtype).max) if flat.dtype.kind == "u" else None
    is_picture = white is not None and flat.size > 0 and int(flat.max()) == white
    selected: Mask = flat > white // 2 if is_picture and white is not None else flat != 0
    return _not_empty(selected, "The mask selects no pixel.", "Check which detection it belongs to.")


def mask_from_alpha(alpha: NDArray[np.uint8], *, threshold: float | None = None) -> Mask:
    """Read the opacity of an image as the mask of its object.

    Args:
        alpha: (H, W) uint8.
        threshold: opacity from which a pixel belongs to the object; `crop.alpha_threshold` where None.

    Returns:
        (H, W) bool.

    Raises:
        EmptyMaskError: no pixel is opaque enough.
        InvalidImageError: the image is opaque everywhere, so its opacity says nothing about an object.
    """
    limit = CropConfig().alpha_threshold if threshold is None else threshold
    selected: Mask = alpha > limit * 255
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
        InvalidImageError: another size or type, or a negative label.
        EmptyMaskError: background only.
    """
    _check_size(labels, height, width, "label image")
    if labels.dtype.kind not in "bui" or (labels.dtype.kind == "i" and labels.size and int(labels.min()) < 0):
        raise InvalidImageError(
            f"The label image has type {labels.dtype} or negative values.",
            hint="Give whole numbers: 0 for the background, the id of the object elsewhere.",
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
