"""How messages are made, written and read without ROS: rosbags with our own definitions registered.

Conversions build messages through `MessageTypes` only, so that the node can hand in the generated classes of rclpy
in the place of `BagMessageTypes`.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Nodetype
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from cupid_ros.definitions import FOREIGN_DEFINITIONS
from cupid_ros.errors import InvalidMessageError, UnknownMessageError

Distribution = Literal["humble", "jazzy"]
_STORES: dict[str, Stores] = {"humble": Stores.ROS2_HUMBLE, "jazzy": Stores.ROS2_JAZZY}
OWN_MESSAGES = ("Quality", "Object", "ObjectArray", "ObjectClouds")
# What arbitrary bytes and values can raise inside rosbags and numpy beside its own error.
_CODING = (
    SerdeError,
    struct.error,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    MemoryError,
    AssertionError,
)


class MessageTypes(Protocol):
    """Makes messages; one for rosbags, one for rclpy.

    An implementation fills what is not given with the defaults of the type (zeros, mostly), and brings numpy
    arrays and lists into the form its classes want (rosbags: numpy arrays; rclpy: `array.array` for sequences,
    numpy arrays for fixed sizes).
    """

    def make(self, name: str, /, **fields: Any) -> Any:
        """One message.

        Args:
            name: full name, "sensor_msgs/msg/Image".
            fields: by name; numpy arrays for arrays of numbers, lists for lists of messages or texts.

        Raises:
            UnknownMessageError: no such type, or no such field.
        """
        ...

    def make_rows(self, name: str, rows: NDArray[Any], /) -> Any:
        """What a field takes that is a sequence of messages with nothing but numbers of one type.

        Args:
            name: full name, "geometry_msgs/msg/Point".
            rows: (N, k), one message each; the numbers in the order of the fields.

        Raises:
            UnknownMessageError: no such type.
            InvalidMessageError: another number of columns than the type has numbers.
        """
        ...


@dataclass(frozen=True)
class BagMessageTypes:
    """Messages of a ROS distribution as rosbags knows them, with ours and vision_msgs among them.

    Attributes:
        store: of rosbags.
    """

    store: Typestore = field(default_factory=lambda: _fresh_store("jazzy"))

    @classmethod
    def of(cls, distribution: Distribution) -> BagMessageTypes:
        """Types of a distribution."""
        return cls(_fresh_store(distribution))

    def register(self, definitions: Iterable[tuple[str, str]]) -> None:
        """Register definitions that a bag brings.

        Args:
            definitions: (full name, text in the format of .msg files, with all that it needs).

        Raises:
            InvalidMessageError: a definition cannot be read, or contradicts one that is known.
        """
        for name, text in definitions:
            try:
                found = get_types_from_msg(text, name)
                self.store.register({key: value for key, value in found.items() if key not in self.store.types})
            except (TypesysError, ValueError, KeyError) as error:
                raise InvalidMessageError(
                    f"The definition of {name} cannot be used: {error}.", hint="Record the bag again."
                ) from error

    def make(self, name: str, /, **fields: Any) -> Any:
        """See `MessageTypes.make`."""
        described = self._described(name)
        unknown = fields.keys() - described.keys()
        if unknown:
            raise UnknownMessageError(
                f"{name} has no field {sorted(unknown)}; it has {sorted(described)}.",
                hint="Use message packages of the same version on both sides.",
            )
        fields = {**DEFAULTS.get(name, {}), **fields}
        values = {
            key: _as_declared(fields[key], kind) if key in fields else self._zero(kind)
            for key, kind in described.items()
        }
        return self.store.types[name](**values)

    def make_rows(self, name: str, rows: NDArray[Any], /) -> list[Any]:
        """See `MessageTypes.make_rows`."""
        described, kind = self._described(name), self.store.types[name]
        if len(described) == 1:  # one array of fixed size
            ((form, detail),) = described.values()
            check_columns(name, rows, detail[1] if form == Nodetype.ARRAY else 1)
            return [kind(_as_declared(row, (form, detail))) for row in rows]
        check_columns(name, rows, len(described))
        return [kind(*row) for row in rows.tolist()]

    def encode(self, message: Any) -> bytes:
        """CDR, little endian.

        Args:
            message: made here or decoded here.

        Raises:
            InvalidMessageError: a field holds what its type cannot.
        """
        name = message.__msgtype__
        try:
            return bytes(self.store.serialize_cdr(message, name, little_endian=True))
        except (*_CODING, AttributeError) as error:
            raise InvalidMessageError(
                f"{name} cannot be written: {type(error).__name__}: {error}.", hint="Check its fields."
            ) from error

    def decode(self, raw: bytes | memoryview, name: str) -> Any:
        """A message from CDR of either byte order.

        Raises:
            UnknownMessageError: no such type.
            InvalidMessageError: the bytes are no such message.
        """
        self._described(name)
        try:
            return self.store.deserialize_cdr(raw, name)
        except _CODING as error:
            raise InvalidMessageError(
                f"{len(raw)} bytes are no {name}: {type(error).__name__}: {error}.",
                hint="Check that sender and receiver use the same version of the message.",
            ) from error

    def _described(self, name: str) -> dict[str, Any]:
        if name not in self.store.fielddefs:
            raise UnknownMessageError(
                f"Message type {name} is unknown.", hint=f"Install the ROS package {name.split('/')[0]}."
            )
        return dict(self.store.fielddefs[name][1])

    def _zero(self, kind: Any) -> Any:
        """What a field that is not given holds."""
        form, detail = kind
        if form == Nodetype.BASE:
            return "" if detail[0] == "string" else _NUMBERS[detail[0]](0).item()
        if form == Nodetype.NAME:
            return self.make(detail)
        (inner_form, inner), length = detail
        count = length if form == Nodetype.ARRAY else 0
        if inner_form == Nodetype.BASE and inner[0] != "string":
            return np.zeros(count, dtype=_NUMBERS[inner[0]])
        return [self._zero((inner_form, inner)) for _ in range(count)]


# Defaults that the definitions have and rosbags does not know.
DEFAULTS: dict[str, dict[str, Any]] = {"geometry_msgs/msg/Quaternion": {"w": 1.0}}
_NUMBERS: dict[str, Any] = {
    "bool": np.bool_, "byte": np.uint8, "char": np.uint8, "octet": np.uint8,
    **{f"{sign}int{bits}": np.dtype(f"{sign}int{bits}").type for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float32": np.float32, "float64": np.float64,
}  # fmt: skip


def _as_declared(value: Any, kind: Any) -> Any:
    """Numbers of arrays in the declared type; everything else as it is."""
    form, detail = kind
    if form in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        inner_form, inner = detail[0]
        if inner_form == Nodetype.BASE and inner[0] != "string":
            return np.ascontiguousarray(value, dtype=_NUMBERS[inner[0]]).reshape(-1)
    return value


def check_columns(name: str, rows: NDArray[Any], width: int) -> None:
    """Refuse rows (N, k) that are not as wide as a message.

    Raises:
        InvalidMessageError: they are not.
    """
    if rows.ndim != 2 or rows.shape[1] != width:
        raise InvalidMessageError(f"{name} has {width} numbers; got rows {rows.shape}.", hint="Give (N, k).")


def _fresh_store(distribution: Distribution) -> Typestore:
    store = get_typestore(_STORES[distribution])
    types: dict[str, Any] = {}
    for name, text in {**FOREIGN_DEFINITIONS, **_own_definitions()}.items():
        types.update(get_types_from_msg(text, name))
    store.register(types)
    return store


@cache
def _own_definitions() -> dict[str, str]:
    folder = messages_folder()
    return {f"cupid_ros/msg/{name}": (folder / f"{name}.msg").read_text(encoding="utf-8") for name in OWN_MESSAGES}


def messages_folder() -> Path:
    """Where our .msg files are: beside the package in a checkout, in share/cupid_ros where it is installed.

    Raises:
        UnknownMessageError: nowhere.
    """
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    shares = [prefix / "share" / "cupid_ros" for prefix in (*prefixes, Path(sys.prefix))]
    for place in (Path(__file__).resolve().parents[1], *shares):
        if all((place / "msg" / f"{name}.msg").is_file() for name in OWN_MESSAGES):
            return place / "msg"
    raise UnknownMessageError(
        "The message definitions of cupid_ros are not found.",
        hint="Install the package again, with pip or colcon.",
    )
