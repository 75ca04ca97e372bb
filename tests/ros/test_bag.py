"""`cupid bag`: bags of both formats and distributions in, what the node would publish out; damaged ones too."""

from __future__ import annotations

import random
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from mcap.writer import Writer as McapWriter
from rich.console import Console
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from serving_stubs import make_boxes

from cupid_core.config import RosConfig
from cupid_core.errors import CupidError
from cupid_core.geometry.camera import Camera
from cupid_core.serving.engine import InProcessEngine
from cupid_core.serving.frames import Detection, Stamped
from cupid_core.serving.server import Server
from cupid_ros.bag import Replay, ReplayOptions, replay_bag
from cupid_ros.bag_reader import BagReader, Topic
from cupid_ros.bag_topics import BagTopics, detect_topics
from cupid_ros.command import BagOptions, run_bag
from cupid_ros.convert.camera import make_camera_info
from cupid_ros.convert.detections import make_detections
from cupid_ros.convert.header import make_header, read_header
from cupid_ros.convert.image import make_image
from cupid_ros.errors import BagError, MissingTopicError
from cupid_ros.messages import BagMessageTypes

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "tabletop_rgbd" / "bag"
FRAME = "camera_color_optical_frame"
START = 1_700_000_000_000_000_007
STEP = 33_333_333
COLOR, INFO = "/camera/color/image_raw", "/camera/color/camera_info"
DEPTH, LABELS, BOXES = "/camera/aligned_depth_to_color/image_raw", "/seg/label_image", "/detections"


def camera() -> Camera:
    return Camera.from_parameters(fx=80.0, fy=80.0, cx=31.5, cy=23.5, width=64, height=48)


def moments(types: BagMessageTypes, count: int, enlarge: int = 1) -> list[tuple[str, int, Any]]:
    """Messages of `count` images with two objects; detections come later, as from a real detector."""
    rng = np.random.default_rng(0)
    found: list[tuple[str, int, Any]] = []
    for number in range(count):
        stamped, time_ns = Stamped(START + number * STEP, FRAME), START + number * STEP + 5_000_000
        labels = np.zeros((48, 64), np.uint8)
        labels[10:20, 10 + number : 30 + number], labels[30:40, 40:50] = 1, 2
        depth = np.where(labels == 1, 500, np.where(labels == 2, 800, 0)).astype(np.uint16)
        labels, depth = (np.kron(values, np.ones((enlarge, enlarge), values.dtype)) for values in (labels, depth))
        image = rng.integers(0, 255, (*labels.shape, 3), dtype=np.uint8)
        boxes = [
            Detection("1", "mug", 0.9, (10.0 + number, 10.0, 30.0 + number, 20.0)),
            Detection("2", "box", 0.8, (40.0, 30.0, 50.0, 40.0)),
        ]
        found += [
            (INFO, time_ns, make_camera_info(types, camera().resize(64 * enlarge, 48 * enlarge), stamped)),
            (COLOR, time_ns, make_image(types, image, "rgb8", stamped)),
            (DEPTH, time_ns + 1, make_image(types, depth, "16UC1", stamped)),
            (LABELS, time_ns + 90_000_000, make_image(types, labels, "mono8", stamped)),
            (BOXES, time_ns + 90_000_001, make_detections(types, boxes, stamped)),
        ]
    return sorted(found, key=lambda item: item[1])


def write(folder: Path, types: BagMessageTypes, items: list[tuple[str, int, Any]], kind: str = "mcap") -> Path:
    plugin = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}[kind]
    with Writer(folder, version=8, storage_plugin=plugin) as writer:
        connections: dict[str, Any] = {}
        for topic, time_ns, message in items:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=types.store)
            writer.write(connections[topic], time_ns, types.encode(message))
    return folder


def read(folder: Path, types: BagMessageTypes) -> dict[str, list[tuple[int, Any]]]:
    found: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    with Reader(folder) as reader:
        for connection, time_ns, data in reader.messages():
            found[connection.topic].append((time_ns, types.decode(bytes(data), connection.msgtype)))
    return found


