"""recon.launch.py as it is started by people, looked at through the command line of ROS 2.

`launch_test launched.py config:=FILE` runs it; tests/ros/test_node_launch.py does that. FILE names a checkpoint.
"""

from __future__ import annotations

import subprocess
import sys
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any

import launch_testing
import numpy as np
import rclpy
from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_testing.actions import ReadyToTest

from cupid_ros.convert.header import read_header
from cupid_ros.convert.image import make_image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from patience import patient
from robot import FRAME, TOPICS, Robot, found, wait_for


def generate_test_description() -> LaunchDescription:
    """The launch file with the topics of the test."""
    file = Path(get_package_share_directory("cupid_ros")) / "launch" / "recon.launch.py"
    given = {role: TOPICS[role] for role in ("image", "camera_info", "depth", "detections")}
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(file)),
        launch_arguments={**given, "config": LaunchConfiguration("config")}.items(),
    )
    return LaunchDescription([DeclareLaunchArgument("config"), node, ReadyToTest()])


def ros2(*words: str, seconds: float = 60.0) -> str:
    """What a command of ROS 2 prints, within that time."""
    done = subprocess.run(["ros2", *words], capture_output=True, text=True, timeout=patient(seconds), check=False)
    return done.stdout + done.stderr


class TestRunning(unittest.TestCase):
    """In the order of their names: the node is one for all of them."""

    robot: Robot

    @classmethod
    def setUpClass(cls) -> None:
        rclpy.init(args=[])
        cls.robot = Robot()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.robot.close()
        rclpy.shutdown()

    def test_1_it_becomes_active_by_itself(self) -> None:
        wait_for(lambda: self.robot.state() == "active", 120.0)

    def test_2_objects_are_published(self) -> None:
        messages = self.robot.messages(replace(found("1"), box=(20.0, 8.0, 44.0, 32.0)))
        labels = np.zeros((48, 64), np.uint8)
        labels[8:32, 20:44] = 1
        stamped = read_header(messages["image"])
        self.robot.send({**messages, "labels": make_image(self.robot.types, labels, "mono8", stamped)})
        wait_for(lambda: self.robot.heard["/cupid/objects"], 120.0)
        echoed = ros2("topic", "echo", "--no-daemon", "--once", "/cupid/objects", "cupid_ros/msg/ObjectArray",
                      "--qos-durability", "transient_local", "--qos-reliability", "reliable")  # fmt: skip
        self.assertIn(f"frame_id: {FRAME}", echoed)
        (objects,) = self.robot.heard["/cupid/objects"]
        self.assertEqual([item.id for item in objects.objects] + list(objects.failed_ids), ["1"])
        if objects.objects and objects.objects[0].scale_source:
            (transforms,) = self.robot.wait("/tf")
            self.assertEqual([item.child_frame_id for item in transforms.transforms], ["cupid/1"])
        else:  # random networks make what they like; without a scale there is no transform
            self.assertFalse(self.robot.heard["/tf"])

    def test_3_the_action_answers_with_feedback(self) -> None:
        said = ros2("action", "send_goal", "--feedback", "/cupid/reconstruct", "cupid_ros/action/Reconstruct",
                    "{preset: fast}", seconds=180.0)  # fmt: skip
        self.assertIn("Goal accepted", said)
        self.assertIn("stage: structure", said)
        self.assertRegex(said, "Goal finished with status: (SUCCEEDED|ABORTED)")

    def test_4_diagnostics_are_published(self) -> None:
        kind = "diagnostic_msgs/msg/DiagnosticArray"
        output = ros2("topic", "echo", "--no-daemon", "--once", "/diagnostics", kind)
        self.assertIn("recon_node: worker", output)
        self.assertRegex(output, r"key: latency p50 \[s\]")

    def test_5_twice_through_all_states(self) -> None:
        # Time to discover the node, without which the command says that there is none.
        found = ("/recon_node", "--no-daemon", "--spin-time", str(patient(3.0)))
        for word in ("deactivate", "cleanup", "configure", "activate") * 2:
            said = ros2("lifecycle", "set", *found, word, seconds=120.0)
            self.assertIn("Transitioning successful", said)
        self.assertIn("active", ros2("lifecycle", "get", *found))

    def test_6_parameters_have_ranges(self) -> None:
        found = ("--no-daemon", "--spin-time", str(patient(3.0)))
        output = ros2("param", "describe", *found, "/recon_node", "ros.input.max_objects")
        self.assertRegex(output, r"Min value: 1\s+Max value: 1000")
        self.assertIn("failed", ros2("param", "set", *found, "/recon_node", "ros.input.max_objects", "0"))


@launch_testing.post_shutdown_test()
class TestAfterwards(unittest.TestCase):
    """How the processes ended."""

    def test_it_ended_in_order(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
