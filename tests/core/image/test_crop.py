"""Crops: pixels, cameras in and out, borders, what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cupid_core.config import CropConfig
from cupid_core.errors import EmptyMaskError, InvalidCameraError, InvalidImageError
from cupid_core.geometry import Camera
from cupid_core.image.crop import crop_to_content, network_input, reference_crop_to_content
from cupid_core.image.foreground import with_mask


def picture(width, height, box, seed=0):
    """Random colors, alpha 255 inside the box (x0, y0, x1, y1), far edges excluded."""
    rgba = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    rgba[..., 3] = 0
    rgba[box[1] : box[3], box[0] : box[2], 3] = 255
    return rgba


def camera_of(rgba, skew=0.0):
    height, width = rgba.shape[:2]
    K = torch.tensor([[150.0, skew, 0.47 * width], [0.0, 140.0, 0.55 * height], [0.0, 0.0, 1.0]]).double()
    return Camera(K, width, height)


boxes = st.tuples(st.integers(0, 30), st.integers(0, 20), st.integers(1, 40), st.integers(1, 30)).map(
    lambda b: (b[0], b[1], min(b[0] + b[2], 61), min(b[1] + b[3], 44))
)


@settings(max_examples=60, deadline=None)
@given(box=boxes, margin=st.floats(1.0, 3.0))
def test_pixels_and_cameras_move_together(box, margin):
    rgba = picture(61, 44, box)
    crop = crop_to_content(rgba, CropConfig(margin=margin))
    assert crop.rgba.shape == (crop.side, crop.side, 4)
    # Every opaque pixel is in the square, at the place the box says.
    rows, columns = np.nonzero(rgba[..., 3])
    np.testing.assert_array_equal(crop.rgba[rows - crop.top, columns - crop.left], rgba[rows, columns])
    assert (crop.rgba[..., 3] > 0).sum() == len(rows)
    camera = camera_of(rgba, skew=3.0)
    points = torch.tensor([[0.1, -0.2, 1.5], [-0.4, 0.3, 2.0], [0.0, 0.0, 1.0]]).double()
    shift = torch.tensor([crop.left, crop.top]).double()
    torch.testing.assert_close(crop.camera(camera).project(points), camera.project(points) - shift)


@settings(max_examples=60, deadline=None)
@given(box=boxes, size=st.integers(7, 600))
def test_uncrop_undoes_crop_through_any_network_size(box, size):
    rgba = picture(61, 44, box)
    crop, camera = crop_to_content(rgba), camera_of(rgba, skew=2.0)
    seen = crop.camera(camera).resize(size, size)
    back = crop.uncrop_camera(seen)
    torch.testing.assert_close(back.K, camera.K)
    assert (back.width, back.height) == (61, 44)
    torch.testing.assert_close(crop.uncrop_intrinsics(seen.K_normalized()), camera.K_normalized())


@pytest.mark.parametrize("side", [20, 21, 22, 23])
def test_square_is_centered_to_half_a_pixel(side):
    crop = crop_to_content(picture(101, 90, (30, 31, 30 + side, 31 + side)))
    middle = np.array([crop.left + crop.side / 2, crop.top + crop.side / 2])
    assert np.abs(middle - (np.array([30, 31]) + side / 2)).max() <= 0.5
    assert crop.side == round(1.2 * side)


def test_beyond_the_border_is_transparent_black_and_marked_truncated():
    rgba = picture(50, 40, (0, 5, 20, 35))
    crop = crop_to_content(rgba)
    assert crop.truncated and crop.left < 0
    assert not crop.rgba[:, : -crop.left].any()
    assert not crop_to_content(picture(50, 40, (1, 1, 49, 39))).truncated
    for box in [(5, 0, 20, 20), (30, 5, 50, 20), (5, 30, 20, 40)]:
        assert crop_to_content(picture(50, 40, box)).truncated


def test_reference_crop_has_the_documented_inaccuracies():
    """An object whose scaled side is odd: the published square is a pixel short of its own intrinsics."""
    rgba = picture(120, 120, (30, 30, 76, 76))
    reference = reference_crop_to_content(rgba)
    claimed = reference.scale * 120
    assert claimed == 54 and reference.rgba.shape[0] == 54
    odd = reference_crop_to_content(picture(120, 120, (30, 30, 77, 77)))
    assert odd.scale * 120 == 55 and odd.rgba.shape[0] == 54


def test_only_opaque_pixels_count():
    rgba = picture(40, 40, (10, 10, 20, 20))
    rgba[0, 0, 3] = 204
    assert crop_to_content(rgba).side == 12
    rgba[0, 0, 3] = 205
    assert crop_to_content(rgba).side > 12


def test_input_is_not_touched_and_crop_is_a_copy():
    rgba = picture(40, 40, (10, 10, 20, 20))
    kept = rgba.copy()
    crop = crop_to_content(rgba)
    crop.rgba[:] = 7
    np.testing.assert_array_equal(rgba, kept)


def test_network_input_of_a_flat_opaque_image_is_flat():
    rgba = np.full((33, 33, 4), 255, dtype=np.uint8)
    rgba[..., :3] = [10, 100, 250]
    values = network_input(rgba, 56)
    assert values.shape == (3, 56, 56) and values.dtype == torch.float32
    expected = torch.tensor([10, 100, 250]).float() / 255
    torch.testing.assert_close(values, expected[:, None, None].expand(3, 56, 56))


def test_background_colors_do_not_leak():
    rgba = picture(60, 60, (20, 20, 40, 40))
    other = rgba.copy()
    other[other[..., 3] == 0, :3] = 255
    assert torch.equal(network_input(rgba, 32), network_input(other, 32))
    assert float(network_input(rgba, 32)[:, :4].abs().max()) == 0.0


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int64, np.float32])
def test_masks_of_any_type(dtype):
    image = np.random.default_rng(1).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    mask = np.zeros((12, 9), dtype=dtype)
    mask[3:7, 2:5] = 1
    rgba = with_mask(image, mask)
    np.testing.assert_array_equal(rgba[..., :3], image)
    assert (rgba[..., 3] == 255).sum() == 12 and set(np.unique(rgba[..., 3])) == {0, 255}


@pytest.mark.parametrize(
    ("image", "mask", "error"),
    [
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), EmptyMaskError),
        (np.zeros((4, 4, 3), np.uint8), np.ones((4, 5)), InvalidImageError),
        (np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 1)), InvalidImageError),
        (np.zeros((0, 4, 3), np.uint8), np.ones((0, 4)), InvalidImageError),
        (np.zeros((4, 4), np.uint8), np.ones((4, 4)), InvalidImageError),
        (np.zeros((4, 4, 3), np.float32), np.ones((4, 4)), InvalidImageError),
        (np.zeros((4, 4, 3), np.uint8), np.full((4, 4), np.nan), InvalidImageError),
    ],
)
def test_bad_images_and_masks_are_refused(image, mask, error):
    with pytest.raises(error):
        with_mask(image, mask)


@pytest.mark.parametrize("function", [crop_to_content, reference_crop_to_content])
def test_bad_rgba_is_refused(function):
    with pytest.raises(EmptyMaskError):
        function(picture(8, 8, (0, 0, 0, 0)))
    for wrong in [np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8, 4), np.uint8), np.zeros((8, 8, 4), np.uint16)]:
        with pytest.raises(InvalidImageError):
            function(wrong)
    with pytest.raises(InvalidImageError):
        network_input(np.zeros((8, 8, 3), np.uint8), 4)


def test_a_single_pixel_has_a_crop_but_no_reference_crop():
    rgba = picture(9, 9, (4, 4, 5, 5))
    assert crop_to_content(rgba).side == 1
    with pytest.raises(EmptyMaskError):
        reference_crop_to_content(rgba)


def test_cameras_that_do_not_fit_are_refused():
    crop = crop_to_content(picture(20, 10, (5, 3, 9, 8)))
    with pytest.raises(InvalidImageError):
        crop.camera(camera_of(np.zeros((20, 10, 4))))
    with pytest.raises(InvalidCameraError):
        crop.uncrop_intrinsics(torch.zeros(3, 3))
