"""CameraInfo: the camera is that of the image at hand, whatever region and binning it was read out with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cupid_core.errors import InvalidCameraError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.distortion import Distortion
from cupid_core.serving.frames import Stamped
from cupid_core.serving.records import CameraValues
from cupid_ros.convert.camera import make_camera_info, read_camera
from cupid_ros.messages import BagMessageTypes

NAME = "sensor_msgs/msg/CameraInfo"
LENSES = {
    "plumb_bob": (-0.2, 0.05, 0.001, -0.002, 0.01),
    "rational_polynomial": (0.1, 0.02, 0.001, 0.001, 0.0, 0.1, 0.02, 0.0),
    "equidistant": (0.01, -0.002, 0.0003, 0.0),
}


def camera(lens: Distortion | None = None) -> Camera:
    return Camera.from_parameters(fx=600.0, fy=610.0, cx=311.5, cy=250.25, width=640, height=480, distortion=lens)


def info(types: BagMessageTypes, **changes: Any) -> Any:
    message = make_camera_info(types, camera(), Stamped(5, "camera"))
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@given(fx=st.floats(50, 5000), cx=st.floats(-100, 800), lens=st.sampled_from([None, *LENSES]), zeros=st.booleans())
@settings(max_examples=60, deadline=None)
def test_cameras_round_trip(types: BagMessageTypes, fx: float, cx: float, lens: str | None, zeros: bool) -> None:
    distortion = None if lens is None else Distortion(lens, LENSES[lens])  # type: ignore[arg-type]
    sent = Camera.from_parameters(fx=fx, fy=fx, cx=cx, cy=10.0, width=640, height=480, distortion=distortion)
    message = make_camera_info(types, sent, Stamped(1, "c"))
    if lens is None and zeros:
        message.d, message.distortion_model = np.zeros(8), "none"  # as some drivers of rectified streams
    back = read_camera(types.decode(types.encode(message), NAME))
    assert CameraValues.of(back) == CameraValues.of(sent)


def test_rectified_images_use_p_and_no_lens(types: BagMessageTypes) -> None:
    message = make_camera_info(types, camera(Distortion("plumb_bob", LENSES["plumb_bob"])), Stamped(1, "c"))
    message.p = np.array([500.0, 0, 320, 0, 0, 505.0, 240, 0, 0, 0, 1, 0])
    back = read_camera(message, rectified=True)
    assert back.lens is None
    assert [float(back.K[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2))] == [500.0, 505.0, 320.0, 240.0]


@given(x=st.integers(0, 300), y=st.integers(0, 200), bins=st.sampled_from([(1, 1), (2, 2), (4, 2)]))
@settings(max_examples=12, deadline=None)
def test_region_and_binning_project_to_the_same_point(
    types: BagMessageTypes, x: int, y: int, bins: tuple[int, int]
) -> None:
    message = info(types, binning_x=bins[0], binning_y=bins[1])
    message.roi.x_offset, message.roi.y_offset, message.roi.width, message.roi.height = x, y, 321, 240
    cut = read_camera(types.decode(types.encode(message), NAME))
    assert (cut.width, cut.height) == (321 // bins[0], 240 // bins[1])
    point = torch.tensor([0.1, 0.05, 1.0], dtype=torch.float64)
    whole_px, cut_px = camera().project(point), cut.project(point)
    # The center of a bin lies between the centers of its pixels.
    expected = (whole_px - torch.tensor([x, y]) + 0.5) / torch.tensor(bins) - 0.5
    torch.testing.assert_close(cut_px, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"k": np.zeros(9)}, {"k": np.full(9, np.nan)}, {"k": np.arange(9.0)}, {"width": 0}, {"height": 0},
        {"width": 2**32 - 1}, {"distortion_model": "fisheye_of_my_own", "d": np.ones(4)},
        {"distortion_model": "plumb_bob", "d": np.ones(3)}, {"d": np.full(5, np.nan)},
        {"distortion_model": "equidistant", "d": np.zeros(0)}, {"binning_x": 10_000},
    ],
    ids=str,
)  # fmt: skip
def test_invalid_camera_info_is_refused(types: BagMessageTypes, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidCameraError):
        read_camera(info(types, **changes))


def test_regions_outside_the_sensor_are_refused(types: BagMessageTypes) -> None:
    message = info(types)
    message.roi.x_offset, message.roi.width, message.roi.height = 600, 100, 480
    with pytest.raises(InvalidCameraError, match="region"):
        read_camera(message)
