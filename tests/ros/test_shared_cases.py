"""Recordings as people send them, where they lie beside the checkout; each kind has tests of its own elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving_stubs import make_boxes
from test_bag import read

from cupid_core.config import RosConfig
from cupid_core.serving.engine import InProcessEngine
from cupid_core.serving.server import Server
from cupid_ros.bag import Replay, replay_bag
from cupid_ros.errors import BagError
from cupid_ros.messages import BagMessageTypes

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
pytestmark = pytest.mark.skipif(
    not CASES.is_dir(), reason=f"the recordings are not beside this checkout ({CASES})"
)


def replay(name: str, target: Path) -> Replay:
    return replay_bag(CASES / name, target, Server(InProcessEngine(make_boxes), RosConfig(update_poses=True)))


@pytest.mark.parametrize(
    ("name", "objects", "metric", "problems"),
    [
        ("bag_ros1_and_parts/parts", 2, True, {}),
        ("bag_ros1_and_parts/zstd", 1, True, {}),
        ("compressed_format_words/upper", 1, True, {}),
        ("compressed_format_words/empty", 1, True, {}),
        ("depth_of_another_frame/bag", 1, False, {"invalid_message": 1}),
        ("detections_78_images_late/bag", 2, False, {}),
        ("ids_same_tf_frame_space/bag", 2, True, {}),
        ("labels_32sc1_depth_16sc1/labels_32sc1", 1, True, {}),
        ("labels_32sc1_depth_16sc1/depth_16sc1", 1, True, {}),
        ("labels_jpeg_topic/bag", 0, False, {"unsupported_encoding": 1}),
        ("stamps_start_again/bag", 4, True, {}),
    ],
)
def test_a_recording_gives_the_right_objects_or_says_what_is_wrong(
    tmp_path: Path, types: BagMessageTypes, name: str, objects: int, metric: bool, problems: dict[str, int]
) -> None:
    done = replay(name, tmp_path / "out")
    assert (done.objects, dict(done.problems)) == (objects, problems)
    out = read(tmp_path / "out", types)
    frames = [item.child_frame_id for _, message in out.get("/tf", []) for item in message.transforms]
    assert len(frames) == (objects if metric else 0)
    if name.startswith("ids"):
        assert sorted(frames) == ["cupid/mug%201", "cupid/mug_1"]


def test_a_bag_of_ros_1_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(BagError, match="ROS 1"):
        replay("bag_ros1_and_parts/rec.bag", tmp_path / "out")


def test_images_of_a_looped_source_keep_their_own_labels(tmp_path: Path) -> None:
    """Every image with the labels and boxes that were recorded with it, though two stamps occur twice."""
    seen = []

    class Watching(Server):
        def offer(self, frame):  # type: ignore[no-untyped-def]
            box, labels = frame.detections[0].box, frame.labels
            columns = (labels == 2).nonzero()[1]
            seen.append((box, columns.min(), columns.max() + 1))
            return super().offer(frame)

    replay_bag(
        CASES / "stamps_start_again/bag",
        tmp_path / "out",
        Watching(InProcessEngine(make_boxes), RosConfig(update_poses=True)),
    )
    assert len(seen) == 4
    for box, left, right in seen:
        assert box[0] == pytest.approx(left, abs=1.5) and box[2] == pytest.approx(right, abs=1.5)
