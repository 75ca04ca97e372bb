"""Transforms of a running node: in a fixed frame, absent where TF does not know the camera, and on the masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from golden_scene import LENSES, camera_with, make_golden_job, render_truth
from serving_stubs import make_actor

from cupid_core.geometry.se3 import SE3
from cupid_core.image.rectify import rectify
from cupid_core.render.raycast import render_mesh
from cupid_core.serving.frames import Detection, Stamped
from cupid_core.types import TriangleMesh
from cupid_ros.convert.camera import make_camera_info, read_camera
from cupid_ros.convert.detections import make_detections
from cupid_ros.convert.header import make_header, read_header
from cupid_ros.convert.image import make_image
from cupid_ros.convert.objects import make_quaternion, make_vector
from cupid_ros.convert.transforms import read_transform

if TYPE_CHECKING:
    from conftest import ReportFigure
    from robot import Robot


def say_where_the_camera_is(robot: Robot, T_map_camera: SE3, stamp_ns: int) -> None:
    from robot import FRAME, wait_for

    types = robot.types
    transform = types.make(
        "geometry_msgs/msg/Transform",
        translation=make_vector(types, T_map_camera.translation, "Vector3"),
        rotation=make_quaternion(types, T_map_camera.quat_xyzw),
    )
    message = types.make(
        "geometry_msgs/msg/TransformStamped",
        header=make_header(types, Stamped(stamp_ns, "map")),
        child_frame_id=FRAME,
        transform=transform,
    )
    wait_for(lambda: robot.tf.get_subscription_count() >= 2)  # the robot itself, and the node
    robot.tf.publish(types.make("tf2_msgs/msg/TFMessage", transforms=[message]))


def of_objects(robot: Robot) -> list[Any]:
    sent = [item for message in robot.heard["/tf"] for item in message.transforms]
    return [item for item in sent if item.child_frame_id.startswith("cupid/")]


def test_objects_in_a_fixed_frame(robot: Robot) -> None:
    from robot import FRAME, found, running, wait_for

    quat = torch.tensor([0.5, -0.5, 0.5, -0.5], dtype=torch.float64)
    T_map_camera = SE3.from_quat_xyzw(quat, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    with running(make_actor, ros__output__fixed_frame="map"):
        # TF does not know the camera: the object is kept, its transform is not made up.
        robot.see(found("1"))
        (objects,) = robot.wait("/cupid/objects")
        assert [item.id for item in objects.objects] == ["1"] and objects.header.frame_id == FRAME
        robot.wait_for_code("missing_transform")
        robot.wait("/cupid/markers")
        assert not of_objects(robot)
        # It knows it, and at another time only.
        messages = robot.messages(found("2"))
        stamp_ns = read_header(messages["image"]).stamp_ns
        say_where_the_camera_is(robot, T_map_camera, stamp_ns - 10**9)
        before = robot.count_of("missing_transform")
        robot.send(messages)
        robot.wait("/cupid/objects", 2)
        robot.wait_for_code("missing_transform", more_than=before)
        assert not of_objects(robot)
        # It knows it at the stamp of the image.
        messages = robot.messages(found("3"))
        stamp_ns = read_header(messages["image"]).stamp_ns
        say_where_the_camera_is(robot, T_map_camera, stamp_ns - 10**8)
        say_where_the_camera_is(robot, T_map_camera, stamp_ns + 10**8)
        wait_for(lambda: len(robot.heard["/tf"]) >= 3)
        robot.send(messages)
        wait_for(lambda: of_objects(robot))
        (sent,) = of_objects(robot)
        assert read_header(sent) == Stamped(stamp_ns, "map") and sent.child_frame_id == "cupid/3"
        known, late = (robot.wait("/cupid/objects", 3)[place].objects[0] for place in (2, 1))
        assert known.quality.reasons[-1].replace("-0", "0") == "up 0 -1 0", "z of the fixed frame, in the camera"
        assert not late.quality.reasons[-1].startswith("up")
        (item,) = robot.wait("/cupid/objects", 3)[2].objects
        p, q = item.pose.pose.position, item.pose.pose.orientation
        T_camera_object = SE3.from_quat_xyzw(
            torch.tensor([q.x, q.y, q.z, q.w], dtype=torch.float64),
            torch.tensor([p.x, p.y, p.z], dtype=torch.float64),
        )
        expected = (T_map_camera @ T_camera_object).matrix()
        np.testing.assert_allclose(read_transform(sent).matrix(), expected, atol=1e-12)


@pytest.mark.parametrize("lens", LENSES)
def test_the_mesh_the_node_publishes_covers_the_mask(robot: Robot, lens: str, report_figure: ReportFigure) -> None:
    from robot import FRAME, running

    camera = camera_with(lens)
    labels, depth = render_truth(camera)
    now = Stamped(1_700_000_000_000_000_003, FRAME)
    with running(make_golden_job, ros__topics__labels="/labels"):
        robot.send(
            {
                "image": make_image(robot.types, np.full((240, 320, 3), 90, np.uint8), "bgr8", now),
                "camera_info": make_camera_info(robot.types, camera, now),
                "depth": make_image(robot.types, depth, "16UC1", now),
                "labels": make_image(robot.types, labels, "mono8", now),
                "detections": make_detections(robot.types, [Detection("mug_1", "mug", 0.9, None)], now),
            }
        )
        (objects,), (transforms,) = robot.wait("/cupid/objects"), robot.wait("/tf")
    (item,), (transform,) = objects.objects, transforms.transforms
    assert transform.child_frame_id == "cupid/mug_1" and read_header(transform) == now
    vertices = torch.tensor([[p.x, p.y, p.z] for p in item.mesh.vertices], dtype=torch.float32)
    faces = torch.tensor(np.array([face.vertex_indices for face in item.mesh.triangles], dtype=np.int64))
    info = read_camera(make_camera_info(robot.types, camera, now))
    flat = rectify(np.zeros((240, 320, 3), np.uint8), info, labels=labels)
    assert flat.labels is not None
    drawn = render_mesh(TriangleMesh(vertices, faces), read_transform(transform), flat.camera).mask
    mask = flat.labels == 1
    iou = float((drawn & mask).sum() / (drawn | mask).sum())
    report_figure(f"IoU {iou:.4f}")
    assert iou > 0.97, f"{lens}: IoU {iou:.4f}"
