"""Feedback of a request: stage, fraction and the poses known so far, through server and worker."""

from __future__ import annotations

import math

import numpy as np
import pytest
from serving_stubs import detection, frame, make_boxes, wait_for

from cupid_core.config import RosConfig
from cupid_core.config.ros import RosWorkerConfig
from cupid_core.reconstruct.progress import ObjectPose, Progress
from cupid_core.serving.engine import InProcessEngine
from cupid_core.serving.frames import Stamped
from cupid_core.serving.records import Observation
from cupid_core.serving.requests import Feedback, report_feedback
from cupid_core.serving.server import Server
from cupid_core.serving.worker import Worker
from cupid_core.types import ScaleSource

NOW = Stamped(1_700_000_000_000_000_003, "camera_optical")


def pose(number: int, source: ScaleSource = ScaleSource.SENSOR) -> ObjectPose:
    scale, std = (1.0, math.nan) if source is ScaleSource.UNKNOWN else (0.3, 0.01)
    covariance = tuple(float(value) for value in range(36))
    return ObjectPose(number, (0.5, -0.5, 0.5, 0.5), (0.1, -0.2, number / 10), covariance, scale, source, std)


def test_feedback_collects_poses_under_the_ids_of_the_caller() -> None:
    received: list[Feedback] = []
    forwarded: list[Progress] = []
    report = report_feedback(received.append, NOW, {3: "mug", 4: "box"}, forwarded.append)
    sent = [
        Progress("structure", 0.5), Progress("pose", 1.0, (pose(3), pose(9))),
        Progress("pose", 1.0, (pose(4),)), Progress("decode", 0.0),
    ]  # fmt: skip
    for progress in sent:
        report(progress)
    assert forwarded == sent
    assert [list(feedback.poses) for feedback in received] == [[], ["mug"], ["mug", "box"], ["mug", "box"]]
    assert [(feedback.stage, feedback.fraction) for feedback in received] == [(p.stage, p.fraction) for p in sent]
    assert received[1].poses["mug"] == pose(3), "earlier feedback does not change"


@pytest.mark.parametrize("with_process", [False, True])
def test_a_request_reports_poses_before_its_result(with_process: bool) -> None:
    engine = Worker(make_boxes, RosWorkerConfig()) if with_process else InProcessEngine(make_boxes)
    server = Server(engine, RosConfig(mode="on_request"))
    received: list[Feedback] = []
    try:
        server.offer(frame(detection("left", 5), detection("right", 40)))
        pending = server.request(ids=["right"], on_feedback=received.append)
        wait_for(lambda: pending.ticket.done)
        (observation,) = server.collect()
    finally:
        server.close()
    assert isinstance(observation, Observation)
    assert [feedback.stage for feedback in received] == ["structure", "pose"]
    assert list(received[-1].poses) == ["right"] and received[-1].stamped.stamp_ns == observation.stamp_ns
    early = received[-1].poses["right"]
    np.testing.assert_allclose(early.translation, observation.objects[0].translation)
    assert early.scale_source is ScaleSource.SENSOR and early.scale == observation.objects[0].scale
