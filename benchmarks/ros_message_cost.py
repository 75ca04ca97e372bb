"""The messages' part of `ros_overhead.py`: what a mesh costs as message objects, and as CDR bytes by numpy.

For /cupid/objects and /cupid/markers: making and writing the message; for a listener: reading it. Ways in turns,
so that other load meets all of them alike; processor time, which it disturbs least.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from overhead_frames import MakeIdentity, Tick

from cupid_core.serving.records import Observation, SceneRequest
from cupid_ros.cdr import CdrMessageTypes
from cupid_ros.convert.markers import make_markers
from cupid_ros.convert.objects import make_object_array
from cupid_ros.listen import decode_objects
from cupid_ros.messages import BagMessageTypes

OBJECTS, MARKERS = "cupid_ros/msg/ObjectArray", "visualization_msgs/msg/MarkerArray"
Way = Callable[[Observation], Any]


@dataclass(frozen=True)
class MeshCell:
    """One line of the table.

    Attributes:
        objects: in the message.
        subdivisions: of an icosahedron: 20 * 4^n triangles.
    """

    objects: int
    subdivisions: int

    def __str__(self) -> str:
        return f"{self.objects} x {20 * 4**self.subdivisions:,} triangles"


CELLS = [MeshCell(objects, subdivisions) for subdivisions in (4, 5) for objects in (1, 5)]


def measure_messages(moments: int, warm_up: int, tick: Tick) -> dict[MeshCell, dict[str, list[float]]]:
    """Processor seconds of each way, by cell; those of rclpy where it is there."""
    times: dict[MeshCell, dict[str, list[float]]] = {cell: {} for cell in CELLS}
    writing, reading = _writers(), _readers()
    for cell in CELLS:
        seen = _observation(cell)
        raw = _writers()["write, numpy"](seen)
        for number in range(warm_up + moments):
            ways: list[tuple[str, Callable[[], Any]]] = [
                *((name, partial(way, seen)) for name, way in writing.items()),
                *((name, partial(way, raw)) for name, way in reading.items()),
            ]
            for name, way in ways:
                begun = time.process_time()
                way()
                if number >= warm_up:
                    times[cell].setdefault(name, []).append(time.process_time() - begun)
            tick()
    return times


def _writers() -> dict[str, Way]:
    bag = BagMessageTypes.of("jazzy")
    cdr = CdrMessageTypes(bag.store)
    ways: dict[str, Way] = {
        "write, numpy": lambda seen: cdr.encode(make_object_array(cdr, seen)),
        "markers, numpy": lambda seen: cdr.encode(make_markers(cdr, seen)),
        "write, rosbags": lambda seen: bag.encode(make_object_array(bag, seen)),
    }
    if find_spec("rclpy") is not None:
        serialize = import_module("rclpy.serialization").serialize_message
        types = import_module("cupid_ros.rclpy_messages").RclpyMessageTypes()
        ways["write, rclpy"] = lambda seen: serialize(make_object_array(types, seen))
    return ways


def _readers() -> dict[str, Callable[[bytes], Any]]:
    ways: dict[str, Callable[[bytes], Any]] = {"read, numpy": decode_objects}
    if find_spec("rclpy") is not None:
        deserialize = import_module("rclpy.serialization").deserialize_message
        kind = import_module("cupid_ros.msg").ObjectArray
        ways["read, rclpy"] = lambda raw: deserialize(raw, kind)
    return ways


def _observation(cell: MeshCell) -> Observation:
    job = MakeIdentity(cell.subdivisions)()
    numbers = tuple(range(1, cell.objects + 1))
    record = job(SceneRequest(numbers=numbers), {}, lambda progress: None, lambda: False)
    return Observation(1_700_000_000_000_000_000, "camera", record.objects)
