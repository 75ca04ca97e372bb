"""Message types: what we define is complete, agrees with what others record, and survives the wire."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from cupid_ros.errors import InvalidMessageError, UnknownMessageError
from cupid_ros.messages import OWN_MESSAGES, BagMessageTypes, messages_folder

ROOT = Path(__file__).resolve().parents[2]
BAG = ROOT.parent / "shared" / "data" / "tabletop_rgbd" / "bag"


@pytest.mark.parametrize("distribution", ["humble", "jazzy"])
def test_default_messages_of_every_type_round_trip(distribution: str) -> None:
    types = BagMessageTypes.of(distribution)  # type: ignore[arg-type]
    names = [name for name in types.store.types if name.split("/")[0] in _PACKAGES]
    assert len(names) > 60
    for name in names:
        raw = types.encode(types.make(name))
        assert types.encode(types.decode(raw, name)) == raw


_PACKAGES = {
    "cupid_ros", "geometry_msgs", "moveit_msgs", "sensor_msgs", "shape_msgs", "tf2_msgs", "vision_msgs",
    "visualization_msgs",
}  # fmt: skip


def test_definitions_agree_with_what_detectors_record(types: BagMessageTypes) -> None:
    from rosbags.rosbag2 import Reader

    if not BAG.is_dir():
        pytest.skip(f"the example bag is not beside this checkout ({BAG} is absent)")
    with Reader(BAG) as reader:
        for connection in reader.connections:
            assert types.store.hash_rihs01(connection.msgtype) == connection.digest


def test_arrays_take_the_declared_type(types: BagMessageTypes) -> None:
    info = types.make("sensor_msgs/msg/CameraInfo", k=[[1, 2, 3], [4, 5, 6], [7, 8, 9]], d=[0, 1])
    assert info.k.dtype == np.float64 and info.k.shape == (9,)
    assert info.d.dtype == np.float64


def test_unknown_names_are_refused(types: BagMessageTypes) -> None:
    with pytest.raises(UnknownMessageError, match="nobody_msgs"):
        types.make("nobody_msgs/msg/Nothing")
    with pytest.raises(UnknownMessageError, match="color"):
        types.make("std_msgs/msg/ColorRGBA", color=1.0)
    with pytest.raises(InvalidMessageError, match="3 numbers"):
        types.make_rows("geometry_msgs/msg/Point", np.ones((4, 2)))
    with pytest.raises(InvalidMessageError):
        types.encode(types.make("std_msgs/msg/Header", frame_id=3))
    with pytest.raises(InvalidMessageError):
        types.register([("bad_msgs/msg/Bad", "float64[")])


FIELD = re.compile(r"^(?P<type>[a-zA-Z][\w/]*(\[[^\]]*\])?)\s+(?P<name>[a-z]\w*)\s*(?P<rest>.*)$")


@pytest.mark.parametrize(
    "path",
    sorted([*ROOT.glob("msg/*.msg"), *ROOT.glob("srv/*.srv"), *ROOT.glob("action/*.action")]),
    ids=lambda p: p.name,
)
def test_every_field_says_its_unit(path: Path) -> None:
    fields = [FIELD.match(line) for line in path.read_text().splitlines() if line and not line.startswith("#")]
    named = [found for found in fields if found]
    assert named
    for found in named:
        comment = found["rest"]
        if found["name"] in ("header", "quality"):  # their own types say it
            assert comment.startswith("#")
            continue
        assert re.match(r"# \[[^\]]+\] ", comment), f"{found['name']}: a field has a comment with its unit"


def test_the_build_generates_every_definition() -> None:
    text = (ROOT / "CMakeLists.txt").read_text()
    for folder in ("msg", "srv", "action"):
        for path in (ROOT / folder).iterdir():
            assert f'"{folder}/{path.name}"' in text
    assert {path.stem for path in messages_folder().glob("*.msg")} == set(OWN_MESSAGES)
