"""The running node: what goes in and what comes out, on topics, TF, services and the action."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from serving_stubs import make_actor

from cupid_core.serving.frames import Stamped
from cupid_ros.convert.header import read_header

if TYPE_CHECKING:
    from robot import Robot


@pytest.fixture(scope="module")
def node(ros: None) -> Iterator[Any]:
    from robot import running

    with running(make_actor, ros__output__points=True) as node:
        yield node


@pytest.fixture
def robot(robot: Robot, node: Any) -> Iterator[Robot]:
    """A robot whose node knows no objects; it is as it was afterwards."""
    robot.clear()
    robot.forget()
    yield robot
    for name, value in (("ros.mode", "continuous"), ("ros.update_poses", False)):
        assert robot.set(name, value) == (True, "")


def test_each_new_object_is_published_once_on_every_topic(robot: Robot) -> None:
    from robot import FRAME, found

    stamp_ns = robot.see(found("1"), found("cup_2", 40.0))
    (objects,) = robot.wait("/cupid/objects")
    assert read_header(objects) == Stamped(stamp_ns, FRAME) and not objects.failed_ids
    assert [(item.id, item.class_id, item.scale_source) for item in objects.objects] == [
        ("1", "mug", 1), ("cup_2", "mug", 1),
    ]  # fmt: skip
    assert [item.pose.pose.position.z for item in objects.objects] == pytest.approx([0.7, 0.7])
    (transforms,) = robot.wait("/tf")
    assert [item.child_frame_id for item in transforms.transforms] == ["cupid/1", "cupid/cup_2"]
    assert {read_header(item) for item in transforms.transforms} == {Stamped(stamp_ns, FRAME)}
    for item, transform in zip(objects.objects, transforms.transforms, strict=True):
        assert transform.transform.rotation == item.pose.pose.orientation
    (markers,), (boxes,), (overlay,) = (
        robot.wait(f"/cupid/{name}") for name in ("markers", "detections", "overlay")
    )
    assert [len(item.points) for item in markers.markers] == [36, 36]
    assert [item.id for item in boxes.detections] == ["1", "cup_2"]
    assert {read_header(message) for message in (boxes, overlay)} == {Stamped(stamp_ns, FRAME)}
    clouds = robot.wait("/cupid/points", 2)
    assert [cloud.header.frame_id for cloud in clouds] == ["cupid/1", "cupid/cup_2"]
    assert [cloud.width for cloud in clouds] == [2048, 2048]
    # Seen again: only what is new comes out.
    robot.see(found("1", 6.0), found("cup_2", 41.0), found("3", 20.0))
    objects = robot.wait("/cupid/objects", 2)[1]
    assert [item.id for item in objects.objects] == ["3"]
    # And when it is asked for, the known ones too.
    assert robot.set("ros.update_poses", True) == (True, "")
    robot.see(found("1", 7.0))
    objects = robot.wait("/cupid/objects", 3)[2]
    assert [item.id for item in objects.objects] == ["1"]


def test_the_planning_scene_gets_meshes_once_and_then_poses(robot: Robot) -> None:
    from robot import found

    pytest.importorskip("moveit_msgs", reason="moveit_msgs is not installed")
    assert robot.set("ros.output.collision_objects", True) == (True, "")
    assert robot.set("ros.update_poses", True) == (True, "")
    robot.see(found("1"), found("cup_2", 40.0))  # the publisher is made now
    robot.wait("/cupid/objects")
    wait_for_publisher(robot)
    robot.clear()
    robot.forget()
    robot.see(found("1"), found("cup_2", 40.0))
    added = in_scene(robot, b"\x00", 2)
    assert [(item.id, item.operation, len(item.meshes)) for item in added] == [
        ("cupid/1", b"\x00", 1), ("cupid/cup_2", b"\x00", 1),
    ]  # fmt: skip
    robot.see(found("1", 7.0))
    (moved,) = in_scene(robot, b"\x03", 1)
    robot.forget()
    assert (moved.id, moved.operation, len(moved.meshes)) == ("cupid/1", b"\x03", 0)
    assert robot.clear().success
    gone = in_scene(robot, b"\x01", 2)
    assert {(item.id, item.operation) for item in gone} == {("cupid/1", b"\x01"), ("cupid/cup_2", b"\x01")}
    assert robot.set("ros.output.collision_objects", False) == (True, "")


def in_scene(robot: Robot, operation: bytes, count: int) -> list[Any]:
    """Collision objects of one operation; what `clear` removed before may still be on its way."""
    from robot import wait_for

    def chosen() -> list[Any]:
        return [item for item in robot.heard["/collision_object"] if item.operation == operation]

    wait_for(lambda: len(chosen()) >= count)
    return chosen()


def wait_for_publisher(robot: Robot) -> None:
    from robot import wait_for

    wait_for(lambda: robot.node.count_publishers("/collision_object"))


def test_compressed_images_are_read(robot: Robot, node: Any) -> None:
    from robot import found, running, wait_for

    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[..., 0] = 200
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    node.trigger_deactivate()
    node.trigger_cleanup()
    robot.forget()
    with running(make_actor, ros__topics__image="/camera/image/compressed"):
        messages = robot.messages(found("1"))
        message = robot.types.make(
            "sensor_msgs/msg/CompressedImage",
            header=messages.pop("image").header,
            format="png",
            data=np.frombuffer(encoded.getvalue(), np.uint8),
        )
        wait_for(lambda: robot.compressed.get_subscription_count())
        robot.compressed.publish(message)
        robot.send(messages)
        (overlay,) = robot.wait("/cupid/overlay")
        assert np.frombuffer(overlay.data, np.uint8).reshape(48, 64, 3)[0, 0].tolist() == [200, 0, 0]
    node.trigger_configure()
    node.trigger_activate()


def test_get_mesh_and_clear(robot: Robot) -> None:
    from robot import found, wait_for

    stamp_ns = robot.see(found("1"))
    robot.wait("/cupid/objects")
    given = robot.get_mesh("1")
    assert given.success and (given.code, given.text) == ("", "")
    assert read_header(given.object).stamp_ns == stamp_ns and len(given.object.mesh.triangles) == 12
    missing = robot.get_mesh("9")
    assert not missing.success and missing.code == "no_objects" and "'9'" in missing.text
    robot.forget()
    assert robot.clear().success
    assert [item.action for item in robot.wait("/cupid/markers")[0].markers] == [2]
    assert not robot.wait("/cupid/objects")[0].objects
    assert not robot.get_mesh("1").success
    robot.see(found("1"))
    wait_for(lambda: len(robot.heard["/cupid/objects"]) == 2)


def test_the_action_reports_poses_before_the_mesh(robot: Robot) -> None:
    from robot import FRAME, found

    assert robot.set("ros.mode", "on_request") == (True, "")
    stamp_ns = robot.see(found("1"), found("2", 40.0))
    handle = ask_when_seen(robot, ids=["2"])
    how, result = robot.answer(handle)
    assert (how, result.code, result.text) == ("succeeded", "", "")
    assert [item.id for item in result.objects.objects] == ["2"]
    assert read_header(result.objects) == Stamped(stamp_ns, FRAME)
    stages = [feedback.stage for feedback in robot.feedback]
    assert "pose" in stages
    known = next(feedback for feedback in robot.feedback if feedback.pose_ids)
    assert list(known.pose_ids) == ["2"] and read_header(known.poses[0]).stamp_ns == stamp_ns
    assert known.poses[0].pose.pose == result.objects.objects[0].pose.pose
    # The same came out on the topics, and nothing of what nobody asked for.
    (objects,) = robot.wait("/cupid/objects")
    assert [item.id for item in objects.objects] == ["2"]
    assert [item.child_frame_id for item in robot.wait("/tf")[0].transforms] == ["cupid/2"]


def test_the_action_accepts_its_own_boxes(robot: Robot) -> None:
    from robot import found

    from cupid_ros.convert.detections import make_detections

    assert robot.set("ros.mode", "on_request") == (True, "")
    robot.see(found("1"))
    boxes = make_detections(robot.types, [found("mine", 30.0)], Stamped(0, ""))
    how, result = robot.answer(ask_when_seen(robot, detections=boxes, preset="best", deadline_s=20.0))
    assert how == "succeeded" and [item.id for item in result.objects.objects] == ["mine"]


@pytest.mark.parametrize(
    ("goal", "code"),
    [
        ({"ids": ["9"]}, "no_objects"),
        ({"preset": "perfect"}, "invalid_message"),
        ({"deadline_s": -1.0}, "invalid_message"),
        ({"deadline_s": float("nan")}, "invalid_message"),
    ],
)
def test_impossible_goals_are_answered_with_a_code(robot: Robot, goal: dict[str, Any], code: str) -> None:
    from robot import found

    robot.see(found("1"))
    robot.wait("/cupid/objects")
    how, result = robot.answer(robot.ask(**goal))
    assert (how, result.code) == ("aborted", code) and result.text


def test_a_goal_is_cancelled_at_once(robot: Robot) -> None:
    from robot import found, wait_for

    robot.set("ros.mode", "on_request")
    robot.see(found("1", word="slow"))
    handle = ask_when_seen(robot)
    wait_for(lambda: robot.feedback)
    handle.cancel_goal_async()
    how, result = robot.answer(handle, seconds=5.0)
    assert (how, result.code) == ("canceled", "cancelled") and not robot.heard["/cupid/objects"]


def test_a_waiting_goal_is_not_superseded_by_images(robot: Robot) -> None:
    from robot import found, wait_for

    robot.see(found("1", word="slow"))  # the worker is busy with it
    wait_for(lambda: robot.values("worker").get("submitted"))
    handle = robot.ask(deadline_s=20.0)
    for number in range(20):
        robot.see(found(f"new_{number}"))
    robot.set("ros.mode", "on_request")
    assert handle.status not in (4, 5, 6)
    handle.cancel_goal_async()
    assert robot.answer(handle)[0] == "canceled"
    assert robot.change("deactivate") and robot.change("activate"), "the slow one is stopped"


def test_diagnostics_report_the_state_of_the_node(robot: Robot) -> None:
    from robot import found, wait_for

    robot.see(found("1"))
    robot.wait("/cupid/objects")
    wait_for(lambda: robot.values("worker").get("done") not in (None, "0"))
    values = robot.values("worker")
    assert int(values["pid"]) > 0 and float(values["latency p99 [s]"]) > 0.0
    wait_for(lambda: robot.values("worker")["waiting"] == "0")
    assert robot.status("worker").level == b"\x00" and robot.status("worker").message == "ready"
    assert set(robot.values("inputs")) == {
        "image [Hz]", "camera_info [Hz]", "depth [Hz]", "detections [Hz]", "frames [Hz]",
    }  # fmt: skip
    assert robot.values("problems")["state"] == "active"


def test_a_changed_camera_is_counted_and_used(robot: Robot) -> None:
    from robot import camera, found, wait_for

    from cupid_ros.convert.camera import make_camera_info

    robot.see(found("1"))
    robot.wait("/cupid/objects")
    wait_for(lambda: robot.values("problems"))
    before = int(robot.values("problems")["camera changes"])
    messages = robot.messages(found("2"))
    info = make_camera_info(robot.types, camera().crop(1, 0, 64, 48), read_header(messages["image"]))
    robot.send({**messages, "camera_info": info})
    wait_for(lambda: int(robot.values("problems")["camera changes"]) == before + 1)


def ask_when_seen(robot: Robot, **goal: Any) -> Any:
    """A goal, once the node has the image."""
    from robot import wait_for

    wait_for(lambda: float(robot.values("inputs").get("frames [Hz]", 0.0)) > 0.0)
    return robot.ask(**goal)


def test_static_transforms_hold_all_objects(robot: Robot, node: Any) -> None:
    from robot import found

    node.trigger_deactivate()
    assert robot.set("ros.output.tf_static", True) == (True, "")
    node.trigger_activate()
    robot.forget()
    robot.see(found("1"))
    robot.wait("/tf_static")
    robot.see(found("2", 40.0))
    robot.wait("/tf_static", 2)
    assert [item.child_frame_id for item in robot.heard["/tf_static"][1].transforms] == ["cupid/1", "cupid/2"]
    assert not robot.heard["/tf"]
    node.trigger_deactivate()
    assert robot.set("ros.output.tf_static", False) == (True, "")
    node.trigger_activate()


def test_objects_without_a_scale_have_no_transform(robot: Robot, node: Any) -> None:
    from robot import found

    node.trigger_deactivate()
    node.trigger_cleanup()
    assert robot.set("ros.topics.depth", "-") == (True, "")
    node.trigger_configure()
    node.trigger_activate()
    robot.forget()
    robot.see(found("1"), depth=None)
    (objects,) = robot.wait("/cupid/objects")
    assert objects.objects[0].scale_source == 0
    robot.wait("/cupid/markers")
    assert not robot.heard["/tf"] and not robot.heard["/cupid/markers"][0].markers
    node.trigger_deactivate()
    node.trigger_cleanup()
    assert robot.set("ros.topics.depth", "/camera/depth") == (True, "")
    node.trigger_configure()
    node.trigger_activate()
