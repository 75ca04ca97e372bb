"""Messages as plain records, and their CDR bytes written and read by numpy.

A mesh is thousands of points. As message objects they cost a second, and DDS wants bytes in the end: here a
sequence of messages that are nothing but numbers of one type (points, colors, triangles) is one (N, k) array and
one copy. `Publisher.publish` of rclpy takes such bytes, and bags store them.

Source: OMG, Common Data Representation (XCDR version 1, little endian), as DDS-XTypes 7.4 describes it.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from cupid_ros.errors import InvalidMessageError, UnknownMessageError
from cupid_ros.messages import DEFAULTS, BagMessageTypes, check_columns

_LITTLE_ENDIAN = b"\x00\x01\x00\x00"
_LENGTH = struct.Struct("<I")
_NUMBERS = {
    "bool": "?", "byte": "B", "char": "B", "octet": "B", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H",
    "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q", "float32": "f", "float64": "d",
}  # fmt: skip
_WRITING = (struct.error, TypeError, ValueError, OverflowError, AttributeError)
_READING = (struct.error, ValueError, IndexError, OverflowError)


class Record:
    """A message: its type and the fields that were given, which are also its attributes.

    Args:
        kind: full name of the type.
        fields: by name.
    """

    __slots__ = ("__msgtype__", "fields")

    def __init__(self, kind: str, fields: dict[str, Any]) -> None:
        self.__msgtype__ = kind
        self.fields = fields

    def __getattr__(self, name: str) -> Any:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(f"{self.__msgtype__} has no field '{name}'") from None


class _Output:
    """Bytes so far, as parts; positions count from behind the header, as alignment does."""

    def __init__(self) -> None:
        self.parts: list[bytes | memoryview] = [_LITTLE_ENDIAN]
        self.position = 0

    def put(self, data: bytes | memoryview, alignment: int) -> None:
        padding = -self.position % alignment
        if padding:
            self.parts.append(bytes(padding))
        self.parts.append(data)
        self.position += padding + len(data)


class _Input:
    """Bytes that are read from the front."""

    def __init__(self, raw: bytes | memoryview) -> None:
        self.data = memoryview(raw)[len(_LITTLE_ENDIAN) :]
        self.position = 0

    def take(self, size: int, alignment: int) -> memoryview:
        start = self.position + -self.position % alignment
        self.position = start + size
        if self.position > len(self.data):
            raise ValueError(f"{self.position} bytes are wanted, {len(self.data)} are there")
        return self.data[start : self.position]

    def length(self) -> int:
        return int(_LENGTH.unpack(self.take(4, 4))[0])


_Write = Callable[[_Output, Any], None]
_Read = Callable[[_Input], Any]


class CdrMessageTypes:
    """See `cupid_ros.messages.MessageTypes`; messages are `Record`.

    Args:
        store: of rosbags, with the definitions; Jazzy's where None.
    """

    def __init__(self, store: Typestore | None = None) -> None:
        self.store = store or BagMessageTypes.of("jazzy").store
        self._rows: dict[str, tuple[np.dtype[Any], int] | None] = {}
        self._writers: dict[str, list[tuple[str, _Write]]] = {}
        self._readers: dict[str, list[tuple[str, _Read]]] = {}

    def make(self, name: str, /, **fields: Any) -> Record:
        """See `MessageTypes.make`."""
        unknown = fields.keys() - {key for key, _ in self._fields(name)}
        if unknown:
            raise UnknownMessageError(
                f"{name} has no field {sorted(unknown)}; it has {[key for key, _ in self._fields(name)]}.",
                hint="Use message packages of the same version on both sides.",
            )
        return Record(name, {**DEFAULTS.get(name, {}), **fields})

    def make_rows(self, name: str, rows: NDArray[Any], /) -> NDArray[Any]:
        """See `MessageTypes.make_rows`; the rows themselves, in the number type of the messages.

        Raises:
            UnknownMessageError: no such type, or it is not nothing but numbers of one type.
            InvalidMessageError: another number of columns than the type has.
        """
        self._fields(name)
        described = self._numbers(name)
        if described is None:
            raise UnknownMessageError(
                f"{name} holds more than numbers of one type.", hint="Make each with `make`."
            )
        dtype, width = described
        check_columns(name, rows, width)
        return np.ascontiguousarray(rows, dtype=dtype)

    def encode(self, message: Record) -> bytes:
        """CDR, little endian; equal to that of `BagMessageTypes.encode`.

        Raises:
            InvalidMessageError: a field holds what its type cannot.
        """
        output = _Output()
        try:
            self._write(message.__msgtype__, output, message)
        except _WRITING as error:
            raise InvalidMessageError(
                f"{message.__msgtype__} cannot be written: {type(error).__name__}: {error}.",
                hint="Check its fields.",
            ) from error
        return b"".join(output.parts)

    def decode(self, raw: bytes | memoryview, name: str) -> Record:
        """A message from its bytes; arrays are views of them, rows of numbers are (N, k) arrays.

        Raises:
            UnknownMessageError: no such type.
            InvalidMessageError: the bytes are no such message, or big endian.
        """
        self._fields(name)
        if bytes(raw[: len(_LITTLE_ENDIAN)]) != _LITTLE_ENDIAN or sys.byteorder != "little":
            raise InvalidMessageError(f"{name} is not little endian CDR.", hint="Let rclpy decode it.")
        try:
            return self._read(name, _Input(raw))
        except _READING as error:
            raise InvalidMessageError(
                f"{len(raw)} bytes are no {name}: {error}.",
                hint="Check that sender and receiver use the same version of the message.",
            ) from error

    def layout(self, name: str) -> tuple[tuple[str, Any], ...]:
        """(field, (shape, type)) of a message, with the layouts of its parts in the place of their names.

        Two definitions with the same layout have the same bytes.

        Raises:
            UnknownMessageError: no such type.
        """
        found = []
        for key, (form, detail) in self._fields(name):
            inner_form, inner = (form, detail)
            shape = ""
            if form in (Nodetype.ARRAY, Nodetype.SEQUENCE):
                (inner_form, inner), length = detail
                shape = f"[{length}]" if form == Nodetype.ARRAY else "sequence"
            base = (
                inner
                if inner_form == Nodetype.NAME
                else {"octet": "byte", "char": "uint8"}.get(inner[0], inner[0])
            )
            found.append((key, (shape, self.layout(base) if inner_form == Nodetype.NAME else base)))
        return tuple(found)

    def _fields(self, name: str) -> list[tuple[str, Any]]:
        if name not in self.store.fielddefs:
            raise UnknownMessageError(
                f"Message type {name} is unknown.", hint=f"Install the ROS package {name.split('/')[0]}."
            )
        return cast("list[tuple[str, Any]]", self.store.fielddefs[name][1])

    def _numbers(self, name: str) -> tuple[np.dtype[Any], int] | None:
        """Number type and count of a message that is nothing but numbers of one type."""
        if name not in self._rows:
            found: set[str] = set()
            count = 0
            for _, (form, detail) in self._fields(name):
                (kind, size) = (detail[0], 1) if form != Nodetype.ARRAY else (detail[0][1], detail[1])
                base = kind if form == Nodetype.BASE else kind[0] if form == Nodetype.ARRAY else ""
                found.add(base if base in _NUMBERS else "")
                count += size
            single = len(found) == 1 and "" not in found
            self._rows[name] = (np.dtype("<" + _NUMBERS[found.pop()]), count) if single else None
        return self._rows[name]

    def _write(self, name: str, output: _Output, message: Any) -> None:
        if name not in self._writers:
            self._writers[name] = [(key, self._writer(kind)) for key, kind in self._fields(name)]
        fields = message.fields if message is not None else DEFAULTS.get(name, {})
        for key, write in self._writers[name]:
            write(output, fields.get(key))

    def _writer(self, kind: Any) -> _Write:
        """What writes a field; None writes its zero."""
        form, detail = kind
        if form == Nodetype.BASE:
            return _write_text if detail[0] == "string" else _number_writer(_NUMBERS[detail[0]])
        if form == Nodetype.NAME:
            return partial(self._write, detail)
        (inner_form, inner), length = detail
        fixed = length if form == Nodetype.ARRAY else None
        if inner_form == Nodetype.BASE and inner[0] != "string":
            return partial(_write_numbers, np.dtype("<" + _NUMBERS[inner[0]]), fixed)
        rows = self._numbers(inner) if inner_form == Nodetype.NAME else None
        return partial(_write_items, rows, fixed, self._writer((inner_form, inner)))

    def _read(self, name: str, data: _Input) -> Record:
        if name not in self._readers:
            self._readers[name] = [(key, self._reader(kind)) for key, kind in self._fields(name)]
        return Record(name, {key: read(data) for key, read in self._readers[name]})

    def _reader(self, kind: Any) -> _Read:
        form, detail = kind
        if form == Nodetype.BASE:
            return (
                _read_text
                if detail[0] == "string"
                else partial(_read_number, struct.Struct("<" + _NUMBERS[detail[0]]))
            )
        if form == Nodetype.NAME:
            return partial(self._read, detail)
        (inner_form, inner), length = detail
        fixed = length if form == Nodetype.ARRAY else None
        if inner_form == Nodetype.BASE and inner[0] != "string":
            return partial(_read_rows, np.dtype("<" + _NUMBERS[inner[0]]), None, fixed)
        rows = self._numbers(inner) if inner_form == Nodetype.NAME else None
        if rows is not None and fixed is None:
            return partial(_read_rows, rows[0], rows[1], fixed)
        return partial(_read_items, self._reader((inner_form, inner)), fixed)


def _write_text(output: _Output, value: str | None) -> None:
    raw = (value or "").encode() + b"\0"
    output.put(_LENGTH.pack(len(raw)), 4)
    output.put(raw, 1)


def _number_writer(code: str) -> _Write:
    packed = struct.Struct("<" + code)

    def write(output: _Output, value: Any) -> None:
        output.put(packed.pack(0 if value is None else value), packed.size)

    return write


def _write_numbers(dtype: np.dtype[Any], fixed: int | None, output: _Output, value: Any) -> None:
    numbers = (
        np.zeros(fixed or 0, dtype) if value is None else np.ascontiguousarray(value, dtype=dtype).reshape(-1)
    )
    _write_array(numbers, fixed, output)


def _write_array(array: NDArray[Any], fixed: int | None, output: _Output) -> None:
    """A sequence with its length, or a fixed number of elements."""
    if fixed is None:
        output.put(_LENGTH.pack(len(array)), 4)
    elif len(array) != fixed:
        raise ValueError(f"{len(array)} elements instead of {fixed}")
    if array.size:
        output.put(array.data.cast("B"), array.dtype.itemsize)


def _write_items(
    rows: tuple[np.dtype[Any], int] | None, fixed: int | None, write: _Write, output: _Output, value: Any
) -> None:
    if isinstance(value, np.ndarray):
        if rows is None or value.dtype != rows[0] or value.shape[1:] != (rows[1],):
            raise TypeError(f"rows {value.shape} of {value.dtype} are not these messages; see make_rows")
        _write_array(np.ascontiguousarray(value), fixed, output)
        return
    items: Iterable[Any] = [None] * (fixed or 0) if value is None else value
    items = list(items)
    if fixed is None:
        output.put(_LENGTH.pack(len(items)), 4)
    elif len(items) != fixed:
        raise ValueError(f"{len(items)} elements instead of {fixed}")
    for item in items:
        write(output, item)


def _read_text(data: _Input) -> str:
    raw = data.take(data.length(), 1)
    return bytes(raw[:-1]).decode()


def _read_number(packed: struct.Struct, data: _Input) -> Any:
    return packed.unpack(data.take(packed.size, packed.size))[0]


def _read_rows(dtype: np.dtype[Any], width: int | None, fixed: int | None, data: _Input) -> NDArray[Any]:
    """(N,) numbers, or (N, width) where a width is given."""
    count = data.length() if fixed is None else fixed
    size = count * (width or 1) * dtype.itemsize
    numbers: NDArray[Any] = np.frombuffer(data.take(size, dtype.itemsize if count else 1), dtype)
    return numbers if width is None else numbers.reshape(count, width)


def _read_items(read: _Read, fixed: int | None, data: _Input) -> list[Any]:
    count = data.length() if fixed is None else fixed
    if count > len(data.data):  # each takes a byte at least
        raise ValueError(f"{count} elements are announced")
    return [read(data) for _ in range(count)]
