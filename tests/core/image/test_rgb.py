"""Any image to 8-bit RGB: what is kept, how bits are scaled, what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cupid_core.errors import InvalidImageError
from cupid_core.image.rgb import to_rgb8

shapes = st.tuples(st.integers(1, 5), st.integers(1, 6))


@settings(max_examples=40, deadline=None)
@given(shape=shapes, channels=st.sampled_from([None, 1, 2, 3, 4]), seed=st.integers(0, 99))
def test_eight_bit_images_are_unchanged(shape, channels, seed):
    full = shape if channels is None else (*shape, channels)
    image = np.random.default_rng(seed).integers(0, 256, full, dtype=np.uint8)
    found = to_rgb8(image)
    flat = image.reshape(*shape, -1)
    for channel in range(3):
        np.testing.assert_array_equal(found.rgb[..., channel], flat[..., channel if flat.shape[2] > 2 else 0])
    if channels in (2, 4):
        np.testing.assert_array_equal(found.alpha, flat[..., -1])
    else:
        assert found.alpha is None


@settings(max_examples=60, deadline=None)
@given(image=arrays.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 4), st.just(3))))
def test_every_bit_depth_gives_the_same_image(image):
    np.testing.assert_array_equal(to_rgb8(image.astype(np.uint16) * 257, bits=16).rgb, image)
    np.testing.assert_array_equal(to_rgb8((image.astype(np.uint16) * 257).astype(">u2"), bits=16).rgb, image)
    twelve = np.rint(image.astype(np.float64) / 255 * 4095).astype(np.uint16)
    np.testing.assert_array_equal(to_rgb8(twelve, bits=12).rgb, image)
    for kind in (np.float32, np.float64):
        np.testing.assert_array_equal(to_rgb8(image.astype(kind) / 255).rgb, image)


def test_sixteen_bits_are_rounded():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(values / 257.0).astype(np.uint8)
    np.testing.assert_array_equal(to_rgb8(values).rgb[..., 0], expected)


def test_a_dark_sixteen_bit_image_needs_its_number_of_bits():
    image = np.full((2, 3), 1023, dtype=np.uint16)
    with pytest.raises(InvalidImageError, match="bits"):
        to_rgb8(image)
    assert to_rgb8(image, bits=10).rgb.max() == 255
    assert to_rgb8(image, bits=16).rgb.max() == 4
    with pytest.raises(InvalidImageError, match="reaches 1023"):
        to_rgb8(image, bits=9)
    assert to_rgb8(np.zeros((2, 3), dtype=np.uint16)).rgb.max() == 0


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 4, 3), dtype=np.uint8),
        np.zeros((4, 0), dtype=np.uint8),
        np.zeros((4, 4, 5), dtype=np.uint8),
        np.zeros((1, 4, 4, 3), dtype=np.uint8),
        np.zeros(4, dtype=np.uint8),
        np.zeros((4, 4), dtype=bool),
        np.zeros((4, 4), dtype=np.int64),
        np.full((4, 4, 3), np.nan, dtype=np.float32),
        np.full((4, 4, 3), np.inf),
        np.full((4, 4, 3), 255.0),
        np.full((4, 4, 3), -0.1),
    ],
)
def test_arrays_that_are_not_images_are_refused(image):
    with pytest.raises(InvalidImageError) as caught:
        to_rgb8(image)
    assert caught.value.hint
    assert caught.value.code == "invalid_image"


def test_bits_belong_to_sixteen_bit_images():
    with pytest.raises(InvalidImageError):
        to_rgb8(np.zeros((2, 2), dtype=np.uint8), bits=8)
