"""CDR by numpy: byte for byte that of rosbags, for every message that is published, and read back alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.interfaces import Nodetype
from serving_stubs import box_record

from cupid_core.serving.frames import Stamped
from cupid_core.serving.records import Observation
from cupid_ros.cdr import CdrMessageTypes, Record
from cupid_ros.convert.cloud import make_point_cloud
from cupid_ros.convert.image import make_image
from cupid_ros.convert.markers import make_markers
from cupid_ros.convert.objects import make_detections_3d, make_object_array
from cupid_ros.convert.planning import make_collision_object
from cupid_ros.convert.transforms import make_transforms
from cupid_ros.errors import InvalidMessageError, UnknownMessageError
from cupid_ros.listen import decode_objects
from cupid_ros.messages import BagMessageTypes

Make = Callable[[Any, Observation], Any]
NOW = Stamped(1_700_000_000_123_456_789, "camera")
PUBLISHED: dict[str, Make] = {
    "objects": make_object_array,
    "markers": lambda types, seen: make_markers(types, seen, lifetime_s=1.5, removed=[7, 8]),
    "detections": make_detections_3d,
    "transforms": lambda types, seen: make_transforms(types, seen, prefix="cupid/"),
    "cloud": lambda types, seen: make_point_cloud(types, seen.objects[0], NOW, count=100),
    "overlay": lambda types, seen: make_image(types, np.arange(36, dtype=np.uint8).reshape(3, 4, 3), "rgb8", NOW),
    "collision object": lambda types, seen: make_collision_object(
        types, seen.objects[0], NOW, operation="add", name="cupid/1"
    ),
}


@pytest.fixture(scope="module")
def cdr(types: BagMessageTypes) -> CdrMessageTypes:
    return CdrMessageTypes(types.store)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_published_is_byte_identical_to_rosbags(
    cdr: CdrMessageTypes, types: BagMessageTypes, observation: Observation, name: str
) -> None:
    make = PUBLISHED[name]
    assert cdr.encode(make(cdr, observation)) == types.encode(make(types, observation))


def test_nothing_at_all_is_byte_identical_too(cdr: CdrMessageTypes, types: BagMessageTypes) -> None:
    empty = Observation(0, "", ())
    for name in ("objects", "markers", "detections", "transforms"):
        make = PUBLISHED[name]
        assert cdr.encode(make(cdr, empty)) == types.encode(make(types, empty))
    plain = {"vertices": np.zeros((0, 3)), "faces": np.zeros((0, 3), np.int64), "colors": None}
    assert cdr.encode(_mesh(cdr, **plain)) == types.encode(_mesh(types, **plain))


def _mesh(types: Any, *, vertices: Any, faces: Any, colors: Any) -> Any:
    return types.make(
        "shape_msgs/msg/Mesh",
        triangles=types.make_rows("shape_msgs/msg/MeshTriangle", faces),
        vertices=types.make_rows("geometry_msgs/msg/Point", vertices),
    )


def test_default_messages_of_every_type_are_byte_identical(cdr: CdrMessageTypes, types: BagMessageTypes) -> None:
    packages = ("cupid_ros", "geometry_msgs", "moveit_msgs", "sensor_msgs", "tf2_msgs", "vision_msgs")
    names = [name for name in types.store.types if name.split("/")[0] in packages]
    assert len(names) > 60
    for name in names:
        raw = cdr.encode(cdr.make(name))
        assert raw == types.encode(types.make(name)), name
        assert cdr.encode(cdr.decode(raw, name)) == raw, name


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_values_of_any_type_are_byte_identical_and_read_back(data: st.DataObject) -> None:
    types = _TYPES
    cdr = CdrMessageTypes(types.store)
    name = data.draw(st.sampled_from(_NAMES))
    raw = types.encode(_any_message(types, name, data))
    again = cdr.decode(raw, name)
    assert cdr.encode(again) == raw


_TYPES = BagMessageTypes.of("jazzy")
_NAMES = [
    "cupid_ros/msg/ObjectArray", "moveit_msgs/msg/CollisionObject", "sensor_msgs/msg/CameraInfo",
    "sensor_msgs/msg/PointCloud2", "tf2_msgs/msg/TFMessage", "visualization_msgs/msg/Marker",
]  # fmt: skip


def _any_message(types: BagMessageTypes, name: str, data: st.DataObject) -> Any:
    fields = {key: _any_value(types, kind, data) for key, kind in types.store.fielddefs[name][1]}
    return types.make(name, **fields)


def _any_value(types: BagMessageTypes, kind: Any, data: st.DataObject) -> Any:
    form, detail = kind
    if form == Nodetype.BASE:
        if detail[0] == "string":
            return data.draw(
                st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
            )
        if detail[0].startswith("float"):
            return data.draw(st.floats(width=int(detail[0][5:])))
        return data.draw(st.booleans()) if detail[0] == "bool" else data.draw(st.integers(0, 100))
    if form == Nodetype.NAME:
        return _any_message(types, detail, data)
    inner, length = detail
    count = length if form == Nodetype.ARRAY else data.draw(st.integers(0, 3))
    return [_any_value(types, inner, data) for _ in range(count)]


def test_listeners_get_meshes_as_arrays(cdr: CdrMessageTypes, types: BagMessageTypes) -> None:
    items = (box_record(3), box_record(4))
    raw = types.encode(make_object_array(types, Observation(NOW.stamp_ns, NOW.frame_id, items)))
    heard = decode_objects(raw)
    assert heard.header.frame_id == "camera" and [item.id for item in heard.objects] == [item.id for item in items]
    for item, expected in zip(heard.objects, items, strict=True):
        np.testing.assert_array_equal(item.mesh.vertices, expected.vertices)
        np.testing.assert_array_equal(item.mesh.triangles, expected.faces)
        assert expected.colors is not None
        np.testing.assert_array_equal(item.vertex_colors[:, :3], expected.colors)
        assert item.pose.pose.position.z == expected.translation[2]


def test_damaged_bytes_are_refused(types: BagMessageTypes) -> None:
    raw = types.encode(make_object_array(types, Observation(NOW.stamp_ns, "camera", (box_record(3),))))
    for size in (0, 3, 4, 10, len(raw) // 2, len(raw) - 1):
        with pytest.raises(InvalidMessageError):
            decode_objects(raw[:size])
    with pytest.raises(InvalidMessageError, match="little endian"):
        decode_objects(b"\x00\x00" + raw[2:])
    for at in range(4, 60):
        damaged = raw[:at] + b"\xff\xff\xff\xff" + raw[at + 4 :]
        try:
            decode_objects(damaged)
        except InvalidMessageError:
            continue


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("std_msgs/msg/Header", {"frame_id": 3}),
        ("builtin_interfaces/msg/Time", {"sec": 2**31}),
        ("builtin_interfaces/msg/Time", {"sec": "1"}),
        ("sensor_msgs/msg/CameraInfo", {"k": np.zeros(8)}),
        ("shape_msgs/msg/Mesh", {"vertices": np.zeros((3, 2))}),
        ("shape_msgs/msg/Mesh", {"vertices": np.zeros((3, 3), np.float32)}),
        ("shape_msgs/msg/Mesh", {"vertices": 5}),
    ],
)
def test_values_that_do_not_fit_are_refused(cdr: CdrMessageTypes, name: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessageError):
        cdr.encode(cdr.make(name, **fields))


def test_unknown_names_are_refused(cdr: CdrMessageTypes) -> None:
    with pytest.raises(UnknownMessageError, match="nobody_msgs"):
        cdr.make("nobody_msgs/msg/Nothing")
    with pytest.raises(UnknownMessageError, match="color"):
        cdr.make("std_msgs/msg/ColorRGBA", color=1.0)
    with pytest.raises(UnknownMessageError, match="more than numbers"):
        cdr.make_rows("std_msgs/msg/Header", np.zeros((1, 3)))
    with pytest.raises(InvalidMessageError, match="3 numbers"):
        cdr.make_rows("geometry_msgs/msg/Point", np.zeros((1, 2)))
    with pytest.raises(AttributeError, match="nothing"):
        _ = Record("std_msgs/msg/Header", {}).nothing
