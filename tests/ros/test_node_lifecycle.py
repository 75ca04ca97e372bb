"""The life of the node: twice through all its states, with errors on the way that can be mended."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from patience import patient
from serving_stubs import MakeActorWhenThere, make_actor

if TYPE_CHECKING:
    from robot import Robot


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_twice_through_all_states(robot: Robot) -> None:
    from robot import found, running, wait_for

    with running(make_actor, active=False) as node:
        assert robot.state() == "unconfigured"
        for _ in range(2):
            assert robot.change("configure") and robot.state() == "inactive"
            pid = node._worker.stats().pid
            assert alive(pid) and node._worker.stats().ready
            how, result = robot.answer(robot.ask())
            assert (how, result.code) == ("aborted", "not_active")
            assert robot.change("activate") and robot.state() == "active"
            robot.forget()
            robot.see(found("1"))
            assert [item.id for item in robot.wait("/cupid/objects")[0].objects] == ["1"]
            assert robot.change("deactivate") and robot.state() == "inactive"
            assert not robot.get_mesh("1").success, "objects are let go"
            assert robot.node.count_publishers("/cupid/objects") == 0, "who comes now gets nothing old"
            assert robot.change("activate"), "the networks are still loaded"
            assert node._worker.stats().pid == pid
            robot.forget()
            robot.see(found("1"))
            assert [item.id for item in robot.wait("/cupid/objects")[0].objects] == ["1"]
            assert robot.change("deactivate") and robot.change("cleanup") and robot.state() == "unconfigured"
            assert not alive(pid), "its memory and GPU are free"
            wait_for(lambda: robot.values("problems").get("state") == "unconfigured")
            assert not robot.clear().success


def test_a_missing_checkpoint_is_reported_and_configure_can_be_repeated(robot: Robot, tmp_path: Path) -> None:
    from robot import running

    with running(MakeActorWhenThere(tmp_path / "weights"), active=False) as node:
        assert not robot.change("configure") and robot.state() == "unconfigured"
        robot.wait_for_code("checkpoint_invalid")
        assert node._worker is None
        (tmp_path / "weights").touch()
        assert robot.change("configure") and robot.change("activate") and robot.state() == "active"


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("ros.worker.grace_s", -1.0, 0.2),
        ("ros.mode", "sometimes", "continuous"),
        ("ros.worker.deadline_s", "long", 60.0),
    ],
)
def test_an_invalid_value_in_a_file_is_reported_and_can_be_corrected(
    robot: Robot, name: str, bad: Any, good: Any
) -> None:
    from robot import running

    with running(make_actor, active=False, **{name.replace(".", "__"): bad}):
        assert not robot.change("configure") and robot.state() == "unconfigured"
        robot.wait_for_code("invalid_config")
        assert name.split(".")[-1] in robot.status("problems").message
        assert robot.set(name, good) == (True, "")
        assert robot.change("configure") and robot.state() == "inactive"


def test_an_unknown_parameter_is_reported_with_the_nearest_name(robot: Robot) -> None:
    from robot import running

    with running(make_actor, active=False, ros__mood="continuous"):
        assert not robot.change("configure")
        robot.wait_for_code("invalid_config")
        assert "ros.mode" in robot.status("problems").message


def test_integers_in_a_file_are_accepted_for_floating_point_parameters(robot: Robot) -> None:
    from robot import running

    with running(make_actor, active=False, ros__worker__deadline_s=7):
        assert robot.change("configure")


def test_configure_fails_without_detections_and_labels(robot: Robot) -> None:
    from robot import running

    with running(make_actor, active=False, ros__topics__detections="-"):
        assert not robot.change("configure")
        robot.wait_for_code("invalid_config")
        assert robot.set("ros.topics.labels", "/labels") == (True, "")
        assert robot.change("configure")


def test_silent_inputs_are_named(robot: Robot) -> None:
    from robot import running, wait_for

    with running(make_actor, ros__topics__depth="/nowhere"):
        robot.send({role: message for role, message in robot.messages().items() if role != "depth"})
        status = wait_for(lambda: robot.status("inputs"))
        assert status.level == b"\x01" and "depth on /nowhere" in status.message
        assert not robot.heard["/cupid/objects"]


def test_deactivate_answers_an_open_goal(robot: Robot) -> None:
    from robot import found, running, wait_for

    with running(make_actor, ros__mode="on_request") as node:
        robot.see(found("1", word="slow"))
        wait_for(lambda: node._inputs.frames)
        handle = robot.ask()
        wait_for(lambda: robot.feedback)
        begun = time.monotonic()
        assert robot.change("deactivate")
        how, result = robot.answer(handle, seconds=5.0)
        assert (how, result.code) == ("aborted", "cancelled") and time.monotonic() - begun < patient(5.0)
        assert robot.change("activate")
        robot.forget()
        robot.set("ros.mode", "continuous")
        robot.see(found("2"))
        assert [item.id for item in robot.wait("/cupid/objects")[0].objects] == ["2"]
