"""What a running node answers: nothing detected, meshes on request and as files, refused frames, late settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
import pytest
import trimesh
from serving_stubs import make_actor

from cupid_core.serving.frames import Stamped
from cupid_ros.convert.detections import make_detections
from cupid_ros.convert.header import read_header

if TYPE_CHECKING:
    from robot import Robot


@pytest.fixture(scope="module")
def node(ros: None) -> Iterator[Any]:
    from robot import running

    with running(make_actor) as node:
        yield node


@pytest.fixture
def robot(robot: Robot, node: Any) -> Robot:
    robot.clear()
    robot.forget()
    return robot


def test_an_image_without_detections_is_no_problem(robot: Robot) -> None:
    from robot import found, wait_for

    wait_for(lambda: robot.values("problems"))
    before = int(robot.values("problems")["frames"])
    robot.see()
    wait_for(lambda: int(robot.values("problems")["frames"]) == before + 1)
    assert robot.status("problems").level == b"\x00" and robot.count_of("no_objects") == 0
    assert not robot.heard["/cupid/objects"]
    assert robot.set("ros.output.empty", True) == (True, "")
    stamp_ns = robot.see()
    (nothing,) = robot.wait("/cupid/objects")
    assert not nothing.objects and read_header(nothing).stamp_ns == stamp_ns
    assert robot.set("ros.output.empty", False) == (True, "")
    robot.see(found("1"))
    assert [item.id for item in robot.wait("/cupid/objects", 2)[1].objects] == ["1"]


def test_the_result_of_the_action_has_meshes_only_when_asked(robot: Robot) -> None:
    from robot import found, wait_for

    robot.see(found("1"))
    robot.wait("/cupid/objects")
    for meshes, triangles in ((False, 0), (True, 12)):
        _, result = robot.answer(robot.ask(meshes=meshes))
        (item,) = result.objects.objects
        assert len(item.mesh.triangles) == triangles and item.dimensions.x > 0.0 and item.mesh_uri == ""
    wait_for(lambda: len(robot.heard["/cupid/objects"]) == 3)
    assert len(robot.heard["/cupid/objects"][-1].objects[0].mesh.triangles) == 12


def test_meshes_are_written_as_files_and_removed_with_their_objects(robot: Robot, tmp_path: Path) -> None:
    from robot import found

    folder = tmp_path / "meshes"
    assert robot.set("ros.output.mesh_folder", str(folder)) == (True, "")
    assert robot.set("ros.output.meshes", False) == (True, "")
    robot.see(found("1"), found("2", 30.0))
    (objects,) = robot.wait("/cupid/objects")
    for item in objects.objects:
        assert Path(urlparse(item.mesh_uri).path).read_text().count("\nf ") == 12
        assert not item.mesh.triangles
        assert robot.get_mesh(item.id).object.mesh_uri == item.mesh_uri
    _, result = robot.answer(robot.ask())
    assert [item.mesh_uri for item in result.objects.objects] == [item.mesh_uri for item in objects.objects]
    robot.clear()
    assert not list(folder.iterdir())
    assert robot.set("ros.output.mesh_folder", "") == (True, "")
    assert robot.set("ros.output.meshes", True) == (True, "")


def test_get_mesh_writes_any_format_and_leaves_the_arrays_out(robot: Robot, tmp_path: Path) -> None:
    from robot import found

    robot.see(found("mug 1"))
    robot.wait("/cupid/objects")
    without_folder = robot.get_mesh("mug 1", "stl")
    assert (without_folder.success, without_folder.code) == (False, "invalid_request")
    assert "ros.output.mesh_folder" in without_folder.text
    assert robot.set("ros.output.mesh_folder", str(tmp_path / "meshes")) == (True, "")
    sizes = {}
    for kind in ("obj", "ply", "stl", "glb"):
        answer = robot.get_mesh("mug 1", kind)
        assert answer.success and not answer.object.mesh.triangles and answer.object.dimensions.x > 0.0
        path = Path(url2pathname(urlparse(answer.object.mesh_uri).path))
        assert path.suffix == f".{kind}" and path.is_file()
        vertices = np.asarray(trimesh.load_mesh(path).vertices)
        sizes[kind] = sorted(vertices.max(axis=0) - vertices.min(axis=0))
    size = answer.object.dimensions
    for kind, found_size in sizes.items():
        np.testing.assert_allclose(found_size, sorted([size.x, size.y, size.z]), atol=1e-5, err_msg=kind)
    refused = robot.get_mesh("mug 1", "../x")
    assert (refused.success, refused.code) == (False, "invalid_request") and "glb" in refused.text
    robot.clear()
    assert not list((tmp_path / "meshes").iterdir())
    assert robot.set("ros.output.mesh_folder", "") == (True, "")


def test_clouds_of_all_objects_come_as_one_message(robot: Robot) -> None:
    from robot import found

    assert robot.set("ros.output.clouds", True) == (True, "")
    assert robot.set("ros.output.point_count", 100) == (True, "")
    robot.see(found("mug 1"), found("mug_1", 30.0))
    (objects,) = robot.wait("/cupid/objects")
    (clouds,) = robot.wait("/cupid/clouds")
    assert list(clouds.ids) == ["mug 1", "mug_1"] == [item.id for item in objects.objects]
    assert {str(part.header) for part in (clouds, *clouds.clouds)} == {str(objects.header)}
    assert [cloud.width for cloud in clouds.clouds] == [100, 100]
    (sent,) = robot.wait("/tf")
    assert [item.child_frame_id for item in sent.transforms] == ["cupid/mug%201", "cupid/mug_1"]
    assert robot.set("ros.output.clouds", False) == (True, "")


def test_depth_of_another_frame_is_left_out_and_its_topic_is_named(robot: Robot) -> None:
    from robot import TOPICS, found, wait_for

    messages = robot.messages(found("1"))
    messages["depth"].header.frame_id = "camera_depth_optical_frame"
    robot.send(messages)
    (objects,) = robot.wait("/cupid/objects")
    assert [item.scale_source for item in objects.objects] == [0] and not robot.heard["/tf"]
    wait_for(lambda: robot.status("problems") is not None and TOPICS["depth"] in robot.status("problems").message)


def test_two_images_with_one_stamp_are_not_joined(robot: Robot) -> None:
    from robot import found

    before = robot.count_of("stamp_mismatch")
    messages = robot.messages(found("1"))
    robot.send({"image": messages["image"]})
    robot.send(messages)
    robot.wait_for_code("stamp_mismatch", more_than=before)
    assert [item.id for item in robot.wait("/cupid/objects")[0].objects] == ["1"]


@pytest.mark.parametrize("what", ["no frame", "another frame"])
def test_frames_that_tf_could_not_use_are_refused(robot: Robot, what: str) -> None:
    from robot import found

    messages = robot.messages(found("1"))
    stamped = read_header(messages["image"])
    before = robot.count_of("invalid_message")
    if what == "no frame":
        for message in messages.values():
            message.header.frame_id = ""
    else:
        elsewhere = Stamped(stamped.stamp_ns, "map")
        messages["detections"] = make_detections(robot.types, [found("1")], elsewhere)
    robot.send(messages)
    robot.wait_for_code("invalid_message", more_than=before)
    assert not robot.heard["/cupid/objects"] and not robot.heard["/tf"]


def test_a_change_that_waits_for_the_next_configure_says_so(robot: Robot) -> None:
    from robot import wait_for

    for name, value in (
        ("ros.worker.deadline_s", 50.0),
        ("ros.topics.labels", "none"),
        ("ros.input.sync_queue", 21),
    ):
        assert robot.set(name, value) == (True, "")
        wait_for(lambda name=name: name in robot.values("problems").get("in use when configured again", ""))
    for score in (0.1, 0.0):
        assert robot.set("ros.input.min_score", score) == (True, "")
    assert "min_score" not in robot.values("problems")["in use when configured again"]


def test_a_camera_info_that_came_once_is_enough(robot: Robot, node: Any) -> None:
    from robot import SECOND, found

    assert robot.change("deactivate") and robot.change("activate")
    robot.forget()
    messages = robot.messages(found("1"))
    stamp_ns = read_header(messages["image"]).stamp_ns
    robot.send({"camera_info": messages["camera_info"]})
    for number in (2, 3):
        later = robot.messages(found(str(number)), stamp_ns=stamp_ns + number * SECOND)
        del later["camera_info"]
        robot.send(later)
        objects = robot.wait("/cupid/objects", number - 1)[-1]
        assert [item.id for item in objects.objects] == [str(number)]


def test_images_that_are_lost_are_noticed(robot: Robot) -> None:
    from robot import wait_for

    def lost() -> bool:
        robot.senders["camera_info"].publish(robot.messages()["camera_info"])
        status = robot.status("inputs")
        return status is not None and "images are lost" in status.message

    wait_for(lost)
    assert "fastdds.xml" in robot.status("inputs").message and robot.status("inputs").level == b"\x01"


def test_python_listeners_get_arrays(robot: Robot) -> None:
    from robot import found, wait_for

    from cupid_ros.listen import subscribe_objects

    heard: list[Any] = []
    subscribe_objects(robot.node, heard.append)
    stamp_ns = robot.see(found("1"))
    wait_for(lambda: any(message.objects for message in heard))
    (item,) = heard[-1].objects
    (expected,) = robot.wait("/cupid/objects")[-1].objects
    assert read_header(heard[-1]).stamp_ns == stamp_ns and item.mesh.vertices.shape == (8, 3)
    np.testing.assert_array_equal(item.mesh.vertices, [[p.x, p.y, p.z] for p in expected.mesh.vertices])
