"""`cupid ros`: its words, what it refuses, and the node that it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tyro
from patience import patient

from cupid_core.errors import ConfigError
from cupid_ros.errors import RosSetupError
from cupid_ros.ros_command import Build, Run, check_setup, refuse_sourced_ros, ros, ros_arguments

if TYPE_CHECKING:
    from robot import Robot

HERE = Path(__file__).resolve().parent


def test_options_become_arguments_of_ros(tmp_path: Path) -> None:
    file = tmp_path / "recon.yaml"
    file.write_text("")
    options = Run(file, ("ros.topics.labels=-", "ros.topics.image=/a=b", "ros.output.tf=false"), "robot1")
    assert ros_arguments(options) == [
        "--ros-args", "-r", "__ns:=/robot1", "--params-file", str(file), "-p", "ros.topics.labels:='-'",
        "-p", "ros.topics.image:=/a=b", "-p", "ros.output.tf:=false",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        ros_arguments(Run(assignments=("ros.mode",)))
    with pytest.raises(ConfigError, match="does not exist"):
        ros_arguments(Run(config=tmp_path / "nothing.yaml"))


def test_the_command_line_has_run_and_build(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    for kind in (Run, Build):
        monkeypatch.setattr(kind, "__call__", lambda self: called.append(self) or 0)
    tyro.cli(ros, args=["run", "--set", "ros.mode=on_request", "--namespace", "a"])
    tyro.cli(ros, args=["build", "--jobs", "3"])
    assert called == [Run(None, ("ros.mode=on_request",), "a"), Build(3)]


def test_a_sourced_ros_is_refused_with_a_hint() -> None:
    refuse_sourced_ros({"PATH": "/usr/bin", "AMENT_PREFIX_PATH": ""})
    for variable in ({"ROS_DISTRO": "jazzy"}, {"AMENT_PREFIX_PATH": "/opt/ros/jazzy"}):
        with pytest.raises(RosSetupError, match="sourced") as caught:
            check_setup(variable)
        assert "ros2 launch" in str(caught.value.hint)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"rclpy", "cupid_ros.msg", "vision_msgs"}
    monkeypatch.setattr("cupid_ros.ros_command.find_spec", lambda name: name if name in found else None)
    with pytest.raises(RosSetupError, match="tf2_msgs is not built"):
        check_setup({})
    found.clear()
    with pytest.raises(RosSetupError, match="rclpy is not installed") as caught:
        check_setup({})
    assert "cupid_ros[ros]" in str(caught.value.hint)


def command(*words: str) -> list[str]:
    start = "import sys; from cupid_core.cli import _call; from cupid_ros.ros_command import ros; "
    return [sys.executable, "-c", f"{start}sys.exit(_call('ros', ros, sys.argv[1:]))", *words]


def environment() -> dict[str, str]:
    """Without what a sourced ROS sets; the wheels need none of it."""
    root = str(HERE.parents[1])
    kept = {key: value for key, value in os.environ.items() if key not in ("AMENT_PREFIX_PATH", "ROS_DISTRO")}
    return {**kept, "PYTHONPATH": root}


def test_the_node_becomes_active_and_ends_in_order(robot: Robot, sparse_checkpoint: Path) -> None:
    from robot import TOPICS, wait_for

    if "ros_wheels_bootstrapper" not in sys.modules:
        pytest.skip("this ROS is not that of the wheels, which the command is for")
    given = {f"ros.topics.{role}": topic for role, topic in TOPICS.items()}
    given |= {"ros.checkpoint": str(sparse_checkpoint), "ros.device": "cpu"}
    words = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    node = subprocess.Popen(command("run", *words), env=environment())
    try:
        wait_for(lambda: robot.node.count_publishers("/cupid/objects") or node.poll() is not None, 120.0)
        wait_for(lambda: node.poll() is not None or robot.state() == "active")
        assert node.poll() is None
        node.send_signal(signal.SIGINT)
        assert node.wait(patient(20.0)) == 0
    finally:
        node.kill()
        node.wait()


def test_a_node_that_cannot_be_configured_ends_with_an_error(ros: None, tmp_path: Path) -> None:
    if "ros_wheels_bootstrapper" not in sys.modules:
        pytest.skip("this ROS is not that of the wheels, which the command is for")
    words = command("run", "--set", f"ros.checkpoint={tmp_path / 'nothing'}")
    done = subprocess.run(
        words, env=environment(), capture_output=True, text=True, timeout=patient(90.0), check=False
    )
    assert done.returncode == 1 and "[checkpoint_invalid]" in done.stderr
