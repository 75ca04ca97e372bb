"""From pixels to what the networks are given: crops, cameras, masks and occlusion masks."""

import numpy as np
import pytest
import torch

from cupid_core.config import CupidConfig
from cupid_core.errors import EmptyMaskError, InvalidImageError
from cupid_core.geometry.camera import Camera
from cupid_core.reconstruct.inputs import (
    Frame,
    crop_object,
    crop_objects,
    encoder_images,
    guessed_camera,
    pose_config,
    visible_fraction,
)

CONFIG = CupidConfig()


def picture(height: int = 90, width: int = 120) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (height, width, 3), dtype=np.uint8)


def disc(center: tuple[float, float], radius: float, height: int = 90, width: int = 120) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (columns - center[0]) ** 2 + (rows - center[1]) ** 2 < radius**2


def test_the_camera_of_the_crop_sees_what_the_camera_of_the_image_sees() -> None:
    camera = Camera.from_parameters(fx=150, fy=140, cx=61, cy=44, width=120, height=90)
    crop = crop_object(picture(), disc((80, 40), 15), CONFIG, camera=camera)
    point = torch.tensor([0.1, -0.05, 1.0], dtype=torch.float64)
    shift = torch.tensor([crop.crop.left, crop.crop.top], dtype=torch.float64)
    torch.testing.assert_close(crop.camera.project(point) + shift, camera.project(point))
    assert crop.camera_known and pose_config(crop.camera_known, CONFIG) == CONFIG.pose


def test_without_a_camera_the_axis_stays_in_the_middle_of_the_image() -> None:
    crop = crop_object(picture(), disc((95, 40), 15), CONFIG)
    whole = crop.crop.uncrop_camera(crop.camera)
    torch.testing.assert_close(whole.K, guessed_camera(120, 90, CONFIG.pose).K)
    assert pose_config(crop.camera_known, CONFIG).intrinsics == "focal"


def test_the_mask_is_the_fourth_channel_and_marks_what_is_occluded() -> None:
    mask = disc((40, 40), 20)
    wall = np.zeros_like(mask)
    wall[:, 40:] = True
    crop = crop_object(picture(), mask & ~wall, CONFIG, occlusion=wall)
    image = encoder_images([crop], 64, ("rgb", "mask"))[0]
    assert image.shape == (4, 64, 64)
    values = image[3]
    assert float(values.max()) == pytest.approx(1.0, abs=0.01)
    # Far from all borders it is 1 on the object, 1/2 behind the wall, 0 elsewhere.
    side, left, top = crop.crop.side, crop.crop.left, crop.crop.top

    def at(x: float, y: float) -> float:
        return float(values[int((y - top) / side * 64), int((x - left) / side * 64)])

    assert at(32, 40) == pytest.approx(1.0, abs=0.02)
    assert at(48, 40) == pytest.approx(0.5, abs=0.02)
    assert at(22, 23) == pytest.approx(0.0, abs=0.02)
    visible = visible_fraction([crop], 64)
    assert visible is not None and float(visible.min()) == pytest.approx(0.0, abs=0.02)
    assert float(image[:3, values < 0.02].max()) < 0.03


def test_without_occlusion_there_is_no_occlusion_mask() -> None:
    crop = crop_object(picture(), disc((60, 45), 15), CONFIG)
    assert crop.occlusion_mask is None and visible_fraction([crop], 64) is None and not crop.crop.truncated


def test_beyond_the_border_is_occluded_only_where_the_object_reaches_it() -> None:
    near = crop_object(picture(), disc((17, 45), 16), CONFIG)
    cut = crop_object(picture(), disc((3, 45), 16), CONFIG)
    assert near.crop.left < 0 and near.occlusion_mask is None
    assert cut.crop.truncated and cut.occlusion_mask is not None
    beyond = -cut.crop.left
    assert cut.occlusion_mask[:, :beyond].all() and not cut.occlusion_mask[:, beyond:].any()


def test_what_does_not_fit_is_refused() -> None:
    mask = disc((60, 45), 15)
    with pytest.raises(InvalidImageError, match="occlusion"):
        crop_object(picture(), mask, CONFIG, occlusion=mask[:-1])
    with pytest.raises(EmptyMaskError):
        crop_object(picture(), np.zeros_like(mask), CONFIG)


def test_specks_of_a_mask_do_not_decide_its_crop() -> None:
    labels = np.zeros((120, 160), dtype=np.uint8)
    labels[40:70, 60:100], labels[80:110, 20:50] = 1, 2
    image = np.full((120, 160, 3), 90, dtype=np.uint8)
    clean = crop_objects(Frame.of(image, labels), {}, CupidConfig())
    labels[2, 2], labels[115:118, 155:158], labels[3, 150] = 1, 2, 2
    noisy = crop_objects(Frame.of(image, labels), {}, CupidConfig())
    for before, after in zip(clean, noisy, strict=True):
        assert (after.crop.left, after.crop.top, after.crop.side) == (
            before.crop.left,
            before.crop.top,
            before.crop.side,
        )
