"""Masks from arrays, opacity, boxes and labels: round trips, borders, what is refused."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cupid_core.errors import EmptyMaskError, InvalidImageError
from cupid_core.geometry.grid import box_of
from cupid_core.image.masks import (
    labels_from_masks,
    mask_from_alpha,
    mask_from_array,
    mask_from_box,
    masks_from_labels,
    without_specks,
)

HEIGHT, WIDTH = 7, 9
labels_images = arrays.arrays(np.int32, (HEIGHT, WIDTH), elements=st.integers(0, 3))


@settings(max_examples=60, deadline=None)
@given(labels=labels_images, kind=st.sampled_from([np.uint8, np.uint16, np.int32, np.int64]))
def test_splitting_and_combining_labels_undo_each_other(labels, kind):
    assume(labels.any())
    masks = masks_from_labels(labels.astype(kind), HEIGHT, WIDTH)
    assert list(masks) == sorted(set(labels.ravel().tolist()) - {0})
    np.testing.assert_array_equal(labels_from_masks(masks, HEIGHT, WIDTH), labels)


@settings(max_examples=60, deadline=None)
@given(mask=arrays.arrays(bool, (HEIGHT, WIDTH)))
def test_a_mask_is_the_same_in_every_type(mask):
    assume(mask.any())
    for kind, white in ((np.uint8, 1), (np.uint8, 255), (np.uint16, 65535), (np.float32, 1), (np.int64, 7)):
        np.testing.assert_array_equal(mask_from_array(mask.astype(kind) * kind(white), HEIGHT, WIDTH), mask)
    np.testing.assert_array_equal(mask_from_array(mask[..., None], HEIGHT, WIDTH), mask)


@settings(max_examples=60, deadline=None)
@given(mask=arrays.arrays(bool, (HEIGHT, WIDTH)))
def test_the_box_of_a_mask_is_the_smallest(mask):
    assume(mask.any())
    x0, y0, x1, y1 = box_of(mask)
    filled = mask_from_box((x0, y0, x1, y1), HEIGHT, WIDTH)
    assert not (mask & ~filled).any()
    for side in (mask[y0], mask[y1 - 1], mask[:, x0], mask[:, x1 - 1]):
        assert side.any()


def test_boxes_are_cut_at_the_border_and_widened_to_pixels():
    assert mask_from_box((-5, -5, 100, 100), HEIGHT, WIDTH).all()
    assert box_of(mask_from_box((1.9, 2.0, 3.1, 4.0), HEIGHT, WIDTH)) == (1, 2, 4, 4)


def test_the_soft_border_of_a_mask_image_is_cut_at_half():
    soft = np.array([[0, 3, 127, 128, 255]], dtype=np.uint8)
    np.testing.assert_array_equal(mask_from_array(soft, 1, 5), [[False, False, False, True, True]])


def test_the_smaller_of_two_overlapping_masks_is_on_top():
    large, small = np.ones((4, 4), dtype=bool), np.eye(4, dtype=bool)
    for masks in ({1: large, 2: small}, {2: small, 1: large}):
        np.testing.assert_array_equal(labels_from_masks(masks, 4, 4), np.where(small, 2, 1))


def disc(radius: float, row: int = 60, column: int = 80) -> np.ndarray:
    rows, columns = np.mgrid[:120, :160]
    return np.hypot(rows - row, columns - column) < radius


@pytest.mark.parametrize("radius", [5, 12, 40])
def test_specks_do_not_decide_the_box_of_a_mask(radius):
    clean = disc(radius)
    noisy = clean.copy()
    noisy[2, 3] = noisy[110, 150] = noisy[1, 158] = True
    if radius > 5:
        noisy[100:104, 2:6] = True
    np.testing.assert_array_equal(without_specks(noisy), clean)
    assert without_specks(clean) is clean


def test_parts_and_what_lies_inside_the_box_of_the_object_stay():
    parts = disc(20, column=40) | disc(5, column=120)  # cut in two by an occluder
    inside = disc(40) & ~disc(30)
    inside[60, 80] = True
    thin = np.zeros((120, 160), dtype=bool)
    thin[50, 20:140] = True
    thin[51, 10] = True
    dust = np.zeros((120, 160), dtype=bool)
    dust[::10, ::10] = True
    for mask in (parts, inside, thin, dust):
        expected = mask.copy()
        if mask is thin:
            expected[51, 10] = False
        np.testing.assert_array_equal(without_specks(mask), expected)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: mask_from_array(np.zeros((4, 4)), 4, 4), EmptyMaskError),
        (lambda: mask_from_array(np.ones((4, 5)), 4, 4), InvalidImageError),
        (lambda: mask_from_array(np.ones((4, 4, 3)), 4, 4), InvalidImageError),
        (lambda: mask_from_array(np.full((4, 4), np.nan), 4, 4), InvalidImageError),
        (lambda: mask_from_alpha(np.zeros((4, 4), dtype=np.uint8)), EmptyMaskError),
        (lambda: mask_from_alpha(np.full((4, 4), 255, dtype=np.uint8)), InvalidImageError),
        (lambda: mask_from_box((4, 0, 9, 2), 4, 4), EmptyMaskError),
        (lambda: mask_from_box((2, 2, 2, 3), 4, 4), EmptyMaskError),
        (lambda: mask_from_box((3, 3, 1, 1), 4, 4), EmptyMaskError),
        (lambda: mask_from_box((0, 0, float("nan"), 1), 4, 4), EmptyMaskError),
        (lambda: masks_from_labels(np.zeros((4, 4), dtype=int), 4, 4), EmptyMaskError),
        (lambda: masks_from_labels(np.ones((4, 4)), 4, 4), InvalidImageError),
        (lambda: masks_from_labels(np.full((4, 4), -1), 4, 4), InvalidImageError),
        (lambda: masks_from_labels(np.ones((4, 5), dtype=int), 4, 4), InvalidImageError),
        (lambda: labels_from_masks({}, 4, 4), EmptyMaskError),
        (lambda: labels_from_masks({0: np.ones((4, 4))}, 4, 4), InvalidImageError),
        (lambda: labels_from_masks({1: np.ones((4, 4)), 2: np.ones((4, 4))}, 4, 4), EmptyMaskError),
    ],
)
def test_bad_masks_are_typed_errors(call, error):
    with pytest.raises(error):
        call()