def replay(source: Path, target: Path, types: BagMessageTypes, *, every: bool = True, **options: Any) -> Replay:
    server = Server(InProcessEngine(make_boxes), RosConfig(update_poses=every))
    return replay_bag(source, target, server, types=types, options=ReplayOptions(**options))


@pytest.mark.parametrize(("distribution", "kind"), [("humble", "mcap"), ("jazzy", "sqlite3")])
def test_the_output_holds_what_the_node_publishes(tmp_path: Path, kind: str, distribution: str) -> None:
    types = BagMessageTypes.of(distribution)  # type: ignore[arg-type]
    source = write(tmp_path / "in", types, moments(types, 3), kind)
    done = replay(source, tmp_path / "out", types, storage=kind, copy_inputs=True)
    assert (done.frames, done.observations, done.objects, done.warnings, dict(done.problems)) == (3, 3, 6, [], {})
    out = read(tmp_path / "out", types)
    published = {"/cupid/objects", "/tf", "/cupid/markers", "/cupid/detections", "/cupid/overlay"}
    assert set(out) == published | {COLOR, INFO, DEPTH, LABELS, BOXES}
    for number in range(3):
        stamped, time_ns = Stamped(START + number * STEP, FRAME), START + number * STEP + 5_000_000
        for topic in published:
            assert out[topic][number][0] == time_ns, "recorded when the image was"
        objects = out["/cupid/objects"][number][1]
        assert read_header(objects) == stamped
        assert [(item.id, item.class_id, item.score) for item in objects.objects] == [
            ("1", "mug", pytest.approx(0.9)), ("2", "box", pytest.approx(0.8)),
        ]  # fmt: skip
        transforms = out["/tf"][number][1].transforms
        assert [item.child_frame_id for item in transforms] == ["cupid/1", "cupid/2"]
        assert [item.transform.translation.z for item in transforms] == pytest.approx([0.5, 0.8])
        for sent in (*transforms, *out["/cupid/markers"][number][1].markers, objects):
            assert read_header(sent) == stamped
    again = [data for connection, _, data in _raw(tmp_path / "out") if connection == COLOR]
    assert again == [data for connection, _, data in _raw(source) if connection == COLOR]


def _raw(folder: Path) -> list[tuple[str, int, bytes]]:
    with Reader(folder) as reader:
        return [(connection.topic, time_ns, bytes(data)) for connection, time_ns, data in reader.messages()]


def test_known_objects_are_reconstructed_again_only_with_every_frame(
    tmp_path: Path, types: BagMessageTypes
) -> None:
    source = write(tmp_path / "in", types, moments(types, 3))
    assert replay(source, tmp_path / "out", types, every=False).objects == 2


def test_without_labels_boxes_are_segmented_and_without_detections_labels_are_objects(
    tmp_path: Path, types: BagMessageTypes
) -> None:
    items = moments(types, 1)
    boxes = write(tmp_path / "boxes", types, [item for item in items if item[0] != LABELS])
    labels = write(tmp_path / "labels", types, [item for item in items if item[0] != BOXES])
    for source in (boxes, labels):
        assert replay(source, tmp_path / f"{source.name}_out", types).objects == 2
        out = read(tmp_path / f"{source.name}_out", types)
        assert [item.child_frame_id for item in out["/tf"][0][1].transforms] == ["cupid/1", "cupid/2"]


def test_without_depth_there_is_no_transform(tmp_path: Path, types: BagMessageTypes) -> None:
    source = write(tmp_path / "in", types, [item for item in moments(types, 1) if item[0] != DEPTH])
    replay(source, tmp_path / "out", types)
    out = read(tmp_path / "out", types)
    assert out["/tf"][0][1].transforms == [] and out["/cupid/markers"][0][1].markers == []
    (objects,) = (message for _, message in out["/cupid/objects"])
    assert {item.scale_source for item in objects.objects} == {0}


