"""The feedback of the action: stage, fraction and the poses known by now, through server, worker and the wire."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.typesys import get_types_from_msg
from stub_job import make_boxes
from test_server import found, frame

from cupid_core.config import RosConfig
from cupid_core.config.ros import RosWorkerConfig
from cupid_core.reconstruct.progress import ObjectPose, Progress
from cupid_core.types import ScaleSource
from cupid_ros.convert.feedback import feedback_fields
from cupid_ros.convert.header import Stamped, read_header
from cupid_ros.feedback import Feedback, tells_feedback
from cupid_ros.messages import BagMessageTypes
from cupid_ros.results import Observation
from cupid_ros.server import Server
from cupid_ros.tickets import InProcess
from cupid_ros.worker import Worker

ACTION = Path(__file__).resolve().parents[2] / "action" / "Reconstruct.action"
NOW = Stamped(1_700_000_000_000_000_003, "camera_optical")


def pose(number: int, source: ScaleSource = ScaleSource.SENSOR) -> ObjectPose:
    scale, std = (1.0, math.nan) if source is ScaleSource.UNKNOWN else (0.3, 0.01)
    covariance = tuple(float(value) for value in range(36))
    return ObjectPose(number, (0.5, -0.5, 0.5, 0.5), (0.1, -0.2, number / 10), covariance, scale, source, std)


def test_poses_gather_under_the_ids_of_the_caller() -> None:
    heard: list[Feedback] = []
    also: list[Progress] = []
    tell = tells_feedback(heard.append, NOW, {3: "mug", 4: "box"}, also.append)
    sent = [
        Progress("structure", 0.5), Progress("pose", 1.0, (pose(3), pose(9))),
        Progress("pose", 1.0, (pose(4),)), Progress("decode", 0.0),
    ]  # fmt: skip
    for progress in sent:
        tell(progress)
    assert also == sent
    assert [list(feedback.poses) for feedback in heard] == [[], ["mug"], ["mug", "box"], ["mug", "box"]]
    assert [(feedback.stage, feedback.fraction) for feedback in heard] == [(p.stage, p.fraction) for p in sent]
    assert heard[1].poses["mug"] == pose(3), "what was told does not change afterwards"


@pytest.mark.parametrize("with_process", [False, True])
def test_a_request_tells_the_poses_before_the_result(with_process: bool) -> None:
    engine = Worker(make_boxes, RosWorkerConfig()) if with_process else InProcess(make_boxes)
    it = Server(engine, RosConfig(mode="on_request"))
    heard: list[Feedback] = []
    try:
        it.offer(frame(found("left", 5), found("right", 40)))
        order = it.request(ids=["right"], on_feedback=heard.append)
        end = time.monotonic() + 60
        while not order.ticket.done and time.monotonic() < end:
            time.sleep(0.005)
        (seen,) = it.collect()
    finally:
        it.close()
    assert isinstance(seen, Observation)
    assert [feedback.stage for feedback in heard] == ["structure", "pose"]
    assert list(heard[-1].poses) == ["right"] and heard[-1].stamped.stamp_ns == seen.stamp_ns
    told = heard[-1].poses["right"]
    np.testing.assert_allclose(told.translation, seen.objects[0].translation)
    assert told.scale_source is ScaleSource.SENSOR and told.scale == seen.objects[0].scale


def feedback_type(types: BagMessageTypes) -> str:
    """The feedback of the action file, registered as a message, so that it goes through CDR as on the wire."""
    name = "cupid_ros/action/Reconstruct_Feedback"
    if name not in types.store.types:
        types.store.register(get_types_from_msg(ACTION.read_text(encoding="utf-8").split("\n---\n")[2], name))
    return name


def test_the_fields_are_those_of_the_action_and_survive_the_wire(types: BagMessageTypes) -> None:
    name = feedback_type(types)
    feedback = Feedback(NOW, "pose", 0.25, {"a": pose(3), "b": pose(4, ScaleSource.UNKNOWN)})
    fields = feedback_fields(types, feedback)
    message: Any = types.make(name, **fields)
    assert set(fields) == set(dict(types.store.fielddefs[name][1]))
    back = types.decode(types.encode(message), name)
    assert (back.stage, back.fraction, back.pose_ids) == ("pose", 0.25, ["a", "b"])
    assert list(back.scale_sources) == [1, 0] and list(back.scales) == [0.3, 1.0]
    assert back.scale_stddevs[0] == 0.01 and math.isnan(back.scale_stddevs[1])
    for number, sent in enumerate(back.poses):
        assert read_header(sent) == NOW
        at, turn = sent.pose.pose.position, sent.pose.pose.orientation
        assert (at.x, at.y, at.z) == pytest.approx((0.1, -0.2, (number + 3) / 10))
        assert (turn.x, turn.y, turn.z, turn.w) == (0.5, -0.5, 0.5, 0.5)
        assert list(sent.pose.covariance) == list(range(36))


def test_before_any_pose_the_lists_are_empty(types: BagMessageTypes) -> None:
    fields = feedback_fields(types, Feedback(NOW, "structure", 1.0))
    assert [fields[key] for key in ("pose_ids", "poses", "scales", "scale_sources")] == [[], [], [], []]


def test_every_field_of_the_action_says_its_unit() -> None:
    lines = [line for line in ACTION.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    for line in lines:
        assert line == "---" or "# [" in line, line
