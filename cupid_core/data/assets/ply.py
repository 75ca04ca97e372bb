"""Reads and writes the vertices of a PLY file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from cupid_core.errors import DatasetError

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}


def ply_points(points: npt.NDArray[np.float32]) -> bytes:
    """Content of a binary PLY file with vertices (N, 3) and nothing else; `read_ply_points` reads it back."""
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    header += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
    return header.encode("ascii") + points.astype("<f4").tobytes()


def read_ply_points(path: Path) -> npt.NDArray[np.float64]:
    """Positions (N, 3) of the vertices of a PLY file, ascii or binary; further properties are passed over.

    Raises:
        DatasetError: no such file, no PLY, vertices are not its first element, or it ends too early.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}.", hint="Check the data set's folder.") from error
    header, separator, body = content.partition(b"end_header\n")
    lines = header.decode("ascii", errors="replace").replace("\r", "").split("\n")
    if not separator or lines[0] != "ply":
        raise _damaged(path, "is no PLY file")
    order, count, names, types = _parse_header(path, lines)
    if order == "":
        values = body.decode("ascii", errors="replace").split()[: count * len(names)]
        if len(values) < count * len(names):
            raise _damaged(path, "ends too early")
        try:
            table = np.array(values, dtype=np.float64).reshape(count, len(names))
        except ValueError as error:
            raise _damaged(path, f"holds something that is no number ({error})") from error
        return table[:, [names.index(axis) for axis in "xyz"]]
    record = np.dtype([(name, order + kind) for name, kind in zip(names, types, strict=True)])
    if len(body) < count * record.itemsize:
        raise _damaged(path, "ends too early")
    rows = np.frombuffer(body, dtype=record, count=count)
    return np.stack([rows[axis].astype(np.float64) for axis in "xyz"], axis=1)


def _parse_header(path: Path, lines: list[str]) -> tuple[str, int, list[str], list[str]]:
    """Byte order, number of vertices, names and types of their properties."""
    order, count = None, None
    names: list[str] = []
    types: list[str] = []
    for words in (line.split() for line in lines[1:]):
        if words[:1] == ["format"] and len(words) > 1:
            order = _ORDERS.get(words[1])
        elif words[:1] == ["element"]:
            if count is not None:
                break
            if words[1:2] != ["vertex"] or not words[2:3] or not words[2].isdigit():
                raise _damaged(path, "does not begin with its vertices")
            count = int(words[2])
        elif words[:1] == ["property"] and len(words) == 3 and words[1] in _TYPES:
            types.append(_TYPES[words[1]])
            names.append(words[2])
        elif words[:1] == ["property"]:
            raise _damaged(path, f"has a property that is not understood ({' '.join(words)})")
    if order is None or count is None or not set("xyz") <= set(names):
        raise _damaged(path, "has no vertices with x, y and z")
    return order, count, names, types


def _damaged(path: Path, what: str) -> DatasetError:
    return DatasetError(f"{path} {what}.", hint="Write the file again, or leave the object out.")