def test_unusable_messages_are_reported_and_the_replay_continues(tmp_path: Path, types: BagMessageTypes) -> None:
    items = moments(types, 3)
    for topic, time_ns, message in items:
        if topic == DEPTH and time_ns < START + STEP:
            message.step = 3  # the first depth image
        if topic == COLOR and time_ns > START + 2 * STEP:
            message.encoding = "rggb"  # the last image
    done = replay(write(tmp_path / "in", types, items), tmp_path / "out", types)
    assert dict(done.problems) == {"image_size": 1, "unsupported_encoding": 1}
    sources = [
        [item.scale_source for item in message.objects]
        for _, message in read(tmp_path / "out", types)["/cupid/objects"]
    ]
    assert sources == [[0, 0], [1, 1]]


@pytest.mark.parametrize("share", [0.5, 0.7, 0.97])
def test_a_truncated_bag_is_read_up_to_the_end(tmp_path: Path, types: BagMessageTypes, share: float) -> None:
    source = write(tmp_path / "in", types, moments(types, 8, enlarge=6))  # more than one chunk
    (path,) = source.glob("*.mcap")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    done = replay(source, tmp_path / "out", types)
    assert 0 < done.frames < 8 or share > 0.9
    assert done.objects == 2 * done.frames
    assert any("damaged" in warning for warning in done.warnings)


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
def test_a_bag_without_metadata_is_read(tmp_path: Path, types: BagMessageTypes, kind: str) -> None:
    source = write(tmp_path / "in", types, moments(types, 2), kind)
    (source / "metadata.yaml").unlink()
    done = replay(source, tmp_path / "out", types)
    assert done.objects == 4 and any("metadata" in warning for warning in done.warnings)
    (single,) = (path for path in source.iterdir() if path.suffix in (".mcap", ".db3"))
    assert replay(single, tmp_path / "out2", types).objects == 4


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
def test_parts_without_metadata_are_read_together_in_the_order_of_recording(
    tmp_path: Path, types: BagMessageTypes, kind: str
) -> None:
    items = moments(types, 4)
    (tmp_path / "in").mkdir()
    # Cut in the middle of an image, so that its detections are in the other part; names that sort otherwise.
    for name, part in (("x_10", items[9:]), ("x_9", items[:9])):
        source = write(tmp_path / name, types, part, kind)
        (path,) = (path for path in source.iterdir() if path.suffix != ".yaml")
        path.rename(tmp_path / "in" / path.name)
    done = replay(tmp_path / "in", tmp_path / "out", types)
    assert (done.frames, done.objects) == (4, 8) and ["metadata" in warning for warning in done.warnings] == [True]
    stamps = [read_header(message).stamp_ns for _, message in read(tmp_path / "out", types)["/cupid/objects"]]
    assert stamps == [START + number * STEP for number in range(4)]


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
def test_compressed_files_and_messages_are_read_without_metadata(
    tmp_path: Path, types: BagMessageTypes, kind: str
) -> None:
    source = write(tmp_path / "in", types, moments(types, 2), kind)
    (source / "metadata.yaml").unlink()
    (path,) = source.iterdir()
    packed = source / f"{path.name}.zstd"
    packed.write_bytes(zstandard.ZstdCompressor().compress(path.read_bytes()))
    path.unlink()
    assert replay(source, tmp_path / "out", types).objects == 4
    assert replay(packed, tmp_path / "out2", types).objects == 4
    # Cut off, and a file without any topic: said of the file that was given, not of a copy of it.
    packed.write_bytes(packed.read_bytes()[:-200])
    with pytest.raises(BagError, match=re.escape(str(packed))):
        replay(packed, tmp_path / "nothing", types)
    with Writer(tmp_path / "bare", version=8, storage_plugin=StoragePlugin[kind.upper()]):
        pass
    (tmp_path / "bare" / "metadata.yaml").unlink()
    with pytest.raises(MissingTopicError, match="No topics"):
        replay(tmp_path / "bare", tmp_path / "nothing", types)
    # Compressed message by message, as `ros2 bag record --compression-mode message` does.
    each = Writer(tmp_path / "each", version=8, storage_plugin=StoragePlugin[kind.upper()])
    each.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with each as writer:
        connections: dict[str, Any] = {}
        for topic, time_ns, message in moments(types, 2):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=types.store)
            writer.write(connections[topic], time_ns, types.encode(message))
    (tmp_path / "each" / "metadata.yaml").unlink()
    assert replay(tmp_path / "each", tmp_path / "out3", types).objects == 4


