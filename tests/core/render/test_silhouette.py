"""Silhouettes: outlines, growing and shrinking agree with distances counted one by one."""

import numpy as np
import pytest

from cupid_core.geometry.grid import box_of
from cupid_core.render.silhouette import dilated, eroded, nearest_of, outline, signed_distance


@pytest.fixture(params=[0, 1])
def mask(request):
    random = np.random.default_rng(request.param)
    grown = random.random((23, 31)) > 0.97
    return dilated(grown, 3)


def distances(mask):
    """Every pixel to every pixel of the mask, by hand."""
    rows, columns = np.indices(mask.shape)
    ys, xs = np.nonzero(mask)
    return np.hypot(rows[..., None] - ys, columns[..., None] - xs)


def test_growing_shrinking_and_distance_agree_with_counting(mask):
    to_inside, to_outside = distances(mask).min(-1), distances(~mask).min(-1)
    for pixels in (1, 2, 4):
        np.testing.assert_array_equal(dilated(mask, pixels), to_inside <= pixels)
        np.testing.assert_array_equal(eroded(mask, pixels), to_outside > pixels)
    np.testing.assert_allclose(signed_distance(mask), np.where(mask, 0.5 - to_outside, to_inside - 0.5), atol=1e-4)
    np.testing.assert_array_equal(outline(mask), mask & (to_outside <= 1))
    np.testing.assert_array_equal(dilated(mask, 0), mask)


def test_nearest_pixel_is_about_the_nearest(mask):
    number = nearest_of(mask)
    assert mask.ravel()[number].all()
    rows, columns = np.indices(mask.shape)
    found = np.hypot(rows - number // mask.shape[1], columns - number % mask.shape[1])
    # OpenCV's labels come from a 5x5 approximation of the distance.
    assert (found <= 1.05 * distances(mask).min(-1) + 1e-6).all()


def test_the_border_of_the_image_is_not_an_outline():
    full = np.ones((5, 6), bool)
    assert not outline(full).any() and eroded(full, 2).all() and np.isneginf(signed_distance(full)).all()
    empty = ~full
    assert not dilated(empty, 2).any() and np.isposinf(signed_distance(empty)).all() and box_of(empty) is None
    empty[2, 1:4] = True
    assert box_of(empty) == (1, 2, 4, 3)
