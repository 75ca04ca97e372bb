"""What viewers need: topics of the shipped RViz configuration, and bags that explain themselves to Foxglove."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from serving_stubs import make_boxes
from test_bag import moments, write

from cupid_core.config import RosConfig
from cupid_core.serving.engine import InProcessEngine
from cupid_core.serving.server import Server
from cupid_ros.bag import ReplayOptions, replay_bag
from cupid_ros.messages import BagMessageTypes

ROOT = Path(__file__).resolve().parents[2]
# What the displays of RViz subscribe to.
DISPLAYS = {
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/PointCloud2": "sensor_msgs/msg/PointCloud2",
}


def bag_of(tmp_path: Path, types: BagMessageTypes) -> Path:
    source = write(tmp_path / "in", types, moments(types, 2))
    server = Server(InProcessEngine(make_boxes), RosConfig(update_poses=True))
    replay_bag(source, tmp_path / "out", server, types=types, options=ReplayOptions(copy_inputs=True))
    return tmp_path / "out"


def test_the_rviz_configuration_displays_topics_that_are_published(tmp_path: Path, types: BagMessageTypes) -> None:
    config = yaml.safe_load((ROOT / "config" / "recon.rviz").read_text())["Visualization Manager"]
    shown = {item["Topic"]["Value"]: item for item in config["Displays"] if "Topic" in item}
    assert {item["Class"] for item in shown.values()} <= DISPLAYS.keys() and len(shown) == 3
    text = (ROOT / "cupid_ros" / "outputs.py").read_text()
    for topic, item in shown.items():
        kind = DISPLAYS[item["Class"]]
        assert f'"{topic.lstrip("/")}": ("{kind}", ' in text, f"{topic} is not published as {kind}"
        # As the publishers are: else a display that starts late stays empty, or gets nothing at all.
        assert item["Topic"]["Durability Policy"] == "Transient Local"
        assert item["Topic"]["Reliability Policy"] == "Reliable"
    with Reader(bag_of(tmp_path, types)) as reader:
        recorded = {connection.topic: connection.msgtype for connection in reader.connections}
        for topic in shown.keys() - {"/cupid/points"}:
            assert recorded[topic] == DISPLAYS[shown[topic]["Class"]]
        markers = next(
            types.decode(bytes(data), connection.msgtype)
            for connection, _, data in reader.messages()
            if connection.topic == "/cupid/markers"
        )
    assert {marker.ns for marker in markers.markers} == set(shown["/cupid/markers"]["Namespaces"])


def test_an_mcap_file_is_read_with_nothing_but_the_schemas_in_it(tmp_path: Path, types: BagMessageTypes) -> None:
    (path,) = bag_of(tmp_path, types).glob("*.mcap")
    seen: dict[str, list[Any]] = {}
    with path.open("rb") as stream:
        for schema, channel, message in make_reader(stream).iter_messages():
            assert schema is not None and schema.encoding == "ros2msg" and channel.message_encoding == "cdr"
            store = get_typestore(Stores.EMPTY)
            store.register(get_types_from_msg(schema.data.decode(), schema.name))
            seen.setdefault(channel.topic, []).append(store.deserialize_cdr(message.data, schema.name))
    assert {"/cupid/objects", "/tf", "/cupid/markers", "/cupid/detections", "/cupid/overlay"} < seen.keys()
    objects = seen["/cupid/objects"][0].objects
    assert [item.id for item in objects] == ["1", "2"] and len(objects[0].mesh.vertices) == 8
    assert objects[0].quality.reasons == ["It is a box."]
    assert [item.child_frame_id for item in seen["/tf"][0].transforms] == ["cupid/1", "cupid/2"]
