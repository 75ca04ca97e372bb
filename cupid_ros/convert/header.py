"""std_msgs/Header to a stamp and a frame and back, exact to the nanosecond."""

from __future__ import annotations

from typing import Any

from cupid_core.serving.frames import Stamped
from cupid_ros.errors import InvalidMessageError
from cupid_ros.messages import MessageTypes

_SECOND_NS = 1_000_000_000
_INT32 = 2**31


def read_header(message: Any) -> Stamped:
    """Stamp and frame of a message with a header.

    Raises:
        InvalidMessageError: nanoseconds of a second or more.
    """
    stamp = message.header.stamp
    nanosec = int(stamp.nanosec)
    if not 0 <= nanosec < _SECOND_NS:
        raise InvalidMessageError(
            f"The stamp has {nanosec} nanoseconds.", hint="Stamps have less than 1000000000 of them."
        )
    return Stamped(int(stamp.sec) * _SECOND_NS + nanosec, str(message.header.frame_id))


def make_header(types: MessageTypes, stamped: Stamped) -> Any:
    """std_msgs/Header; the inverse of `read_header`.

    Raises:
        InvalidMessageError: the stamp does not fit into a message.
    """
    sec, nanosec = divmod(stamped.stamp_ns, _SECOND_NS)
    if not -_INT32 <= sec < _INT32:
        raise InvalidMessageError(
            f"Stamp {stamped.stamp_ns} ns is out of range.", hint="Seconds have 32 bits in ROS."
        )
    stamp = types.make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    return types.make("std_msgs/msg/Header", stamp=stamp, frame_id=stamped.frame_id)
