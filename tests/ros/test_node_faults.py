"""Everything that can go wrong around a running node: it lives on, says what it was, publishes nothing stale."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from patience import patient
from serving_stubs import make_actor

from cupid_core.serving.frames import Stamped
from cupid_ros.convert.camera import make_camera_info
from cupid_ros.convert.header import read_header
from cupid_ros.convert.image import make_image

if TYPE_CHECKING:
    from conftest import ReportFigure
    from robot import Robot


@pytest.fixture(scope="module")
def node(ros: None) -> Iterator[Any]:
    from robot import running

    with running(make_actor) as node:
        yield node


@pytest.fixture
def robot(robot: Robot, node: Any) -> Iterator[Robot]:
    """A robot whose node knows no objects; afterwards the node still works."""
    from robot import found, wait_for

    assert robot.set("ros.mode", "continuous") == (True, "")
    robot.clear()
    robot.forget()
    yield robot
    assert robot.set("ros.mode", "continuous") == (True, "")
    wait_for(lambda: robot.values("worker").get("waiting") == "0")
    robot.forget()
    stamp_ns = robot.see(found("after"))
    wait_for(lambda: any(ids(item) == ["after"] for item in robot.heard["/cupid/objects"]))
    assert read_header(robot.heard["/cupid/objects"][-1]).stamp_ns == stamp_ns


def ids(objects: Any) -> list[str]:
    return [item.id for item in objects.objects]


def ask(robot: Robot, word: str, **goal: Any) -> Any:
    """A goal on which the worker is working."""
    from robot import found, wait_for

    assert robot.set("ros.mode", "on_request") == (True, "")
    frames = float(robot.values("problems").get("frames", 0))
    robot.see(found("1", word=word))
    wait_for(lambda: float(robot.values("problems").get("frames", 0)) > frames)
    handle = robot.ask(**goal)
    wait_for(lambda: robot.feedback)
    return handle


def test_a_worker_that_is_killed_is_replaced_and_its_goal_answered(robot: Robot) -> None:
    from robot import wait_for

    handle = ask(robot, "slow")
    pid = int(robot.values("worker")["pid"])
    os.kill(pid, signal.SIGKILL)
    how, result = robot.answer(handle, seconds=10.0)
    assert (how, result.code) == ("aborted", "worker_died") and "signal 9" in result.text
    assert not robot.heard["/cupid/objects"]
    robot.wait_for_code("worker_died")
    wait_for(lambda: robot.values("worker").get("pid") not in (str(pid), "None"))


def test_a_worker_that_hangs_is_answered_at_the_deadline_and_replaced(robot: Robot) -> None:
    from robot import wait_for

    handle = ask(robot, "hang", deadline_s=1.0)
    pid = robot.values("worker")["pid"]
    begun = time.monotonic()
    how, result = robot.answer(handle, seconds=10.0)
    assert (how, result.code) == ("aborted", "deadline_exceeded") and time.monotonic() - begun < patient(3.0)
    assert not robot.heard["/cupid/objects"]
    robot.wait_for_code("deadline_exceeded")
    wait_for(lambda: robot.values("worker").get("pid") not in (pid, "None"))


def test_a_worker_that_exits_is_replaced(robot: Robot) -> None:
    how, result = robot.answer(ask(robot, "die"), seconds=10.0)
    assert (how, result.code) == ("aborted", "worker_died")


def broken(robot: Robot, what: str) -> dict[str, Any]:
    """One moment with something wrong in it."""
    from robot import FRAME, SECOND, found

    messages = robot.messages(found("1"))
    now = read_header(messages["image"])
    image, info, boxes = messages["image"], messages["camera_info"], messages["detections"]
    if what == "step":
        image.step = 1
    elif what == "bytes":
        image.data = image.data[:-5]
    elif what == "size":
        image.height = 0
    elif what == "encoding":
        image.encoding = "bayer_rggb9"
    elif what == "camera":
        info.k = np.zeros(9)
    elif what == "camera size":
        info.width = 65
    elif what == "box":
        boxes.detections[0].bbox.size_x = math.nan
    elif what == "stamp":
        boxes.header.stamp.nanosec = 2**32 - 1
    elif what == "negative stamp":
        boxes.header.stamp.sec = -5
    elif what == "other stamp":
        messages["detections"] = robot.messages(found("1"), stamp_ns=now.stamp_ns + SECOND // 2)["detections"]
    elif what == "depth size":
        small = np.full((24, 32), 700, np.uint16)
        messages["depth"] = make_image(robot.types, small, "16UC1", Stamped(now.stamp_ns, FRAME))
    elif what == "no depth":
        messages["depth"] = make_image(robot.types, np.zeros((48, 64), np.uint16), "16UC1", now)
    return messages


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("step", "image_size"),
        ("bytes", "image_size"),
        ("size", "image_size"),
        ("encoding", "unsupported_encoding"),
        ("camera", "invalid_camera"),
        ("camera size", "invalid_camera"),
        ("box", "no_objects"),
        ("stamp", "invalid_message"),
        ("negative stamp", "invalid_message"),
        ("other stamp", "stamp_mismatch"),
    ],
)
def test_unusable_messages_are_reported_and_nothing_is_published(robot: Robot, what: str, code: str) -> None:
    before = robot.count_of(code)
    robot.send(broken(robot, what))
    robot.wait_for_code(code, more_than=before)
    assert f"[{code}]" in robot.status("problems").message
    assert not robot.heard["/cupid/objects"] and not robot.heard["/tf"]


@pytest.mark.parametrize(("what", "code"), [("depth size", "image_size"), ("no depth", "invalid_depth")])
def test_depth_that_cannot_be_used_leaves_objects_without_scale(robot: Robot, what: str, code: str) -> None:
    before = robot.count_of(code)
    robot.send(broken(robot, what))
    (objects,) = robot.wait("/cupid/objects")
    assert [item.scale_source for item in objects.objects] == [0] and not robot.heard["/tf"]
    robot.wait_for_code(code, more_than=before)


def test_an_invalid_box_does_not_affect_the_others(robot: Robot) -> None:
    from robot import found

    messages = robot.messages(found("1"), found("2", 30.0))
    messages["detections"].detections[0].bbox.center.position.x = math.nan
    robot.send(messages)
    assert ids(robot.wait("/cupid/objects")[0]) == ["2"]
    robot.wait_for_code("invalid_detection")


def resident_kb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_a_thousand_images_at_30_hz_with_a_busy_worker(robot: Robot, report_figure: ReportFigure) -> None:
    from robot import found, wait_for

    robot.see(found("busy", word="busy"))
    wait_for(lambda: robot.values("worker").get("waiting") is not None)
    sizes, waiting, next_at = [], set(), time.monotonic()
    for number in range(1000):
        # A new object in every image, so that every one asks for work.
        robot.see(found(f"track{number}x"))
        waiting.add(robot.values("worker").get("waiting"))
        del robot.heard["/diagnostics"][:-5]
        if number % 50 == 49:
            sizes.append(resident_kb())
        next_at += 1 / 30
        time.sleep(max(0.0, next_at - time.monotonic()))
    assert waiting <= {"0", "1"}
    slope_kb = float(np.polyfit(range(10, len(sizes)), sizes[10:], 1)[0]) / 50
    counts = robot.values("worker")
    report_figure(
        f"{slope_kb:.2f} kB an image; {counts['superseded']} of {counts['submitted']} requests superseded"
    )
    assert slope_kb < 5.0, sizes
    assert not robot.heard["/cupid/objects"]
    assert robot.status("problems").level == b"\x00", "an image that is replaced is nothing to warn of"
    assert robot.change("deactivate") and robot.change("activate")


def test_parameters_out_of_range_are_refused_and_reported(robot: Robot) -> None:
    for name, value in (
        ("ros.worker.grace_s", -1.0),
        ("ros.worker.deadline_s", 0.0),
        ("ros.mode", "sometimes"),
        ("ros.input.max_objects", 0),
        ("ros.input.max_objects", 2.5),
    ):
        done, reason = robot.set(name, value)
        assert not done and reason, name
    robot.wait_for_code("invalid_config")
    assert robot.set("ros.input.max_objects", 16) == (True, "")


def test_a_bag_that_is_played_again_is_read_again(robot: Robot) -> None:
    from robot import SECOND, found

    start = 1_600_000_000 * SECOND
    for number in range(25):
        robot.send(robot.messages(stamp_ns=start + number * SECOND // 10))
    time.sleep(0.5)
    messages = robot.messages(found("1"), stamp_ns=start)
    robot.send(messages)
    assert ids(robot.wait("/cupid/objects")[0]) == ["1"]


def test_an_invalid_transition_does_not_end_the_node(robot: Robot) -> None:
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    client = robot.node.create_client(ChangeState, "/recon_node/change_state")
    assert client.wait_for_service(timeout_sec=patient(10.0))
    client.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
    time.sleep(0.5)
    assert robot.state() == "active"
    robot.node.destroy_client(client)


def test_the_camera_info_of_another_lens_is_used(robot: Robot) -> None:
    from robot import camera, found

    messages = robot.messages(found("1"))
    info = make_camera_info(robot.types, camera(), read_header(messages["image"]))
    info.distortion_model, info.d = "plumb_bob", [-0.2, 0.05, 0.0, 0.0, 0.0]
    robot.send({**messages, "camera_info": info})
    assert ids(robot.wait("/cupid/objects")[0]) == ["1"]
