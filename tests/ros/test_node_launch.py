"""The node as a process: launched as people do it, and ended while it works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback_dds import loopback
from patience import patient

from cupid_core import config as settings_of
from cupid_core.config import CupidConfig
from cupid_core.config.ros_parameters import to_ros_yaml

if TYPE_CHECKING:
    from robot import Robot

HERE = Path(__file__).resolve().parent
# Random networks give no consistent pose, so any is let through; two steps do.
LOOSE = {
    "pose": {"max_noise": 0.5, "trusted_noise": 0.5},
    "reconstruct": {"samplers": "settings"},
    "structure_sampler": {"steps": 2},
    "appearance_sampler": {"steps": 2},
    "mesh": {"triangle_budget": 300},
}


def test_the_launch_file_with_networks_from_the_command_line(
    ros: None, sparse_checkpoint: Path, tmp_path: Path
) -> None:
    index = pytest.importorskip("ament_index_python.packages", reason="there is no ROS 2 here")
    for package in ("launch_testing", "launch_ros", "ros2cli"):
        pytest.importorskip(package, reason=f"{package} comes with a ROS installation, and not as a wheel")
    try:
        index.get_package_share_directory("cupid_ros")
    except index.PackageNotFoundError:
        pytest.skip("the package is not built with colcon, or its workspace is not sourced")
    networks = {"checkpoint": str(sparse_checkpoint), "device": "cpu", "preset": "fast"}
    settings = {**LOOSE, "ros": {**networks, "topics": {"labels": "/labels"}}}
    file = tmp_path / "recon.yaml"
    file.write_text(to_ros_yaml(settings_of.from_mapping(CupidConfig, settings)))
    command = [sys.executable, "-m", "launch_testing.launch_test", str(HERE / "launch" / "launched.py")]
    environment = {**os.environ, **loopback(os.getpid() + 1)}
    done = subprocess.run(
        [*command, f"config:={file}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=patient(900.0),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def process(*parameters: str) -> Iterator[subprocess.Popen[str]]:
    """The node as a process of its own, with the job of the tests."""
    from robot import TOPICS

    topics = [f"ros.topics.{role}:={topic}" for role, topic in TOPICS.items() if role != "labels"]
    words = [word for item in (*topics, *parameters) for word in ("-p", item)]
    started = subprocess.Popen([sys.executable, str(HERE / "stub_node.py"), "--ros-args", *words])
    try:
        yield started
    finally:
        started.kill()
        started.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_answers_an_open_goal(robot: Robot, number: signal.Signals) -> None:
    from robot import found, wait_for

    with process("ros.mode:=on_request") as node:
        assert robot.change("configure") and robot.change("activate")
        robot.see(found("1", word="slow"))
        wait_for(lambda: float(robot.values("inputs").get("frames [Hz]", 0.0)) > 0.0)
        handle = robot.ask()
        wait_for(lambda: robot.feedback)
        worker = int(robot.values("worker")["pid"])
        begun = time.monotonic()
        node.send_signal(number)
        how, result = robot.answer(handle, seconds=5.0)
        assert (how, result.code) == ("aborted", "cancelled")
        # A terminal and `ros2 launch` both send it, so that the second comes at any moment of the end.
        while node.poll() is None and time.monotonic() - begun < patient(10.0):
            node.send_signal(number)
            time.sleep(0.02)
        assert node.returncode == 0
        wait_for(lambda: not Path(f"/proc/{worker}").exists() or zombie(worker), 5.0)
    assert not robot.heard["/cupid/objects"]


def zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_signal_while_the_networks_load(robot: Robot, monkeypatch: pytest.MonkeyPatch) -> None:
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState
    from robot import wait_for

    monkeypatch.setenv("LOADING_S", "60")
    with process() as node:
        client = robot.node.create_client(ChangeState, "/recon_node/change_state")
        assert client.wait_for_service(timeout_sec=patient(60.0))
        client.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
        wait_for(lambda: robot.state() == "configuring")
        node.send_signal(signal.SIGINT)
        assert node.wait(patient(10.0)) == 0
        robot.node.destroy_client(client)
