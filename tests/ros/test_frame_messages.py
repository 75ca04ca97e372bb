"""Messages of one image to a frame: what is required, what is optional, and what is reported."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_stubs import SECOND, camera, detection, make_boxes, resident_kb

from cupid_core.config.ros import RosInputConfig
from cupid_core.errors import CupidError
from cupid_core.serving.engine import InProcessEngine
from cupid_core.serving.errors import NoObjectsError
from cupid_core.serving.frames import Stamped
from cupid_core.serving.records import CameraValues, Observation
from cupid_core.serving.server import Server
from cupid_ros.convert.camera import make_camera_info
from cupid_ros.convert.detections import make_detections
from cupid_ros.convert.image import make_image
from cupid_ros.diagnostics import WARN, ProblemWatch
from cupid_ros.errors import InvalidMessageError
from cupid_ros.frame_messages import FrameMessages, read_frame
from cupid_ros.messages import BagMessageTypes

NOW = Stamped(100 * SECOND, "camera")


def labels_of(x: int) -> np.ndarray:
    """1 where `detection` has its box."""
    labels = np.zeros((48, 64), np.uint8)
    labels[10:20, x : x + 10] = 1
    return labels


def messages(types: BagMessageTypes, **changes: Any) -> FrameMessages:
    now = Stamped(100 * SECOND, "camera")
    parts: dict[str, Any] = {
        "image": make_image(types, np.zeros((48, 64, 3), np.uint8), "bgr8", now),
        "camera_info": make_camera_info(types, camera(), now),
        "depth": make_image(types, np.full((48, 64), 700, np.uint16), "16UC1", now),
        "labels": make_image(types, labels_of(5), "mono8", now),
        "detections": make_detections(types, [detection("1", 5)], now),
    }
    return FrameMessages(**{**parts, **changes})


def test_a_complete_frame_is_read(types: BagMessageTypes) -> None:
    read = read_frame(messages(types))
    assert read.stamped == Stamped(100 * SECOND, "camera") and not read.problems
    assert read.camera is not None and CameraValues.of(read.camera) == CameraValues.of(camera())
    assert read.depth is not None and read.labels is not None
    assert float(read.depth.depth_m[0, 0]) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("part", "code"),
    [("detections", "stamp_mismatch"), ("labels", "stamp_mismatch"), ("camera_info", "invalid_camera")],
)
def test_an_unusable_required_message_is_an_error(types: BagMessageTypes, part: str, code: str) -> None:
    given_ = messages(types)
    message = getattr(given_, part)
    if part == "camera_info":
        message.k = np.zeros(9)
    else:
        message.header.stamp.nanosec += 30_000_000
    with pytest.raises(CupidError) as caught:
        read_frame(given_)
    assert caught.value.code == code and caught.value.hint
    read_frame(messages(types), RosInputConfig(sync_slop_s=0.0))


def test_unusable_depth_is_left_out_and_reported(types: BagMessageTypes) -> None:
    now, late = Stamped(100 * SECOND, "camera"), Stamped(101 * SECOND, "camera")
    small = np.full((24, 32), 700, np.uint16)
    for depth, code in (
        (make_image(types, small, "16UC1", now), "image_size"),
        (make_image(types, np.full((48, 64), 700, np.uint16), "16UC1", late), "stamp_mismatch"),
        (make_image(types, np.zeros((48, 64), np.uint16), "16UC1", now), "invalid_depth"),
        (make_image(types, np.zeros((48, 64), np.uint8), "mono8", now), "unsupported_encoding"),
    ):
        read = read_frame(messages(types, depth=depth))
        assert read.depth is None and [problem.code for problem in read.problems] == [code]


def test_invalid_boxes_are_reported_and_without_labels_an_error(types: BagMessageTypes) -> None:
    bad = make_detections(types, [detection("1", 5)], Stamped(100 * SECOND, "camera"))
    bad.detections[0].bbox.size_x = math.nan
    assert [problem.code for problem in read_frame(messages(types, detections=bad)).problems] == [
        "invalid_detection"
    ]
    with pytest.raises(NoObjectsError, match="nan"):
        read_frame(messages(types, detections=bad, labels=None))


def test_an_empty_list_of_detections_is_an_empty_frame_and_no_problem(types: BagMessageTypes) -> None:
    nothing = make_detections(types, [], NOW)
    unlabeled = make_image(types, np.zeros((48, 64), np.uint8), "mono8", NOW)
    for given in (
        messages(types, detections=nothing, labels=None),
        messages(types, detections=nothing, labels=unlabeled),
        messages(types, detections=None, labels=unlabeled),
    ):
        read = read_frame(given)
        assert read.labels is None and read.detections == () and not read.problems
        server = Server(InProcessEngine(make_boxes))
        assert server.offer(read) is None and server.stats.problems == 0
    with pytest.raises(NoObjectsError, match="neither"):
        read_frame(messages(types, detections=None, labels=None))


def test_detections_below_the_score_are_not_there(types: BagMessageTypes) -> None:
    weak = make_detections(types, [detection("1", 5, 0.2)], NOW)
    given = messages(types, detections=weak, labels=None, depth=None)
    assert read_frame(given, RosInputConfig(min_score=0.5)).detections == ()


def test_an_image_without_a_frame_is_refused(types: BagMessageTypes) -> None:
    given = messages(types)
    given.image.header.frame_id = ""
    with pytest.raises(InvalidMessageError, match="empty frame_id") as caught:
        read_frame(given)
    assert caught.value.code == "invalid_message" and "optical" in str(caught.value.hint)


def test_detections_in_another_frame_are_refused(types: BagMessageTypes) -> None:
    elsewhere = make_detections(types, [detection("1", 5)], Stamped(NOW.stamp_ns, "map"))
    with pytest.raises(InvalidMessageError, match="'map'"):
        read_frame(messages(types, detections=elsewhere))
    inside = make_detections(types, [detection("1", 5)], NOW)
    inside.detections[0].header = elsewhere.header
    with pytest.raises(InvalidMessageError, match="'map'"):
        read_frame(messages(types, detections=inside))
    unnamed = make_detections(types, [detection("1", 5)], Stamped(NOW.stamp_ns, ""))
    assert len(read_frame(messages(types, detections=unnamed)).detections) == 1


@pytest.mark.parametrize("part", ["camera_info", "labels"])
def test_a_camera_or_labels_of_another_frame_are_refused(types: BagMessageTypes, part: str) -> None:
    given = messages(types)
    getattr(given, part).header.frame_id = "depth_optical"
    with pytest.raises(InvalidMessageError, match=r"/topic: .*'depth_optical'.*'camera'") as caught:
        read_frame(given, topics={part: "/topic"})
    assert caught.value.hint
    for name in ("/camera", "", "camera"):  # ROS 1 wrote a slash in front; who names no frame contradicts nothing
        getattr(given, part).header.frame_id = name
        assert not read_frame(given).problems


def test_depth_of_another_frame_is_left_out_and_reported(types: BagMessageTypes) -> None:
    given = messages(types)
    given.depth.header.frame_id = "depth_optical"  # type: ignore[union-attr]
    read = read_frame(given, topics={"depth": "/depth/image_rect_raw"})
    assert read.depth is None and [problem.code for problem in read.problems] == ["invalid_message"]
    assert "/depth/image_rect_raw" in str(read.problems[0]) and "aligned" in read.problems[0].hint


def test_a_box_beside_the_label_of_its_number_is_not_joined_with_it(types: BagMessageTypes) -> None:
    boxes = make_detections(types, [detection("track_1", 40), detection("left_1", 5)], NOW)
    read = read_frame(messages(types, detections=boxes))
    assert [item.labeled for item in read.detections] == [False, True]
    (problem,) = read.problems
    assert problem.code == "invalid_detection" and "track_1" in str(problem)
    server = Server(InProcessEngine(make_boxes))
    server.offer(read)
    (observation,) = server.collect()
    assert isinstance(observation, Observation)
    places = {item.id: item.translation[0] / item.translation[2] * 80.0 + 31.5 for item in observation.objects}
    assert places == {"track_1": pytest.approx(44.5, abs=1.0), "left_1": pytest.approx(9.5, abs=1.0)}


def assert_diagnosed(server: Server, code: str) -> None:
    """The diagnostics warn of the code."""
    status = ProblemWatch(server.stats).status("active")
    assert int(status.values[f"count of {code}"]) == 1 and status.level == WARN
    assert f"[{code}]" in status.message


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_reading_a_thousand_frames_keeps_no_memory(types: BagMessageTypes) -> None:
    sizes: list[int] = []
    for number in range(1000):
        read_frame(messages(types))
        if number % 50 == 49:
            sizes.append(resident_kb())
    slope_kb = float(np.polyfit(range(10, len(sizes)), sizes[10:], 1)[0]) / 50
    assert slope_kb < 5.0, sizes


def degraded(types: BagMessageTypes, what: str) -> FrameMessages:
    """The messages of one image, with one defect."""
    given = messages(types)
    image, info, boxes = given.image, given.camera_info, given.detections
    assert info is not None and boxes is not None
    changes: dict[str, Any] = {}
    if what == "wrong step":
        image.step = 3
    elif what == "too few bytes":
        image.data = image.data[:-1]
    elif what == "no height":
        image.height = 0
    elif what == "unknown encoding":
        image.encoding = "yuv999"
    elif what == "camera of zeros":
        for field in ("k", "d", "r", "p"):
            setattr(info, field, np.zeros_like(getattr(info, field)))
    elif what == "camera of another size":
        info.width += 1
    elif what == "detections of another stamp":
        boxes.header.stamp.sec += 1
    elif what == "labels of another size":
        changes["labels"] = make_image(types, np.ones((24, 32), np.uint8), "mono8", NOW)
    elif what == "box of NaN alone":
        boxes.detections[0].bbox.size_x = math.nan
        changes["labels"] = None
    elif what == "impossible stamp":
        boxes.header.stamp.nanosec = 2**32 - 1
    return FrameMessages(**{**vars(given), **changes})


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("wrong step", "image_size"),
        ("too few bytes", "image_size"),
        ("no height", "image_size"),
        ("unknown encoding", "unsupported_encoding"),
        ("camera of zeros", "invalid_camera"),
        ("camera of another size", "invalid_camera"),
        ("detections of another stamp", "stamp_mismatch"),
        ("labels of another size", "image_size"),
        ("box of NaN alone", "no_objects"),
        ("impossible stamp", "invalid_message"),
    ],
)
def test_unusable_messages_are_refused_with_their_code(types: BagMessageTypes, what: str, code: str) -> None:
    with pytest.raises(CupidError) as caught:
        read_frame(degraded(types, what))
    assert caught.value.code == code and caught.value.hint


@pytest.mark.parametrize(
    ("shape", "stamp_s", "code"), [((24, 32), 0, "image_size"), ((48, 64), 1, "stamp_mismatch")]
)
def test_objects_are_not_metric_where_depth_does_not_belong_to_the_image(
    types: BagMessageTypes, shape: tuple[int, int], stamp_s: int, code: str
) -> None:
    stamped = Stamped(NOW.stamp_ns + stamp_s * SECOND, NOW.frame_id)
    depth = make_image(types, np.full(shape, 700, np.uint16), "16UC1", stamped)
    server = Server(InProcessEngine(make_boxes))
    server.offer(read_frame(messages(types, depth=depth)))
    (observation,) = server.collect()
    assert isinstance(observation, Observation) and [item.is_metric for item in observation.objects] == [False]
    assert_diagnosed(server, code)


def test_an_invalid_box_does_not_affect_a_good_one(types: BagMessageTypes) -> None:
    boxes = make_detections(types, [detection("bad", 5), detection("good", 30)], NOW)
    boxes.detections[0].bbox.center.position.x = math.nan
    server = Server(InProcessEngine(make_boxes))
    server.offer(read_frame(messages(types, detections=boxes, labels=None)))
    (observation,) = server.collect()
    assert isinstance(observation, Observation) and [item.id for item in observation.objects] == ["good"]
    assert_diagnosed(server, "invalid_detection")
