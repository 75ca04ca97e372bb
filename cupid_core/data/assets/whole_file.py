"""Files that are written whole or not at all."""

from __future__ import annotations

import zlib
from pathlib import Path

from cupid_core.errors import DatasetError, OutputError
from cupid_core.mesh.atomic_file import write_atomically


def write_whole(path: Path, content: bytes) -> int:
    """Write a file in one step, and its folder where that is missing.

    Returns:
        Checksum (CRC-32) of the content.

    Raises:
        DatasetError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except (OSError, OutputError) as error:
        raise DatasetError(
            f"{path} cannot be written: {error}", hint="Free space or choose another --out."
        ) from error
    return zlib.crc32(content)


def checksum(path: Path) -> int | None:
    """CRC-32 of a file; None where it cannot be read."""
    try:
        return zlib.crc32(path.read_bytes())
    except OSError:
        return None
