"""The settings as parameters of a node: declared with their ranges, checked as a whole at every change."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.parameter import Parameter as RosParameter

from cupid_core.config import CupidConfig
from cupid_core.config.ros_parameters import Parameter, from_parameters, parameters
from cupid_core.errors import ConfigError

_LARGEST_INTEGER = 2**63 - 1
# What the running node reads from its settings for every image.
_AT_ONCE = ("ros.mode", "ros.preset", "ros.seed", "ros.update_poses")
_AT_ONCE_SECTIONS = ("ros.input.", "ros.output.")
# These are read for every image too, but messages are brought together by what was set at activate.
_SYNCHRONIZER = ("ros.input.sync_queue", "ros.input.sync_slop_s")


class NodeParameters:
    """The settings of a node.

    A value from a parameter file that is out of range does not end the node: the default is declared in its place,
    and `config` raises an error until a valid one is set.

    Args:
        node: an rclpy node, on which nothing is declared yet.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
        self._refused: dict[str, str] = {}
        # rclpy gives access to values of a file or the command line only for declared parameters.
        given: dict[str, Any] = {name: item.value for name, item in node._parameter_overrides.items()}
        self._names = [item.name for item in parameters(CupidConfig())]
        for item in parameters(CupidConfig()):
            self._declare(item, given.get(item.name, item.value))
        sections = set(CupidConfig.model_fields)
        self._unknown = [name for name in given if name.split(".")[0] in sections and name not in set(self._names)]

    def config(self) -> CupidConfig:
        """The settings to work with.

        Raises:
            ConfigError: a file or the command line gave an unknown name, or a value out of range that has not been
                corrected since.
        """
        if self._unknown:
            return from_parameters(CupidConfig, {self._unknown[0]: 0})
        if self._refused:
            raise ConfigError(" ".join(self._refused.values()), hint="Set it right, then configure again.")
        return self.changed()

    def changed(self, changes: Iterable[Any] = ()) -> CupidConfig:
        """The settings as they are, and as changes would make them.

        Args:
            changes: parameters of rclpy; those that are not settings are ignored.

        Raises:
            ConfigError: a value is out of range, or contradicts another one.
        """
        values = {name: self._node.get_parameter(name).value for name in self._names}
        values.update({item.name: item.value for item in changes if item.name in values})
        return from_parameters(CupidConfig, values)

    def accept(self, changes: Iterable[Any]) -> CupidConfig:
        """As `changed`, for what is being set now; it corrects refused values of a file.

        Raises:
            ConfigError: as `changed`.
        """
        changes = list(changes)
        config = self.changed(changes)
        for item in changes:
            self._refused.pop(item.name, None)
        return config

    def at_next_configure(self, changes: Iterable[Any]) -> list[str]:
        """Names of changed settings that the running node does not read again."""
        return [
            item.name
            for item in changes
            if (
                item.name in self._names and not (item.name in _AT_ONCE or item.name.startswith(_AT_ONCE_SECTIONS))
            )
            or item.name in _SYNCHRONIZER
        ]

    def _declare(self, item: Parameter, value: Any) -> None:
        self._node.declare_parameter(item.name, item.value, _descriptor(item), ignore_override=True)
        # A YAML file may write 60 for 60.0.
        value = float(value) if isinstance(item.value, float) and type(value) is int else value
        if value == item.value and type(value) is type(item.value):
            return
        try:
            from_parameters(CupidConfig, {item.name: value})
        except ConfigError as error:
            self._refused[item.name] = str(error)
            return
        (done,) = self._node.set_parameters([RosParameter(item.name, value=value)])
        if not done.successful:
            self._refused[item.name] = f"{item.name} is {value!r}: {done.reason}"


def _descriptor(item: Parameter) -> Any:
    """Range and description of a parameter; open bounds, which ROS lacks, are in the text, and `config` checks."""
    given: dict[str, Any] = {}
    bounded = item.low is not None or item.high is not None
    if bounded and type(item.value) is int:
        low, high = item.low if item.low is not None else -_LARGEST_INTEGER, item.high or _LARGEST_INTEGER
        given["integer_range"] = [IntegerRange(from_value=int(low), to_value=int(high))]
    elif bounded:
        low = -sys.float_info.max if item.low is None else item.low
        high = sys.float_info.max if item.high is None else item.high
        given["floating_point_range"] = [FloatingPointRange(from_value=low, to_value=high)]
    return ParameterDescriptor(
        name=item.name, description=item.description, additional_constraints=item.constraints, **given
    )
