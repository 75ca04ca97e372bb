"""`cupid ros`: the node from pip, for trying out, without a ROS installation or launch.

The command line of cupid_core finds it by its entry point (`cupid.commands` in pyproject.toml) and does not import
this package.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import tyro

from cupid_core.errors import ConfigError
from cupid_ros.errors import RosSetupError

# Set by the setup files of a ROS installation or workspace.
_SOURCED = ("ROS_DISTRO", "AMENT_PREFIX_PATH", "COLCON_PREFIX_PATH")
_INSTALL = 'Run `pip install "cupid_ros[ros]"` (Linux on x86_64), then `cupid ros build`.'


@dataclass(frozen=True)
class Run:
    """Start the node, configured and activated, until Ctrl-C.

    Attributes:
        config: parameter file, as config/recon.yaml.
        assignments: set a parameter, e.g. ros.topics.image=/camera/color/image_raw; docs/ros.md lists them.
        namespace: of the node and of its relative topics.
    """

    config: Path | None = None
    assignments: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(name="set", metavar="NAME=VALUE")
    ] = ()
    namespace: str = ""

    def __call__(self) -> int:
        """Exit code.

        Raises:
            ConfigError: an assignment is none, or the file is missing.
            RosSetupError: a ROS is sourced, or the wheels are not there.
        """
        words = ros_arguments(self)
        check_setup(os.environ)
        from cupid_ros.node_process import main

        return main(words, activate=True)


@dataclass(frozen=True)
class Build:
    """Build the message packages that the wheels lack: once after `pip install "cupid_ros[ros]"`.

    Attributes:
        jobs: compilers at a time.
    """

    jobs: int = os.cpu_count() or 1

    def __call__(self) -> int:
        """Exit code.

        Raises:
            RosSetupError: a ROS is sourced.
            RosBuildError: see `cupid_ros.ros_wheels.build`.
        """
        refuse_sourced_ros(os.environ)
        from cupid_ros.ros_wheels import Environment, build

        logging.basicConfig(level=logging.INFO, format="%(message)s")
        build(Environment(Path(sys.prefix), self.jobs))
        return 0


def ros(
    command: Annotated[
        Annotated[Run, tyro.conf.subcommand("run")] | Annotated[Build, tyro.conf.subcommand("build")],
        tyro.conf.arg(name=""),
    ],
) -> int:
    """The ROS 2 node from pip, for trying out; on a robot use ROS packages of its distribution and ros2 launch."""
    return command()


def ros_arguments(options: Run) -> list[str]:
    """Words for `rclpy.init`.

    Raises:
        ConfigError: an assignment is no NAME=VALUE, or the file is missing.
    """
    words = ["--ros-args"]
    if options.namespace:
        words += ["-r", f"__ns:=/{options.namespace.strip('/')}"]
    if options.config is not None:
        if not options.config.is_file():
            raise ConfigError(f"{options.config} does not exist.", hint="Give a parameter file.")
        words += ["--params-file", str(options.config)]
    for item in options.assignments:
        name, separator, value = item.partition("=")
        if not separator or not name:
            raise ConfigError(f"'{item}' is no NAME=VALUE.", hint="For example --set ros.mode=on_request.")
        # ROS reads values as YAML, where a bare - begins a list.
        words += ["-p", f"{name}:={value if value not in ('-', '') else repr(value)}"]
    return words


def refuse_sourced_ros(environment: Mapping[str, str]) -> None:
    """Two ROS installations in one process would mix their libraries.

    Raises:
        RosSetupError: variables name a sourced one.
    """
    found = [f"{name}={environment[name]}" for name in _SOURCED if environment.get(name)]
    if found:
        raise RosSetupError(
            f"A ROS workspace is sourced here: {found[0]}.",
            hint="Use `ros2 launch cupid_ros recon.launch.py`, or open a shell without it.",
        )


def check_setup(environment: Mapping[str, str]) -> None:
    """Refuse what the node could not run with.

    Raises:
        RosSetupError: a ROS is sourced, the wheels are not installed, or the interfaces are not built.
    """
    refuse_sourced_ros(environment)
    if find_spec("rclpy") is None:
        raise RosSetupError("rclpy is not installed.", hint=_INSTALL)
    for name in ("cupid_ros.msg", "vision_msgs", "tf2_msgs"):
        if find_spec(name) is None:
            raise RosSetupError(f"The package {name} is not built.", hint="Run `cupid ros build`.")
