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
        {"distortion_model": "equidistant", "d": []}, {"binning_x": -2}, {"roi": {"x_offset": 10, "width": 320}},
        {"binning_x": 641}, {"roi": [0, 0, 640, 480]}, {"roi": {"width": 640, "height": 481}}, {"binning_y": "2"},
        {"k": [600.0, 1.0, *K[2:]]},
    ],
)  # fmt: skip
def test_invalid_cameras_are_refused_by_file_name(tmp_path, change):
    with pytest.raises(InvalidCameraError, match=r"camera\.yaml"):
        read_camera_info(write(tmp_path, json.dumps({**INFO, **change})))


@pytest.mark.parametrize(
    ("region", "binning", "size", "K_expected"),
    [
        ((0, 0, 0, 0), (0, 0), (640, 480), K),
        ((0, 0, 640, 480), (1, 1), (640, 480), K),
        ((100, 40, 320, 240), (0, 0), (320, 240), [600.5, 0, 210.25, 0, 601.5, 201.75, 0, 0, 1]),
        ((0, 0, 0, 0), (2, 2), (320, 240), [300.25, 0, 154.875, 0, 300.75, 120.625, 0, 0, 1]),
        ((100, 40, 321, 240), (2, 0), (160, 240), [300.25, 0, 104.875, 0, 601.5, 201.75, 0, 0, 1]),
    ],
)
@pytest.mark.parametrize("write_text", [json.dumps, yaml.safe_dump])
def test_a_region_of_interest_and_binning_are_read_as_in_ros(
    tmp_path, region, binning, size, K_expected, write_text
):
    from cupid_ros.convert.camera import read_camera
    from cupid_ros.messages import BagMessageTypes

    roi = dict(zip(("x_offset", "y_offset", "width", "height"), region, strict=True))
    values = {**INFO, "roi": roi, "binning_x": binning[0], "binning_y": binning[1]}
    camera = read_camera_info(write(tmp_path, write_text(values)))
    assert (camera.width, camera.height) == size
    torch.testing.assert_close(camera.K, torch.tensor(K_expected, dtype=torch.float64).reshape(3, 3))
    types = BagMessageTypes.of("jazzy")
    message = types.make(
        "sensor_msgs/msg/CameraInfo", width=640, height=480, distortion_model="plumb_bob", d=np.array(D),
        k=np.array(K), p=np.array(P), binning_x=binning[0], binning_y=binning[1],
        roi=types.make("sensor_msgs/msg/RegionOfInterest", **roi),
    )  # fmt: skip
    torch.testing.assert_close(read_camera(message).K, camera.K)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(INFO, indent="\t"),
        "\ufeff" + json.dumps(INFO),
        json.dumps({**INFO, "width": 640.0, "height": 480.0}),
        yaml.safe_dump(INFO).replace("0.001", "1e-3"),
        json.dumps(INFO).replace("0.001", "1e-03"),
        "{width: 640, height: 480, distortion_model: plumb_bob,\n"
        " K: [600.5, 0, 310.25, 0, 601.5, 241.75, 0, 0, 1],"
        " D: [1e-1, -2E-1, 1e-03, -0.002, 5.e-2]}",
    ],
)
def test_tabs_marks_of_byte_order_and_exponents_are_read(tmp_path, text):
    camera = read_camera_info(write(tmp_path, text))
    torch.testing.assert_close(camera.K, torch.tensor(K, dtype=torch.float64).reshape(3, 3))
    assert camera.lens.coefficients == tuple(D)


@pytest.mark.parametrize("length", [4, 5, 8, 12, 14])
@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial", "equidistant"])
def test_zeros_behind_the_coefficients_are_no_other_lens(tmp_path, model, length):
    alone = read_camera_info(write(tmp_path, json.dumps({**INFO, "distortion_model": model, "d": D[:4]})))
    d = [*D[:4], *[0.0] * (length - 4)]
    filled = read_camera_info(write(tmp_path, json.dumps({**INFO, "distortion_model": model, "d": d})))
    for px in torch.tensor([[0.0, 0.0], [600.0, 20.0], [320.0, 240.0], [100.0, 470.0]], dtype=torch.float64):
        torch.testing.assert_close(filled.unproject(px, px[0] + 1), alone.unproject(px, px[0] + 1))


def test_coefficients_that_another_model_needs_are_refused(tmp_path):
    for model, d in (
        ("plumb_bob", [*D, 0.01, 0.0, 0.0]),
        ("equidistant", [*D[:4], 0.01]),
        ("rational_polynomial", [0.1] * 13),
        ("rational_polynomial", [0.1] * 15),
        ("rational_polynomial", [0.1] * 3),
    ):
        with pytest.raises(InvalidCameraError, match="coefficients"):
            read_camera_info(write(tmp_path, json.dumps({**INFO, "distortion_model": model, "d": d})))


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
