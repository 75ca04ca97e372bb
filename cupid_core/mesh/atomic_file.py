"""Files that are complete or not there: written under another name, then renamed. Knows bytes and paths only."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from pathlib import Path

from cupid_core.errors import OutputError


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file in one step: whoever looks sees the old file or the new one, never half of it.

    Raises:
        OutputError: the folder is not there or not writable, or the disk is full; nothing is left behind.
    """
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.part"
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise _failed(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def writable_folder(folder: Path) -> Path:
    """Make sure, before any work, that files can be written to a folder; makes it where it is missing.

    Raises:
        OutputError: it cannot be made, is a file, or may not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".cupid.", suffix=".part", dir=folder):
            pass
    except OSError as error:
        raise _failed(folder, error) from error
    return folder


def _failed(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be written: {error.strerror}.",
        hint="Give a path in an existing folder that you may write to.",
    )
