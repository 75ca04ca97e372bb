"""Keeps two processes from training in one folder; knows folders, not what is in them."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cupid_core.errors import TrainingError

LOCK = ".lock"


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder for the time of a block; the system lets go of it when the process ends, however it ends.

    Raises:
        TrainingError: another process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / LOCK).open("w", encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{folder}: {error.strerror}.", hint="Choose a writable --out.") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TrainingError(
                f"Another process is training in {folder}.", hint="Stop it first, or choose another --out."
            ) from error
        yield
