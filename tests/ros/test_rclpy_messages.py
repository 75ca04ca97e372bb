"""Messages of rclpy's classes are, byte for byte, those of rosbags, out and in."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from serving_stubs import box_record

from cupid_core.geometry.camera import Camera
from cupid_core.geometry.se3 import SE3
from cupid_core.serving.frames import Detection, Stamped
from cupid_core.serving.records import CameraValues, Observation
from cupid_ros.cdr import CdrMessageTypes
from cupid_ros.convert.camera import make_camera_info, read_camera
from cupid_ros.convert.cloud import make_point_cloud
from cupid_ros.convert.detections import make_detections, read_detections
from cupid_ros.convert.image import make_image, read_image
from cupid_ros.convert.markers import make_markers
from cupid_ros.convert.objects import make_detections_3d, make_object_array
from cupid_ros.convert.planning import make_collision_object
from cupid_ros.convert.transforms import make_transforms
from cupid_ros.diagnostics import ERROR, Status, make_diagnostics
from cupid_ros.errors import InvalidMessageError, UnknownMessageError
from cupid_ros.messages import BagMessageTypes, MessageTypes
from cupid_ros.rclpy_messages import RclpyMessageTypes, has_wire_format, message_class

NOW = Stamped(1_700_000_000_123_456_789, "camera_color_optical_frame")
BOX = Detection("1", "mug", 0.5, (1.0, 2.0, 3.0, 4.0))
Make = Callable[[MessageTypes, Observation], Any]
OUT: dict[str, Make] = {
    "objects": make_object_array,
    "transforms": lambda types, observation: make_transforms(types, observation, prefix="cupid/"),
    "transforms in a fixed frame": lambda types, observation: make_transforms(
        types, observation, prefix="", fixed_frame="map", T_fixed_camera=SE3.identity(dtype=torch.float64)
    ),
    "markers": lambda types, observation: make_markers(types, observation, lifetime_s=1.5, removed=[9]),
    "boxes": make_detections_3d,
    "overlay": lambda types, _: make_image(types, np.arange(90, dtype=np.uint8).reshape(5, 6, 3), "rgb8", NOW),
    "points": lambda types, _: make_point_cloud(types, box_record(), NOW, count=50),
    "added": lambda types, _: make_collision_object(types, box_record(), NOW, operation="add", name="a"),
    "moved": lambda types, _: make_collision_object(types, box_record(), NOW, operation="move", name="a"),
    "diagnostics": lambda types, _: make_diagnostics(
        types, [Status("worker", ERROR, "gone", {"pid": "3"})], NOW.stamp_ns, node="recon_node"
    ),
    "camera": lambda types, _: make_camera_info(types, a_camera(), NOW),
    "detections": lambda types, _: make_detections(types, [BOX], NOW),
    "depth": lambda types, _: make_image(types, np.full((3, 4), 1.5, np.float32), "32FC1", NOW),
}  # fmt: skip


def a_camera() -> Camera:
    return Camera.from_parameters(fx=80.0, fy=81.0, cx=31.5, cy=23.5, width=64, height=48)


@pytest.fixture
def generated(ros: None) -> RclpyMessageTypes:
    return RclpyMessageTypes()


def bytes_of(message: Any) -> bytes:
    from rclpy.serialization import serialize_message

    return bytes(serialize_message(message))


@pytest.mark.parametrize("name", OUT)
def test_rclpy_and_rosbags_messages_are_equal(
    types: BagMessageTypes, generated: RclpyMessageTypes, observation: Observation, name: str
) -> None:
    if name in ("added", "moved"):
        pytest.importorskip("moveit_msgs", reason="moveit_msgs is not installed")
    expected, actual = OUT[name](types, observation), OUT[name](generated, observation)
    again = types.decode(bytes_of(actual), expected.__msgtype__)
    assert types.encode(again) == types.encode(expected)


def test_rclpy_messages_are_read_like_rosbags_messages(
    types: BagMessageTypes, generated: RclpyMessageTypes
) -> None:
    from rclpy.serialization import deserialize_message

    def received(name: str) -> Any:
        message = OUT[name](types, Observation(0, "", ()))
        return deserialize_message(types.encode(message), message_class(message.__msgtype__))

    assert CameraValues.of(read_camera(received("camera"))) == CameraValues.of(a_camera())
    assert read_detections(received("detections")).good == (BOX,)
    depth = read_image(received("depth"))
    assert depth.encoding == "32FC1" and (depth.values == 1.5).all()


def test_sequences_of_numbers_are_copied_as_a_whole(generated: RclpyMessageTypes) -> None:
    image = make_image(generated, np.zeros((480, 640, 3), np.uint8), "rgb8", NOW)
    assert isinstance(image.data, array.array) and image.data.typecode == "B" and len(image.data) == 921_600
    assert generated.make("sensor_msgs/msg/Image", data=image.data).data == image.data
    info = make_camera_info(generated, a_camera(), NOW)
    assert isinstance(info.d, array.array) and isinstance(info.k, np.ndarray)


def test_numbers_take_the_type_that_rclpy_wants(generated: RclpyMessageTypes) -> None:
    message = generated.make("std_msgs/msg/ColorRGBA", r=np.float32(0.5), g=1, b=np.float64(0.25))
    assert [type(value) for value in (message.r, message.g, message.b)] == [float, float, float]
    status = generated.make("diagnostic_msgs/msg/DiagnosticStatus", level=2)
    assert status.level == b"\x02"


def test_unknown_types_and_fields_are_refused(generated: RclpyMessageTypes) -> None:
    with pytest.raises(UnknownMessageError, match="nobody_msgs"):
        generated.make("nobody_msgs/msg/Nothing")
    with pytest.raises(UnknownMessageError):
        generated.make("std_msgs/msg/Nothing")
    with pytest.raises(UnknownMessageError, match="color"):
        generated.make("std_msgs/msg/ColorRGBA", color=1.0)
    for name in ("geometry_msgs/msg/Point", "shape_msgs/msg/MeshTriangle"):
        with pytest.raises(InvalidMessageError, match="3 numbers"):
            generated.make_rows(name, np.ones((4, 2)))


def test_the_node_publishes_bytes_of_the_installed_messages(ros: None) -> None:
    from cupid_ros.outputs import publishing_types

    types = publishing_types()
    assert isinstance(types, CdrMessageTypes)
    for name in ("cupid_ros/msg/ObjectArray", "visualization_msgs/msg/MarkerArray", "sensor_msgs/msg/PointCloud2"):
        assert has_wire_format(name, types)
    for name in ("geometry_msgs/msg/Point", "geometry_msgs/msg/Quaternion"):
        wrong = CdrMessageTypes(BagMessageTypes.of("jazzy").store)
        constants, fields = wrong.store.fielddefs[name]
        wrong.store.fielddefs[name] = constants, fields[::-1]
        assert not has_wire_format("cupid_ros/msg/ObjectArray", wrong)
