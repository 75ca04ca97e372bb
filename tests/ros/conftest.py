"""Message types of a distribution, observations to publish, and a robot where there is a ROS 2."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest
from loopback_dds import loopback
from serving_stubs import box_record
from tiny_networks import sparse_checkpoint, tiny_checkpoint

from cupid_core.serving.errors import WorkerDiedError
from cupid_core.serving.records import Observation
from cupid_ros.messages import BagMessageTypes

if TYPE_CHECKING:
    from robot import Robot


__all__ = ["sparse_checkpoint", "tiny_checkpoint"]


_figures = pytest.StashKey[list[str]]()
ReportFigure = Callable[[str], None]


@pytest.fixture
def report_figure(request: pytest.FixtureRequest) -> ReportFigure:
    """Keeps a figure for the end of the run."""
    lines = request.config.stash.setdefault(_figures, [])
    return lambda text: lines.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what the tests of this folder have measured."""
    if lines := config.stash.get(_figures, []):
        terminalreporter.section("figures of the ROS layer")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def types() -> BagMessageTypes:
    return BagMessageTypes.of("jazzy")


@pytest.fixture
def observation() -> Observation:
    """Two metric objects, one without a scale, and one that failed."""
    return Observation(
        stamp_ns=1_700_000_000_123_456_789,
        frame_id="camera_color_optical_frame",
        objects=(box_record(3), box_record(4), box_record(5, metric=False)),
        failures={"6": WorkerDiedError("It died.", hint="Ask again.")},
    )


@pytest.fixture(scope="session")
def ros() -> Iterator[None]:
    """ROS 2 with DDS on loopback only and a domain of its own; skips where it is not there.

    With CUPID_REQUIRE_ROS=1, as `make ros-test` sets it, a missing ROS fails instead.
    """
    for package in ("rclpy", "cupid_ros.msg", "vision_msgs.msg", "tf2_msgs.msg"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            why = f"there is no ROS 2 here with this package built: `make ros`, or docs/ros.md, 'Build': {error}"
            (pytest.fail if os.environ.get("CUPID_REQUIRE_ROS") == "1" else pytest.skip)(why)
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    before = dict(os.environ)
    os.environ.update(loopback(os.getpid()))
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    yield
    rclpy.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def robot(ros: None) -> Iterator[Robot]:
    from robot import Robot

    it = Robot()
    yield it
    it.close()
