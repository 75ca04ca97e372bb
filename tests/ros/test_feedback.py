"""Feedback as the fields of the action, through CDR."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from rosbags.typesys import get_types_from_msg

from cupid_core.reconstruct.progress import ObjectPose
from cupid_core.serving.frames import Stamped
from cupid_core.serving.requests import Feedback
from cupid_core.types import ScaleSource
from cupid_ros.convert.header import read_header
from cupid_ros.convert.objects import feedback_fields
from cupid_ros.messages import BagMessageTypes

ACTION = Path(__file__).resolve().parents[2] / "action" / "Reconstruct.action"
NOW = Stamped(1_700_000_000_000_000_003, "camera_optical")


def pose(number: int, source: ScaleSource = ScaleSource.SENSOR) -> ObjectPose:
    scale, std = (1.0, math.nan) if source is ScaleSource.UNKNOWN else (0.3, 0.01)
    covariance = tuple(float(value) for value in range(36))
    return ObjectPose(number, (0.5, -0.5, 0.5, 0.5), (0.1, -0.2, number / 10), covariance, scale, source, std)


def feedback_type(types: BagMessageTypes) -> str:
    """The feedback of the action file, registered as a message, so that it goes through CDR as on the wire."""
    name = "cupid_ros/action/Reconstruct_Feedback"
    if name not in types.store.types:
        types.store.register(get_types_from_msg(ACTION.read_text(encoding="utf-8").split("\n---\n")[2], name))
    return name


def test_feedback_fills_the_fields_of_the_action_and_round_trips(types: BagMessageTypes) -> None:
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
