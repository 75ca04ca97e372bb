"""Atomic output: a file or folder under its final name is always complete.

Everything is written under a temporary name on the same disk, flushed to the disk, and renamed. An error or a full
disk leaves the previous content in place and no temporary behind.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from cupid_core.errors import OutputError

_HIDDEN = ".cupid-"


@contextmanager
def atomic_write(path: Path, *, also: tuple[type[Exception], ...] = ()) -> Iterator[Path]:
    """A temporary path to write to; when the block ends without an error, the file appears under `path`.

    Args:
        path: of the finished file; its folder is made where it is missing.
        also: what the library that writes raises on a full disk, beside `OSError`.

    Raises:
        OutputError: the folder or the file cannot be written, or the disk is full. The previous file is unchanged.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(6)}.part"
    failures: tuple[type[Exception], ...] = (OSError, *also)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        # Without this a power cut after the rename could leave an empty file under the final name.
        with temporary.open("r+b") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    except failures as error:
        raise output_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file atomically; errors as `atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a whole UTF-8 file atomically; errors as `atomic_write`."""
    write_bytes(path, content.encode("utf-8"))


@contextmanager
def staging_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder on the disk of `folder`, for output that is moved there when it is complete.

    It is made in `folder`, or in its nearest existing parent, and removed afterwards unless it was renamed.

    Raises:
        OutputError: `folder` is a file, or no folder can be made there.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        # Not tempfile.mkdtemp: its folders are private, and results are for everybody whom the umask lets read.
        staging = place / f"{_HIDDEN}{secrets.token_hex(6)}"
        staging.mkdir()
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def writable_folder(folder: Path) -> Path:
    """Make sure, before any work, that files can be written to a folder; makes it where it is missing.

    Raises:
        OutputError: it cannot be made, is a file, or may not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=_HIDDEN, dir=folder):
            pass
    except OSError as error:
        raise output_error(folder, error) from error
    return folder


def stays_inside(relative: str) -> bool:
    """Whether a path that was read from a file stays inside the folder it is relative to."""
    path = PurePosixPath(relative)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in relative


def output_error(path: Path, error: Exception) -> OutputError:
    """The typed error for a file or folder that the system refused to write."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).split("\n")[0]
    return OutputError(
        f"{path} cannot be written: {reason}.",
        hint="Give a path that this user may write to, on a disk with free space.",
    )
