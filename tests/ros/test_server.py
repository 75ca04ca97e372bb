"""The server: who is who over images, what is ordered when, and that nothing stale or unnamed comes out."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_job import make_boxes

from cupid_core.config import CupidConfig, RosConfig
from cupid_core.config.ros import RosInputConfig, RosTrackingConfig, RosWorkerConfig
from cupid_core.errors import CupidError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.distortion import Distortion
from cupid_core.perception.segmenters import build_segmenter
from cupid_core.scene.association import Region, associate, overlap, shift
from cupid_core.types import DepthMap, ScaleSource
from cupid_ros.convert.camera import make_camera_info, same_camera
from cupid_ros.convert.detections import Detection, make_detections
from cupid_ros.convert.header import Stamped
from cupid_ros.convert.image import make_image
from cupid_ros.errors import NoObjectsError
from cupid_ros.identity import Identities
from cupid_ros.intake import CameraFrame, FrameMessages, read_frame
from cupid_ros.job import CameraValues, CupidJob, MakeCupidJob, SceneRequest
from cupid_ros.messages import BagMessageTypes
from cupid_ros.results import Observation
from cupid_ros.server import Failed, Server
from cupid_ros.tickets import InProcess
from cupid_ros.worker import Worker

SECOND = 10**9


def camera() -> Camera:
    return Camera.from_parameters(fx=80.0, fy=80.0, cx=31.5, cy=23.5, width=64, height=48)


def frame(*detections: Detection, at_s: float = 0.0, **changes: Any) -> CameraFrame:
    values: dict[str, Any] = {
        "stamped": Stamped(100 * SECOND + round(at_s * SECOND), "camera"),
        "image": np.zeros((48, 64, 3), np.uint8),
        "camera": camera(),
        "depth": DepthMap(torch.full((48, 64), 0.7), ScaleSource.SENSOR, 0.01),
        "labels": None,
        "detections": detections,
    }
    return CameraFrame(**{**values, **changes})


def found(id_: str, x: float, score: float | None = 0.5, size: float = 10.0) -> Detection:
    return Detection(id_, "mug", score, (x, 10.0, x + size, 10.0 + size))


def ids(results: list[Observation | Failed]) -> list[list[str]]:
    return [[item.id for item in result.objects] for result in results if isinstance(result, Observation)]


def server(**changes: Any) -> Server:
    return Server(InProcess(make_boxes), RosConfig(**changes))


def test_each_object_is_reconstructed_once_and_again_after_clear() -> None:
    it = server()
    it.offer(frame(found("1", 5), found("2", 40)))
    assert ids(it.collect()) == [["1", "2"]]
    assert it.offer(frame(found("1", 6), found("2", 41), at_s=0.1)) is None
    it.offer(frame(found("1", 7), found("3", 20), at_s=0.2))
    assert ids(it.collect()) == [["3"]]
    stamped, record = it.latest("3")
    assert (stamped.stamp_ns, record.class_id, record.score) == (100 * SECOND + SECOND // 5, "mug", 0.5)
    assert sorted(it.clear()) == [1, 2, 3]
    with pytest.raises(NoObjectsError):
        it.latest("3")
    it.offer(frame(found("3", 20), at_s=0.3))
    assert ids(it.collect()) == [["3"]]


def test_on_request_only_what_is_asked_for() -> None:
    it = server(mode="on_request")
    with pytest.raises(NoObjectsError, match="No image"):
        it.request()
    assert it.offer(frame(found("1", 5), found("2", 40))) is None
    order = it.request(ids=["2"], preset="best")
    assert order.ticket.request.samples == 4 and order.ticket.request.refine
    assert ids(it.collect()) == [["2"]]
    with pytest.raises(NoObjectsError, match="'9'"):
        it.request(ids=["2", "9"])
    it.request(detections=[found("7", 30)])
    assert ids(it.collect()) == [["7"]]


def test_what_is_not_asked_for_may_still_hide_it() -> None:
    it = server(mode="on_request")
    it.offer(frame(found("1", 5), found("2", 12), found("3", 40)))
    request = it.request(ids=["2"]).ticket.request
    assert list(request.boxes) == [2] and request.numbers == ()
    assert list(request.boxes_beside) == [1], "3 is far away"
    labels = np.zeros((48, 64), np.uint16)
    labels[10:20, 5:15], labels[10:20, 15:30] = 1, 2
    it.offer(frame(labels=labels, at_s=1.0))
    request = it.request(ids=["1"]).ticket.request
    assert (request.numbers, request.numbers_beside, request.boxes_beside) == ((1,), (2,), {})


def test_the_networks_get_the_masks_of_all_and_are_asked_for_some() -> None:
    class Listens:
        def reconstruct_scene(self, image: Any, masks: Any, **given: Any) -> Any:
            self.masks, self.only = sorted(masks), sorted(given["only"])
            raise NoObjectsError("Enough.", hint="None.")

    cupid, labels = Listens(), np.zeros((48, 64), np.int32)
    labels[10:20, 5:15], labels[10:20, 15:30] = 1, 2
    job = CupidJob(cast(Any, cupid), build_segmenter())
    pixels = {"image": np.zeros((48, 64, 3), np.uint8), "labels": labels}

    def run(**numbers: Any) -> None:
        job(SceneRequest(**numbers), pixels, lambda progress: None, lambda: False)

    with pytest.raises(NoObjectsError, match="Enough"):
        run(numbers=(1,), numbers_beside=(2, 5))
    assert (cupid.masks, cupid.only) == ([1, 2], [1])
    with pytest.raises(NoObjectsError, match="No pixel of the label image is 5") as caught:
        run(numbers=(5,), numbers_beside=(2, 6))
    assert "6" not in str(caught.value)


def test_an_object_that_fails_is_told_once() -> None:
    it = server()
    nowhere = Detection("4", "mug", 0.5, (500.0, 500.0, 510.0, 510.0))
    it.offer(frame(found("1", 5), nowhere))
    (seen,) = it.collect()
    assert isinstance(seen, Observation)
    assert {id_: error.code for id_, error in seen.failures.items()} == {"4": "no_objects"}
    assert "[no_objects]" in it.stats.last_error
    assert it.offer(frame(found("1", 5), nowhere, at_s=0.1)) is None


def test_only_the_best_objects_are_taken() -> None:
    it = server(input=RosInputConfig(max_objects=2))
    it.offer(frame(found("1", 5, 0.2), found("2", 40, None), found("3", 20, 0.9)))
    assert ids(it.collect()) == [["1", "3"]]


def test_another_camera_is_noticed() -> None:
    it = server()
    it.offer(frame(found("1", 5)))
    it.offer(frame(found("1", 5), at_s=0.1))
    assert it.stats.camera_changes == 0
    it.offer(frame(found("1", 5), at_s=0.2, camera=camera().crop(1, 0, 64, 48)))
    it.offer(frame(found("1", 5), at_s=0.3, camera=None))
    assert it.stats.camera_changes == 2


def test_without_metric_depth_objects_say_so() -> None:
    it = server()
    it.offer(frame(found("1", 5), depth=None))
    (seen,) = it.collect()
    assert isinstance(seen, Observation) and not seen.objects[0].is_metric


def test_the_worker_gives_the_same_and_a_busy_one_the_newest() -> None:
    with Worker(make_boxes, RosWorkerConfig()) as worker:
        it, plain = Server(worker, RosConfig(update_poses=True)), server()
        last = None
        for number in range(20):
            last = it.offer(frame(found("1", 5), at_s=number * 0.01))
        assert last is not None
        results: list[Observation | Failed] = []
        end = time.monotonic() + 60
        while not last.ticket.done and time.monotonic() < end:
            time.sleep(0.01)
        results = it.collect()
        plain.offer(frame(found("1", 5), at_s=0.19))
        (expected,) = plain.collect()
        newest = results[-1]
        assert isinstance(newest, Observation) and isinstance(expected, Observation)
        assert newest.stamp_ns == expected.stamp_ns
        np.testing.assert_array_equal(newest.objects[0].translation, expected.objects[0].translation)
        failed = {result.error.code for result in results if isinstance(result, Failed)}
        assert failed <= {"superseded"}


def test_ids_and_labels_belong_together() -> None:
    labels = np.zeros((48, 64), np.int32)
    labels[10:20, 5:15], labels[30:40, 40:50] = 7, 9
    targets, _ = Identities().targets(frame(labels=labels))
    assert [(target.number, target.id, target.box) for target in targets] == [(7, "7", None), (9, "9", None)]
    mixed = (
        replace(found("track_7", 5), box=None), found("mug", 40),
        replace(found("nine", 0), box=None), found("mug", 1),
    )  # fmt: skip
    targets, refused = Identities().targets(frame(*mixed, labels=labels))
    assert [(target.id, target.box is None) for target in targets] == [("track_7", True), ("mug", False)]
    assert targets[0].number == 7 and targets[1].number >= 100_000
    assert {id_: error.code for id_, error in refused.items()} == {
        "nine": "no_objects",
        "mug": "invalid_detection",
    }


def test_objects_without_ids_are_followed() -> None:
    it = Identities(RosTrackingConfig(forget_s=1.0))
    first, _ = it.targets(frame(found("", 5), found("", 40)))
    moved, _ = it.targets(frame(found("", 42), found("", 8), at_s=0.5))
    assert [target.id for target in moved] == [first[1].id, first[0].id]
    third, _ = it.targets(frame(found("", 8), found("", 42), found("", 25), at_s=0.9))
    assert [target.id for target in third[:2]] == [first[0].id, first[1].id]
    assert third[2].id not in {target.id for target in first}
    late, _ = it.targets(frame(found("", 8), at_s=3.0))
    assert late[0].id not in {target.id for target in third}
    again, _ = it.targets(frame(found("", 8), at_s=-50.0))
    assert again[0].id != late[0].id, "a clock that jumps back is another world"


def test_numbers_are_stable_and_memory_is_bounded() -> None:
    it = Identities(RosTrackingConfig(remember=8))
    numbers = {id_: it.targets(frame(found(id_, 5)))[0][0].number for id_ in ("a", "b", "a3", "b3")}
    assert len(set(numbers.values())) == 4
    assert {id_: it.targets(frame(found(id_, 5)))[0][0].number for id_ in numbers} == numbers
    for number in range(1000):
        it.targets(frame(found(f"object_{number}x", 5)))
    assert len(it._numbers) <= 8


boxes = st.builds(
    lambda x, y, w, h: Region((x, y, x + w, y + h)),
    st.floats(-50, 50), st.floats(-50, 50), st.floats(1, 30), st.floats(1, 30),
)  # fmt: skip


@given(first=boxes, second=boxes)
@settings(max_examples=60, deadline=None)
def test_overlap_is_a_similarity(first: Region, second: Region) -> None:
    assert overlap(first, first) == pytest.approx(1.0) and shift(first, first) == 0.0
    assert overlap(first, second) == overlap(second, first) and 0.0 <= overlap(first, second) <= 1.0 + 1e-9
    (x0, y0, x1, y1) = first.box
    half = Region((x0, y0, x1 + (x1 - x0), y1))
    assert overlap(first, half) == pytest.approx(0.5)
    assert overlap(first, Region((x0 + 1000, y0, x1 + 1000, y1))) == 0.0


@given(regions=st.lists(boxes, max_size=5), order=st.randoms())
@settings(max_examples=60, deadline=None)
def test_the_same_regions_are_found_again_in_any_order(regions: list[Region], order: Any) -> None:
    regions = [region for i, region in enumerate(regions) if all(overlap(region, r) < 0.99 for r in regions[:i])]
    places = list(range(len(regions)))
    order.shuffle(places)
    again = associate(regions, [regions[place] for place in places], min_iou=0.3, max_shift=0.5)
    assert again == places


def test_masks_decide_where_boxes_are_alike() -> None:
    mask = np.zeros((10, 10), bool)
    mask[:, :5] = True
    left, right = Region((0.0, 0.0, 10.0, 10.0), mask), Region((0.0, 0.0, 10.0, 10.0), ~mask)
    assert overlap(left, right) == 0.0 and overlap(left, Region(left.box)) == 1.0


def messages(types: BagMessageTypes, **changes: Any) -> FrameMessages:
    now = Stamped(100 * SECOND, "camera")
    parts: dict[str, Any] = {
        "image": make_image(types, np.zeros((48, 64, 3), np.uint8), "bgr8", now),
        "camera_info": make_camera_info(types, camera(), now),
        "depth": make_image(types, np.full((48, 64), 700, np.uint16), "16UC1", now),
        "labels": make_image(types, np.ones((48, 64), np.uint8), "mono8", now),
        "detections": make_detections(types, [found("1", 5)], now),
    }
    return FrameMessages(**{**parts, **changes})


def test_frames_are_read_whole(types: BagMessageTypes) -> None:
    whole = read_frame(messages(types))
    assert whole.stamped == Stamped(100 * SECOND, "camera") and not whole.problems
    assert same_camera(whole.camera, camera()) and whole.depth is not None and whole.labels is not None
    assert float(whole.depth.depth_m[0, 0]) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("part", "code"),
    [("detections", "stamp_mismatch"), ("labels", "stamp_mismatch"), ("camera_info", "invalid_camera")],
)
def test_what_a_frame_cannot_do_without_is_an_error(types: BagMessageTypes, part: str, code: str) -> None:
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


def test_depth_that_does_not_fit_is_left_out_and_told(types: BagMessageTypes) -> None:
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


def test_nan_boxes_and_nothing_at_all_are_told(types: BagMessageTypes) -> None:
    bad = make_detections(types, [found("1", 5)], Stamped(100 * SECOND, "camera"))
    bad.detections[0].bbox.size_x = math.nan
    assert [problem.code for problem in read_frame(messages(types, detections=bad)).problems] == [
        "invalid_detection"
    ]
    with pytest.raises(NoObjectsError, match="nan"):
        read_frame(messages(types, detections=bad, labels=None))


def test_cameras_cross_the_border_of_the_process_as_numbers() -> None:
    lens = Distortion("plumb_bob", (-0.2, 0.1, 0.001, 0.002, 0.0))
    for sent in (camera(), replace(camera(), distortion=lens)):
        assert same_camera(CameraValues.of(sent).camera(), sent)
    assert MakeCupidJob.of(CupidConfig()).settings["ros"]["mode"] == "continuous"
