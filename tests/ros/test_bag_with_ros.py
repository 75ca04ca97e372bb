"""The bag that `cupid bag` writes, read back with the classes of ROS 2, and by its reader where there is one."""

from __future__ import annotations

import array
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rosbags.rosbag2 import Reader
from test_bag import BOXES, COLOR, DEPTH, INFO, LABELS, START, STEP, moments, replay, write

from cupid_ros.messages import BagMessageTypes
from cupid_ros.rclpy_messages import message_class

if TYPE_CHECKING:
    from conftest import ReportFigure

PUBLISHED = {"/cupid/objects", "/tf", "/cupid/markers", "/cupid/detections", "/cupid/overlay"}


@pytest.fixture(params=["mcap", "sqlite3"])
def bag(request: pytest.FixtureRequest, ros: None, tmp_path: Path, types: BagMessageTypes) -> Path:
    """Three images with two objects each, replayed, with the inputs."""
    source = write(tmp_path / "in", types, moments(types, 3))
    replay(source, tmp_path / "out", types, storage=request.param, copy_inputs=True)
    return tmp_path / "out"


def contents(bag: Path) -> list[tuple[str, str, int, bytes]]:
    """Topic, type, time and bytes of every message."""
    with Reader(bag) as reader:
        return [(c.topic, c.msgtype, time_ns, bytes(data)) for c, time_ns, data in reader.messages()]


def same(ours: Any, theirs: Any, where: str) -> int:
    """Compare a message of rosbags with one of rclpy, field by field; returns the number of plain values."""
    if hasattr(ours, "__msgtype__"):
        names = theirs.get_fields_and_field_types()
        assert set(names) <= {item.name for item in fields(ours)}, where
        return sum(same(getattr(ours, name), getattr(theirs, name), f"{where}.{name}") for name in names)
    if isinstance(theirs, bytes):
        assert bytes([ours]) == theirs, where
    elif isinstance(theirs, np.ndarray | array.array):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs), err_msg=where)
    elif isinstance(theirs, list | tuple):
        assert len(ours) == len(theirs), where
        return sum(same(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(ours, theirs, strict=True)))
    else:
        assert ours == theirs or (ours != ours and theirs != theirs), f"{where}: {ours} and {theirs}"
    return 1


def test_every_message_is_one_of_ros(bag: Path, types: BagMessageTypes, report_figure: ReportFigure) -> None:
    from rclpy.serialization import deserialize_message

    from cupid_ros.msg import ObjectArray

    counts: Counter[str] = Counter()
    values = 0
    for topic, kind, time_ns, data in contents(bag):
        theirs = deserialize_message(data, message_class(kind))
        values += same(types.decode(data, kind), theirs, topic)
        if topic == "/cupid/objects":
            number = counts[topic]
            assert isinstance(theirs, ObjectArray)
            stamp = theirs.header.stamp
            assert stamp.sec * 10**9 + stamp.nanosec == START + number * STEP == time_ns - 5_000_000
            assert [(item.id, item.class_id) for item in theirs.objects] == [("1", "mug"), ("2", "box")]
            assert [item.pose.pose.position.z for item in theirs.objects] == pytest.approx([0.5, 0.8])
            assert all(len(item.mesh.vertices) and len(item.mesh.triangles) for item in theirs.objects)
        counts[topic] += 1
    assert counts == dict.fromkeys(PUBLISHED | {COLOR, INFO, DEPTH, LABELS, BOXES}, 3)
    report_figure(f"{counts.total()} messages, {values} values equal in rosbags and rclpy")


def test_rosbag2_reads_the_same_messages(bag: Path, report_figure: ReportFigure) -> None:
    rosbag2_py = pytest.importorskip("rosbag2_py", reason="rosbag2_py is not installed")
    storage = "sqlite3" if list(bag.glob("*.db3")) else "mcap"
    reader = rosbag2_py.SequentialReader()
    reader.open(
        rosbag2_py.StorageOptions(uri=str(bag), storage_id=storage), rosbag2_py.ConverterOptions("cdr", "cdr")
    )
    kinds = {topic.name: topic.type for topic in reader.get_all_topics_and_types()}
    found = []
    while reader.has_next():
        topic, data, time_ns = reader.read_next()
        found.append((topic, kinds[topic], time_ns, bytes(data)))
    assert sorted(found) == sorted(contents(bag))
    assert [time_ns for _, _, time_ns, _ in found] == sorted(time_ns for _, _, time_ns, _ in found)
    report_figure(f"{len(found)} messages of {len(kinds)} topics, byte for byte")
