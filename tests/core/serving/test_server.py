"""What the server requests when, and which results it gives, with an engine in this process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from serving_stubs import SECOND, camera, detection, frame, make_boxes, wait_for

from cupid_core.config import RosConfig
from cupid_core.config.ros import RosInputConfig, RosWorkerConfig
from cupid_core.serving.engine import InProcessEngine
from cupid_core.serving.errors import NoObjectsError
from cupid_core.serving.frames import Detection
from cupid_core.serving.records import Observation
from cupid_core.serving.requests import FailedRequest
from cupid_core.serving.server import Server
from cupid_core.serving.worker import Worker


def ids(results: list[Observation | FailedRequest]) -> list[list[str]]:
    return [[item.id for item in result.objects] for result in results if isinstance(result, Observation)]


def make_server(**changes: Any) -> Server:
    return Server(InProcessEngine(make_boxes), RosConfig(**changes))


def test_each_object_is_reconstructed_once_and_again_after_clear() -> None:
    server = make_server()
    server.offer(frame(detection("1", 5), detection("2", 40)))
    assert ids(server.collect()) == [["1", "2"]]
    assert server.offer(frame(detection("1", 6), detection("2", 41), at_s=0.1)) is None
    server.offer(frame(detection("1", 7), detection("3", 20), at_s=0.2))
    assert ids(server.collect()) == [["3"]]
    stamped, record = server.latest("3")
    assert (stamped.stamp_ns, record.class_id, record.score) == (100 * SECOND + SECOND // 5, "mug", 0.5)
    assert sorted(server.clear()) == [1, 2, 3]
    with pytest.raises(NoObjectsError):
        server.latest("3")
    server.offer(frame(detection("3", 20), at_s=0.3))
    assert ids(server.collect()) == [["3"]]


def test_on_request_mode_reconstructs_only_what_is_requested() -> None:
    server = make_server(mode="on_request")
    with pytest.raises(NoObjectsError, match="No image"):
        server.request()
    assert server.offer(frame(detection("1", 5), detection("2", 40))) is None
    pending = server.request(ids=["2"], preset="best")
    assert pending.ticket.request.samples == 4 and pending.ticket.request.refine == "shape"
    assert ids(server.collect()) == [["2"]]
    with pytest.raises(NoObjectsError, match="'9'"):
        server.request(ids=["2", "9"])
    server.request(detections=[detection("7", 30)])
    assert ids(server.collect()) == [["7"]]


def test_other_objects_near_a_target_are_passed_as_occluders() -> None:
    server = make_server(mode="on_request")
    server.offer(frame(detection("1", 5), detection("2", 12), detection("3", 40)))
    request = server.request(ids=["2"]).ticket.request
    assert list(request.boxes) == [2] and request.numbers == ()
    assert list(request.occluder_boxes) == [1], "3 is far away"
    labels = np.zeros((48, 64), np.uint16)
    labels[10:20, 5:15], labels[10:20, 15:30] = 1, 2
    server.offer(frame(labels=labels, at_s=1.0))
    request = server.request(ids=["1"]).ticket.request
    assert (request.numbers, request.occluder_numbers, request.occluder_boxes) == ((1,), (2,), {})


def test_a_failed_object_is_reported_once() -> None:
    server = make_server()
    outside = Detection("4", "mug", 0.5, (500.0, 500.0, 510.0, 510.0))
    server.offer(frame(detection("1", 5), outside))
    (observation,) = server.collect()
    assert isinstance(observation, Observation)
    assert {id_: error.code for id_, error in observation.failures.items()} == {"4": "no_objects"}
    assert "[no_objects]" in server.stats.last_error
    assert server.offer(frame(detection("1", 5), outside, at_s=0.1)) is None


def test_max_objects_keeps_the_best_scores() -> None:
    server = make_server(input=RosInputConfig(max_objects=2))
    server.offer(frame(detection("1", 5, 0.2), detection("2", 40, None), detection("3", 20, 0.9)))
    assert ids(server.collect()) == [["1", "3"]]


def test_a_changed_camera_is_counted() -> None:
    server = make_server()
    server.offer(frame(detection("1", 5)))
    server.offer(frame(detection("1", 5), at_s=0.1))
    assert server.stats.camera_changes == 0
    server.offer(frame(detection("1", 5), at_s=0.2, camera=camera().crop(1, 0, 64, 48)))
    server.offer(frame(detection("1", 5), at_s=0.3, camera=None))
    assert server.stats.camera_changes == 2


def test_without_depth_objects_are_not_metric() -> None:
    server = make_server()
    server.offer(frame(detection("1", 5), depth=None))
    (observation,) = server.collect()
    assert isinstance(observation, Observation) and not observation.objects[0].is_metric


def test_an_observation_states_where_the_camera_comes_from() -> None:
    server = make_server(update_poses=True)
    for camera_of_frame, expected in ((camera(), "given"), (None, "estimated")):
        server.offer(frame(detection("1", 5), camera=camera_of_frame))
        (observation,) = server.collect()
        assert isinstance(observation, Observation) and observation.camera_source == expected


def test_worker_and_in_process_engine_give_the_same_newest_result() -> None:
    with Worker(make_boxes, RosWorkerConfig()) as worker:
        server, plain = Server(worker, RosConfig(update_poses=True)), make_server()
        last = None
        for number in range(20):
            last = server.offer(frame(detection("1", 5), at_s=number * 0.01))
        assert last is not None
        wait_for(lambda: last.ticket.done)
        results = server.collect()
        plain.offer(frame(detection("1", 5), at_s=0.19))
        (expected,) = plain.collect()
        newest = results[-1]
        assert isinstance(newest, Observation) and isinstance(expected, Observation)
        assert newest.stamp_ns == expected.stamp_ns
        np.testing.assert_array_equal(newest.objects[0].translation, expected.objects[0].translation)
        failed = {result.error.code for result in results if isinstance(result, FailedRequest)}
        assert failed <= {"superseded"}
