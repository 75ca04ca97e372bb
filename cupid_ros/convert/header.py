"""std_msgs/Header to a stamp and a frame and back, exact to the nanosecond."""

from __future__ import annotations

import struct
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
        raise _too_many(nanosec)
    return Stamped(int(stamp.sec) * _SECOND_NS + nanosec, str(message.header.frame_id))


def read_raw_header(raw: bytes) -> Stamped:
    """Stamp and frame of a message that begins with a header, from its CDR bytes, without decoding the rest.

    Raises:
        InvalidMessageError: as `read_header`, or the bytes are too short.
    """
    order = "<" if raw[1:2] == b"\x01" else ">"
    try:
        sec, nanosec, length = struct.unpack_from(f"{order}iII", raw, 4)
    except struct.error as error:
        raise InvalidMessageError(
            f"{len(raw)} bytes hold no header.", hint="Check that the bag is complete."
        ) from error
    if nanosec >= _SECOND_NS:
        raise _too_many(nanosec)
    frame_id = raw[16 : 16 + length].rstrip(b"\0").decode("utf-8", "replace")
    return Stamped(sec * _SECOND_NS + nanosec, frame_id)


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


def _too_many(nanosec: int) -> InvalidMessageError:
    return InvalidMessageError(
        f"The stamp has {nanosec} nanoseconds.", hint="Stamps have less than 1000000000 of them."
    )