def test_a_missing_part_and_a_damaged_one_do_not_cost_the_others(tmp_path: Path, types: BagMessageTypes) -> None:
    source = write(tmp_path / "in", types, moments(types, 2), "sqlite3")
    text = (source / "metadata.yaml").read_text()
    (source / "metadata.yaml").write_text(text.replace("in.db3", "in_0.db3"))
    done = replay(source / "metadata.yaml", tmp_path / "out", types)
    assert done.objects == 4 and "in_0.db3" in done.warnings[0] and "metadata.yaml" in done.warnings[0]
    (source / "metadata.yaml").unlink()
    (source / "in_1.db3").write_bytes(b"SQLite format 3\0" + bytes(500))
    done = replay(source, tmp_path / "out2", types)
    assert done.objects == 4 and "in_1.db3" in done.warnings[0] and ".recover" in done.warnings[0]


def test_a_bag_of_ros_1_is_named_as_such_whatever_its_name(tmp_path: Path, types: BagMessageTypes) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("rec.bag", "rec.bag.active", "rec.db3", "folder/rec.bag"):
        path = tmp_path / name
        path.write_bytes(b"#ROSBAG V2.0\n" + bytes(100))
        with pytest.raises(BagError, match=r"bag of ROS 1.*rosbags-convert") as caught:
            replay(path.parent if path.parent.name == "folder" else path, tmp_path / "out", types)
        assert "recover" not in str(caught.value)
    beside = write(tmp_path / "both", types, moments(types, 1))
    (beside / "rec.bag").write_bytes(b"#ROSBAG V2.0\n")
    (beside / "metadata.yaml").rename(beside / "metadata.old")
    assert replay(beside, tmp_path / "out", types).objects == 2, "the file of ROS 2 beside it is read"
    for encoding, words in (("ros1msg", "ROS 1"), ("protobuf", "messages of protobuf, not of ROS 2")):
        with (tmp_path / "other.mcap").open("wb") as stream:
            other = McapWriter(stream)
            other.start(profile="ros1" if encoding == "ros1msg" else "")
            schema = other.register_schema("sensor_msgs/Image", encoding, b"")
            channel = other.register_channel("/image", encoding, schema)
            other.add_message(channel, 1, b"data", 1)
            other.finish()
        with pytest.raises(BagError, match=words):
            replay(tmp_path / "other.mcap", tmp_path / "out2", types)


@pytest.mark.parametrize(("name", "words"), [("a.txt", "no bag: its name"), ("folder", "no file that ends")])
def test_what_is_no_bag_is_not_blamed_on_sqlite(
    tmp_path: Path, types: BagMessageTypes, name: str, words: str
) -> None:
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "a.txt", tmp_path / "folder" / "a.txt"):
        path.write_text("text")
    with pytest.raises(BagError, match=words) as caught:
        replay(tmp_path / name, tmp_path / "out", types)
    assert "recover" not in str(caught.value)


def test_detections_that_come_seconds_late_find_their_images(tmp_path: Path, types: BagMessageTypes) -> None:
    items = [item for item in moments(types, 150) if item[0] in (COLOR, INFO, BOXES)]
    late = [
        (topic, time_ns + 2_600_000_000 if topic == BOXES else time_ns, message)
        for topic, time_ns, message in items
        if topic != BOXES or read_header(message).stamp_ns in (START, START + 20 * STEP)
    ]
    source = write(tmp_path / "in", types, sorted(late, key=lambda item: item[1]))
    done = replay(source, tmp_path / "out", types)
    stamps = [read_header(message).stamp_ns for _, message in read(tmp_path / "out", types)["/cupid/objects"]]
    assert stamps == [START, START + 20 * STEP] and not done.problems
    assert done.warnings == ["148 images are left out: they have no detections within 0.02 s of their stamp."]


