"""Rectification: pixels, labels and depth move together and the camera says where to; K that does not fit."""

import numpy as np
import pytest
import torch

from cupid_core.errors import InvalidCameraError, InvalidDepthError, InvalidImageError
from cupid_core.geometry import Camera, Distortion
from cupid_core.image.rectify import check_camera, rectify
from cupid_core.types import DepthMap, ScaleSource

HEIGHT, WIDTH = 60, 80
LENSES = [
    Distortion("plumb_bob", (-0.25, 0.08, 0.001, -0.001, 0.0)),
    Distortion("equidistant", (0.02, -0.01, 0.0, 0.0)),
]


def camera(distortion=None, **change):
    values = {"fx": 70.0, "fy": 71.0, "cx": 40.0, "cy": 29.0, "width": WIDTH, "height": HEIGHT, **change}
    return Camera.from_parameters(**values, distortion=distortion)


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: lens.model)
def test_points_are_where_the_new_camera_projects_them(lens):
    """A smooth field of the ray, drawn through the lens, becomes the same field of the pinhole's rays."""
    distorted = camera(lens)
    xy = distorted.rays()[..., :2].numpy()
    field = np.nan_to_num(xy @ np.array([60.0, 80.0]) + 120.0)
    image = np.repeat(np.clip(field, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    labels = np.where(xy[..., 0] > 0, 70000, 3)
    depth_m = torch.from_numpy(np.nan_to_num(1.0 + xy[..., 1] ** 2)).float()
    depth_m[10:20, 30:40] = torch.nan
    frame = rectify(image, distorted, labels=labels, depth=DepthMap(depth_m, ScaleSource.SENSOR, 0.01))
    assert frame.camera.distortion is None
    torch.testing.assert_close(frame.camera.K, distorted.K)
    ideal = frame.camera.rays()[..., :2].numpy()
    inner = frame.valid_mask & (np.hypot(*np.moveaxis(ideal, -1, 0)) < 0.45)
    expected = ideal @ np.array([60.0, 80.0]) + 120.0
    assert np.abs(frame.image[..., 0] - expected)[inner].max() < 3
    clear = inner & (np.abs(ideal[..., 0]) > 0.02)
    np.testing.assert_array_equal(frame.labels[clear], np.where(ideal[..., 0] > 0, 70000, 3)[clear])
    measured = frame.depth.depth_m.numpy()
    valid = np.isfinite(measured)
    assert 0 < (inner & ~valid).sum() < 150  # the hole moved and did not become a zero
    assert np.abs(measured - 1.0 - ideal[..., 1] ** 2)[inner & valid].max() < 0.02
    assert frame.depth.scale_std == 0.01
    assert not (measured == 0).any()


def test_without_distortion_nothing_changes():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    labels = rng.integers(0, 4, (HEIGHT, WIDTH))
    for distortion in (None, Distortion("plumb_bob", (0.0,) * 5)):
        frame = rectify(image, camera(distortion), labels=labels)
        np.testing.assert_array_equal(frame.image, image)
        np.testing.assert_array_equal(frame.labels, labels)
        assert frame.labels.dtype == np.int32
        assert frame.depth is None
        assert frame.valid_mask.all()


@pytest.mark.parametrize(
    "change",
    [
        {"width": 160, "height": 120}, {"width": 60, "height": 80}, {"fx": 0.9, "fy": 0.9}, {"fx": 7e4, "fy": 7e4},
        {"cx": 900.0}, {"cy": -200.0}, {"fy": 20.0},
    ],
)  # fmt: skip
def test_a_camera_that_does_not_fit_is_refused(change):
    with pytest.raises(InvalidCameraError) as caught:
        check_camera(camera(**change), HEIGHT, WIDTH)
    assert caught.value.hint


def test_the_error_for_a_scaled_camera_says_how_to_scale_it():
    with pytest.raises(InvalidCameraError, match=r"by 0\.5, and state 80 x 60"):
        check_camera(camera(width=160, height=120), HEIGHT, WIDTH)
    check_camera(camera(width=160, height=120, cx=80.0, fx=140.0, fy=140.0).resize(80, 60), HEIGHT, WIDTH)


def test_companions_of_other_size_are_refused():
    image = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    with pytest.raises(InvalidImageError):
        rectify(image, camera(), labels=np.zeros((WIDTH, HEIGHT), dtype=int))
    with pytest.raises(InvalidImageError):
        rectify(image, camera(), labels=np.zeros((HEIGHT, WIDTH)))
    with pytest.raises(InvalidDepthError):
        rectify(image, camera(), depth=DepthMap(torch.ones(WIDTH, HEIGHT), ScaleSource.SENSOR))
