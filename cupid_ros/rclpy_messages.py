"""Messages as rclpy wants them: the classes that rosidl generates.

Takes the place of `BagMessageTypes` where there is a ROS installation. Imports message packages by name, when the
first message of a type is made, and nothing of rclpy.
"""

from __future__ import annotations

import array
import importlib
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_ros.cdr import CdrMessageTypes
from cupid_ros.errors import UnknownMessageError
from cupid_ros.messages import check_columns

# Element type of an array, as rosidl writes it -> type code of `array.array` and type of numpy.
_NUMBERS = {
    "int8": ("b", "i1"), "uint8": ("B", "u1"), "int16": ("h", "i2"), "uint16": ("H", "u2"),
    "int32": ("i", "i4"), "uint32": ("I", "u4"), "int64": ("q", "i8"), "uint64": ("Q", "u8"),
    "float": ("f", "f4"), "double": ("d", "f8"),
}  # fmt: skip
_SCALARS: dict[str, Callable[[Any], Any]] = {
    "boolean": bool,
    "float": float,
    "double": float,
    # The field of a DiagnosticStatus or CollisionObject that .msg files call byte.
    "octet": lambda value: bytes([value]),
    **{name: int for name in _NUMBERS if "int" in name},
}
_Convert = Callable[[Any], Any]


class RclpyMessageTypes:
    """See `cupid_ros.messages.MessageTypes`.

    Sequences of numbers become `array.array` through their bytes and arrays of fixed size become numpy arrays:
    rclpy copies both as a whole instead of number by number.
    """

    def make(self, name: str, /, **fields: Any) -> Any:
        """See `MessageTypes.make`."""
        kind, described = _described(name)
        unknown = fields.keys() - described.keys()
        if unknown:
            raise UnknownMessageError(
                f"{name} has no field {sorted(unknown)}; it has {sorted(described)}.",
                hint="Use message packages of the same version on both sides.",
            )
        return kind(**{key: described[key](value) for key, value in fields.items()})

    def make_rows(self, name: str, rows: NDArray[Any], /) -> list[Any]:
        """See `MessageTypes.make_rows`."""
        kind, described = _described(name)
        if len(described) == 1:  # one array of fixed size
            ((key, convert),) = described.items()
            check_columns(name, rows, np.size(getattr(kind(), key)))
            return [kind(**{key: convert(row)}) for row in rows]
        check_columns(name, rows, len(described))
        return [kind(**dict(zip(described, row, strict=True))) for row in rows.tolist()]


def message_class(name: str) -> Any:
    """The generated class of a message type, "sensor_msgs/msg/Image".

    Raises:
        UnknownMessageError: its package is not installed, or has no such message.
    """
    package, folder, kind = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{folder}"), kind)
    except (ImportError, AttributeError) as error:
        raise UnknownMessageError(
            f"Message type {name} is unknown: {error}.",
            hint=f"Install the ROS package {package}, and source its workspace.",
        ) from error


def has_wire_format(name: str, types: CdrMessageTypes) -> bool:
    """Whether the generated class of a message has the fields that `types` writes, those of its parts included.

    Raises:
        UnknownMessageError: its package is not installed.
    """
    return _layout(name) == types.layout(name)


def _layout(name: str) -> tuple[tuple[str, Any], ...]:
    found = []
    for key, text in message_class(name).get_fields_and_field_types().items():
        # A bound, as in "sequence<double, 3>", does not change the bytes.
        kind, _, rest = text.removeprefix("sequence<").split(",")[0].rstrip(">").partition("[")
        shape = "sequence" if text.startswith("sequence<") else f"[{rest.rstrip(']')}]" if rest else ""
        part = _layout(kind.replace("/", "/msg/")) if "/" in kind else _BASE_NAMES.get(kind, kind)
        found.append((key, (shape, part)))
    return tuple(found)


# As rosidl names numbers -> as .msg files do.
_BASE_NAMES = {"boolean": "bool", "octet": "byte", "float": "float32", "double": "float64"}


@cache
def _described(name: str) -> tuple[Any, dict[str, _Convert]]:
    """Class of a message, and what brings a value into the form of each field."""
    kind = message_class(name)
    return kind, {key: _converter(text) for key, text in kind.get_fields_and_field_types().items()}


def _converter(text: str) -> _Convert:
    """What brings a value into the form of a field that rosidl describes by `text`."""
    if found := re.fullmatch(r"sequence<(\w+)(, \d+)?>", text):
        if found[1] in _NUMBERS:
            return _sequence_of(*_NUMBERS[found[1]])
        return list if found[1] not in _SCALARS else _list_of(_SCALARS[found[1]])
    if found := re.fullmatch(r"(\w+)\[\d+\]", text):
        if found[1] in _NUMBERS:
            number = _NUMBERS[found[1]][1]
            return lambda value: np.ascontiguousarray(value, dtype=number).reshape(-1)
        return list if found[1] not in _SCALARS else _list_of(_SCALARS[found[1]])
    return _SCALARS.get(text, _unchanged)


def _sequence_of(code: str, number: str) -> _Convert:
    def convert(value: Any) -> Any:
        if isinstance(value, array.array) and value.typecode == code:
            return value
        filled = array.array(code)
        filled.frombytes(np.ascontiguousarray(value, dtype=number).tobytes())
        return filled

    return convert


def _list_of(scalar: _Convert) -> _Convert:
    return lambda value: [scalar(item) for item in value]


def _unchanged(value: Any) -> Any:
    return value