@pytest.mark.parametrize("stamp_of", [lambda number: number % 2 * STEP, lambda number: -START])
def test_a_looped_source_and_stamps_that_were_never_set_mix_no_images(
    tmp_path: Path, types: BagMessageTypes, stamp_of: Any
) -> None:
    items = moments(types, 4)
    spread = []
    for topic, time_ns, message in items:
        number = (read_header(message).stamp_ns - START) // STEP
        message.header = make_header(types, Stamped(START + stamp_of(number), FRAME))
        # One image a second, with its messages at most 0.1 s later.
        spread.append((topic, time_ns + number * (10**9 - STEP), message))
    source = write(tmp_path / "in", types, sorted(spread, key=lambda item: item[1]))
    done = replay(source, tmp_path / "out", types)
    assert (done.frames, done.objects, dict(done.problems)) == (4, 8, {})
    places = [
        next(item.pose.pose.position.x for item in message.objects if item.id == "1") / 0.5 * 80 + 31.5
        for _, message in read(tmp_path / "out", types)["/cupid/objects"]
    ]
    assert places == pytest.approx([19.5, 20.5, 21.5, 22.5]), "label 1 moves by a pixel from image to image"


def test_an_error_names_the_topic_it_is_about(tmp_path: Path, types: BagMessageTypes) -> None:
    items = moments(types, 1)
    for topic, _, message in items:
        if topic == LABELS:
            message.encoding, message.data = "32FC1", np.zeros(48 * 64 * 4, np.uint8)
        if topic == DEPTH:
            message.header.frame_id = "camera_depth_optical_frame"
    done = replay(write(tmp_path / "in", types, items), tmp_path / "out", types)
    assert LABELS in done.texts["unsupported_encoding"] and "mono16" in done.texts["unsupported_encoding"]
    for _, _, message in items:
        if getattr(message, "encoding", "") == "32FC1":
            message.encoding, message.data = "mono8", np.ones(48 * 64, np.uint8)
    done = replay(write(tmp_path / "in2", types, items), tmp_path / "out2", types)
    assert DEPTH in done.texts["invalid_message"] and "camera_depth_optical_frame" in done.texts["invalid_message"]


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
def test_damaged_files_give_what_they_hold_or_one_of_our_errors(
    tmp_path: Path, types: BagMessageTypes, kind: str
) -> None:
    source = write(tmp_path / "in", types, moments(types, 3), kind)
    (path,) = (path for path in source.iterdir() if path.suffix != ".yaml")
    data = path.read_bytes()
    outcomes = Counter[str]()
    for number in range(30):
        draw = random.Random(number)
        damaged, at = bytearray(data), draw.randrange(len(data))
        if number % 3 == 0:
            damaged[at : at + 300] = bytes(len(damaged[at : at + 300]))
        elif number % 3 == 1:
            del damaged[at:]
        else:
            for _ in range(20):
                damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / path.name).write_bytes(damaged)
        if number % 2:
            shutil.copy(source / "metadata.yaml", folder)
        try:
            done = replay(folder, tmp_path / f"out_{number}", types)
            outcomes["objects"] += done.objects <= 6
        except CupidError as error:
            outcomes[error.code] += 1
            assert error.hint and not (tmp_path / f"out_{number}").exists()
    assert sum(outcomes.values()) == 30 and outcomes["objects"] > 5 and outcomes["bag_failed"] > 1, outcomes


def test_an_unreadable_bag_leaves_no_output(tmp_path: Path, types: BagMessageTypes) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "noise.mcap").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "noise.db3").write_bytes(bytes(range(256)) * 9)
    for name in ("absent", "empty", "noise.mcap", "noise.db3"):
        with pytest.raises(BagError):
            replay(tmp_path / name, tmp_path / "out", types)
        assert not (tmp_path / "out").exists()
    source = write(tmp_path / "in", types, [item for item in moments(types, 2) if item[0] not in (LABELS, BOXES)])
    with pytest.raises(BagError, match="detections"):
        replay(source, tmp_path / "out", types)
    assert not (tmp_path / "out").exists()
    with pytest.raises(BagError, match="exists"):
        replay(write(tmp_path / "good", types, moments(types, 1)), source, types)


