"""The node with real networks on a real frame: what it publishes is what the same server makes without ROS.

CUPID_TEST_CHECKPOINT=SOURCE names networks (a folder or a hub id) where none ships inside.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from cupid_core import config as settings_of
from cupid_core.config import CupidConfig
from cupid_core.models.locate import embedded
from cupid_core.serving.engine import InProcessEngine
from cupid_core.serving.jobs import MakeCupidJob
from cupid_core.serving.records import Observation
from cupid_core.serving.server import Server
from cupid_ros.frame_messages import FrameMessages, read_frame
from cupid_ros.rclpy_messages import message_class

if TYPE_CHECKING:
    from conftest import ReportFigure
    from robot import Robot

BAG = Path(__file__).resolve().parents[3] / "shared" / "data" / "tabletop_rgbd" / "bag"
ROLES = {
    "/camera/color/image_raw": "image",
    "/camera/color/camera_info": "camera_info",
    "/camera/aligned_depth_to_color/image_raw": "depth",
    "/segmentation/label_image": "labels",
    "/detections": "detections",
}


@pytest.fixture
def checkpoint() -> str:
    found = os.environ.get("CUPID_TEST_CHECKPOINT", "tabletop" if "tabletop" in embedded() else "")
    if not found:
        pytest.skip("no checkpoint ships inside: name one in CUPID_TEST_CHECKPOINT")
    return found


def recorded() -> dict[str, Any]:
    """The messages of the shared bag, as rclpy's classes, by role."""
    from rclpy.serialization import deserialize_message

    if not BAG.is_dir():
        pytest.skip(f"the example bag is not beside this checkout ({BAG} is absent)")
    with Reader(BAG) as reader:
        return {
            ROLES[connection.topic]: deserialize_message(bytes(data), message_class(connection.msgtype))
            for connection, _, data in reader.messages()
            if connection.topic in ROLES
        }


def test_the_real_frame_with_real_networks(robot: Robot, checkpoint: str, report_figure: ReportFigure) -> None:
    from robot import TOPICS, running, wait_for

    messages = recorded()
    given = {"ros__checkpoint": checkpoint, "ros__preset": "fast", "ros__device": "cpu"}
    # Large images on best effort get lost where the receive buffers of the system are small.
    given |= {f"qos_overrides__{topic}__subscription__reliability": "reliable" for topic in TOPICS.values()}
    begun = time.monotonic()
    with running(None, ros__topics__labels="/labels", ros__worker__deadline_s=600.0, **given) as node:
        assert robot.state() == "active", robot.status("problems")
        ready_s = time.monotonic() - begun
        robot.send(messages)
        wait_for(lambda: node._inputs.frames)
        wait_for(lambda: robot.heard["/cupid/objects"], 600.0)
        took_s = time.monotonic() - begun - ready_s
        (objects,) = robot.heard["/cupid/objects"]
        metric = [item for item in objects.objects if item.scale_source]
        (transforms,) = robot.wait("/tf") if metric else ([],)
        robot.wait("/cupid/markers")
    config = settings_of.from_mapping(
        CupidConfig, {"ros": {"checkpoint": checkpoint, "preset": "fast", "device": "cpu"}}
    )
    server = Server(InProcessEngine(MakeCupidJob.of(config)), config.ros)
    server.offer(read_frame(FrameMessages(**messages), config.ros.input))
    (expected,) = server.collect()
    assert isinstance(expected, Observation)
    assert [item.id for item in objects.objects] == [item.id for item in expected.objects]
    assert list(objects.failed_ids) == list(expected.failures)
    for item, record in zip(objects.objects, expected.objects, strict=True):
        p, q = item.pose.pose.position, item.pose.pose.orientation
        np.testing.assert_allclose([p.x, p.y, p.z], record.translation, atol=1e-6)
        assert abs(np.dot([q.x, q.y, q.z, q.w], record.quat_xyzw)) > 1 - 1e-9  # q and -q are the same rotation
        assert len(item.mesh.vertices) == len(record.vertices)
    assert len(metric) == (len(transforms.transforms) if metric else 0)
    ious = ", ".join(f"{item.id} {item.quality.silhouette_iou:.2f}" for item in objects.objects)
    report_figure(f"ready after {ready_s:.1f} s, objects after {took_s:.1f} s; silhouette IoU {ious}")
