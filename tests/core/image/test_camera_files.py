"""Cameras from files: every spelling of the same camera is the same; what is no camera is refused by name."""

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cupid_core.errors import InvalidCameraError, UnreadableFileError
from cupid_core.image.camera_files import camera_of_photo, parse_camera, read_camera_info

K = [600.5, 0.0, 310.25, 0.0, 601.5, 241.75, 0.0, 0.0, 1.0]
D = [0.1, -0.2, 0.001, -0.002, 0.05]
P = [590.0, 0.0, 311.0, 0.0, 0.0, 591.0, 242.0, 0.0, 0.0, 0.0, 1.0, 0.0]
INFO = {
    "header": {"stamp": {"sec": 1, "nanosec": 2}, "frame_id": "camera"},
    "height": 480, "width": 640, "distortion_model": "plumb_bob", "d": D, "k": K, "p": P, "binning_x": 0,
    "binning_y": 0, "roi": {"x_offset": 0, "y_offset": 0, "height": 0, "width": 0, "do_rectify": False},
}  # fmt: skip
CALIBRATION = {
    "image_width": 640, "image_height": 480, "camera_name": "head", "distortion_model": "plumb_bob",
    "camera_matrix": {"rows": 3, "cols": 3, "data": K},
    "distortion_coefficients": {"rows": 1, "cols": 5, "data": D},
    "projection_matrix": {"rows": 3, "cols": 4, "data": P},
}  # fmt: skip


def write(tmp_path, text):
    path = tmp_path / "camera.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        yaml.safe_dump(INFO) + "---\n",
        json.dumps(INFO),
        json.dumps({**{key: INFO[key] for key in ("width", "height", "distortion_model")}, "K": K, "D": D}),
        yaml.safe_dump(CALIBRATION),
        json.dumps({"width": 640, "height": 480, "K": [K[:3], K[3:6], K[6:]], "d": D}),
    ],
)
def test_every_file_layout_gives_the_same_camera(tmp_path, text):
    camera = read_camera_info(write(tmp_path, text))
    assert (camera.width, camera.height) == (640, 480)
    torch.testing.assert_close(camera.K, torch.tensor(K, dtype=torch.float64).reshape(3, 3))
    assert camera.lens is not None
    assert camera.lens.coefficients == tuple(D)


def test_a_rectified_image_uses_p_without_distortion(tmp_path):
    for values in (INFO, CALIBRATION):
        camera = read_camera_info(write(tmp_path, yaml.safe_dump(values)), rectified=True)
        assert camera.distortion is None
        assert camera.K[[0, 1, 0, 1], [0, 1, 2, 2]].tolist() == [590.0, 591.0, 311.0, 242.0]


@pytest.mark.parametrize("model", ["", "plumb_bob", "inverse_brown_conrady", "none"])
@pytest.mark.parametrize("d", [[], [0.0] * 5])
def test_zero_coefficients_mean_no_distortion(tmp_path, model, d):
    text = json.dumps({**INFO, "distortion_model": model, "d": d})
    assert read_camera_info(write(tmp_path, text)).lens is None


def test_text_is_a_pinhole_camera():
    camera = parse_camera("600.5, 601.5,310.25,241.75", 640, 480)
    torch.testing.assert_close(camera.K, torch.tensor(K, dtype=torch.float64).reshape(3, 3))
    for text in ("", "1,2,3", "1,2,3,4,5", "a,b,c,d", "0,0,1,1", "nan,1,1,1", "-600,600,320,240"):
        with pytest.raises(InvalidCameraError):
            parse_camera(text, 640, 480)


@pytest.mark.parametrize(
    "change",
    [
        {"k": K[:8]}, {"k": [0.0] * 9}, {"k": "none"}, {"k": [*K[:6], 0.0, 0.0, 2.0]}, {"width": 0},
        {"width": "640"}, {"height": None}, {"distortion_model": "magic"}, {"d": [0.1, 0.2]},
        {"d": [0.1, None, 0, 0, 0]},
        {"distortion_model": "equidistant", "d": []}, {"binning_x": 2}, {"roi": {"x_offset": 10, "width": 320}},
        {"k": [600.0, 1.0, *K[2:]]},
    ],
)  # fmt: skip
def test_invalid_cameras_are_refused_by_file_name(tmp_path, change):
    with pytest.raises(InvalidCameraError, match=r"camera\.yaml"):
        read_camera_info(write(tmp_path, json.dumps({**INFO, **change})))


@pytest.mark.parametrize("text", ["", "[1, 2", "- 1\n- 2\n", "only words", "a: b: c", "\x00"])
def test_other_files_are_refused_by_name(tmp_path, text):
    with pytest.raises(UnreadableFileError, match=r"camera\.yaml"):
        read_camera_info(write(tmp_path, text))


def test_missing_and_binary_files_are_refused(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    for name in ("absent.yaml", "binary.yaml"):
        with pytest.raises(UnreadableFileError, match=name):
            read_camera_info(tmp_path / name)


def photo(tmp_path, focal_mm):
    exif = Image.Exif()
    exif[0x010F] = "a telephone"
    if focal_mm is not None:
        exif.get_ifd(0x8769)[0xA405] = focal_mm
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.jpg", exif=exif)
    return tmp_path / "photo.jpg"


def test_a_photo_states_its_focal_length(tmp_path):
    """A full-frame lens of 50 mm sees 46.8 degrees of the diagonal, whatever the shape of the picture."""
    camera = camera_of_photo(photo(tmp_path, 50), 4000, 3000)
    assert (
        float(camera.K[0, 0])
        == float(camera.K[1, 1])
        == pytest.approx(5000 / 2 / np.tan(np.radians(46.79) / 2), rel=1e-3)
    )
    assert (float(camera.K[0, 2]), float(camera.K[1, 2])) == (1999.5, 1499.5)
    assert camera.distortion is None


@pytest.mark.parametrize("focal_mm", [None, 0])  # 0 is how unknown is written
def test_a_photo_that_does_not_state_it_is_refused(tmp_path, focal_mm):
    with pytest.raises(InvalidCameraError, match="does not state the focal length"):
        camera_of_photo(photo(tmp_path, focal_mm), 40, 30)


def test_a_file_that_is_not_a_photo_is_refused_by_name(tmp_path):
    with pytest.raises(UnreadableFileError, match=r"camera\.yaml cannot be read"):
        camera_of_photo(write(tmp_path, "no picture"), 40, 30)