def test_topics_are_found_by_type_and_name() -> None:
    image, packed, info = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"
    bag = [
        Topic("/cam/color/image_raw", image, 9), Topic("/cam/color/image_raw/compressed", packed, 9),
        Topic("/cam/color/camera_info", info, 9), Topic("/cam/depth/camera_info", info, 9),
        Topic("/cam/depth/image_rect_raw", image, 9), Topic("/cam/aligned_depth_to_color/image_raw", image, 9),
        Topic("/cam/infra1/image_rect_raw", image, 9), Topic("/seg/label_image", image, 9),
        Topic("/detections", "vision_msgs/msg/Detection2DArray", 9), Topic("/tf", "tf2_msgs/msg/TFMessage", 9),
    ]  # fmt: skip
    assert detect_topics(bag) == BagTopics(
        "/cam/color/image_raw", "/cam/color/camera_info", "/cam/aligned_depth_to_color/image_raw",
        "/seg/label_image", "/detections",
    )  # fmt: skip
    assert detect_topics(bag, BagTopics(depth="-")).depth == ""
    only = detect_topics([Topic("/a/image/compressed", packed, 1), Topic("/a/camera_info", info, 1)])
    assert (only.image, only.camera_info) == ("/a/image/compressed", "/a/camera_info")
    with pytest.raises(MissingTopicError, match="Several"):
        detect_topics([Topic("/left/image", image, 1), Topic("/right/image", image, 1)])
    with pytest.raises(MissingTopicError, match="No topics"):
        detect_topics([Topic("/tf", "tf2_msgs/msg/TFMessage", 1)])
    with pytest.raises(MissingTopicError, match="absent"):
        detect_topics(bag, BagTopics(image="/nowhere"))
    with pytest.raises(MissingTopicError, match="CameraInfo"):
        detect_topics(bag, BagTopics(image="/cam/color/camera_info"))


def test_the_command_says_how_far_it_is_without_a_terminal(
    tmp_path: Path, types: BagMessageTypes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cupid_ros.command.SECONDS_PER_LINE", 0.0)
    source = write(tmp_path / "in", types, moments(types, 2))
    console = Console(record=True, width=200)
    assert run_bag(source, tmp_path / "out", BagOptions(every_frame=True), console, make_job=make_boxes) == 0
    lines = console.export_text().splitlines()
    shares = [
        int(found.group(1)) for line in lines if (found := re.search(r" (\d+)% of the messages after", line))
    ]
    assert shares == sorted(shares) and shares[-1] == 100 and any(0 < share < 100 for share in shares)
    assert "2 images, 4 objects in 2" in lines[-1]


def test_the_command_replays_the_example_bag(tmp_path: Path, types: BagMessageTypes) -> None:
    if not SHARED.is_dir():
        pytest.skip(f"the example bag is not beside this checkout ({SHARED} is absent)")
    console = Console(record=True, width=200)
    assert run_bag(SHARED, tmp_path / "out", BagOptions(), console, make_job=make_boxes) == 0
    assert "1 images, 5 objects in 1" in console.export_text()
    out = read(tmp_path / "out", types)
    (time_ns, transforms), (_, objects) = out["/tf"][0], out["/cupid/objects"][0]
    assert time_ns == 1_700_000_000_000_000_000
    assert [item.child_frame_id for item in transforms.transforms] == [f"cupid/{number}" for number in range(1, 6)]
    assert all(0.3 < item.transform.translation.z < 2.0 for item in transforms.transforms)
    with BagReader(SHARED) as bag:
        sent = [types.decode(m.data, m.topic.type) for m in bag.messages() if m.topic.name == COLOR]
    assert read_header(objects) == read_header(sent[0])
