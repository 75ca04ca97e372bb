"""Files that are written whole or not at all; knows bytes, not what they mean."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from cupid_core.errors import DatasetError


def write_whole(path: Path, content: bytes) -> int:
    """Write a file under a name of its own, then give it its name.

    Returns:
        Checksum (CRC-32) of the content.

    Raises:
        DatasetError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DatasetError(
            f"{path} cannot be written: {error.strerror}.", cure="Free space or choose another --out."
        ) from error
    return zlib.crc32(content)


def checksum(path: Path) -> int | None:
    """CRC-32 of a file; None where it cannot be read."""
    try:
        return zlib.crc32(path.read_bytes())
    except OSError:
        return None
