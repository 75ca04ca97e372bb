"""The process that owns the networks: takes one request after the other and answers it; knows no queue and no ROS.

Talks through a pipe in plain tuples; images come in shared memory. Ends when the other side is gone.
"""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from ctypes import c_int64
from dataclasses import dataclass, field
from multiprocessing import get_context, shared_memory
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_core.errors import CupidError
from cupid_core.reconstruct.progress import Progress
from cupid_ros.errors import JobFailedError, OutOfMemoryError
from cupid_ros.tickets import Job, MakeJob

_PROGRESS_PAUSE_S = 0.05
# Where each image stands in the shared memory: name, offset in bytes, shape, type.
Layout = list[tuple[str, int, tuple[int, ...], str]]


@dataclass(eq=False)
class Child:
    """A running worker process, seen from outside.

    Attributes:
        process: of the operating system.
        connection: our end of the pipe.
        cancelled: shared number of the request that is to stop.
        started: `time.monotonic` of its start.
        ready: its networks are loaded.
    """

    process: SpawnProcess
    connection: Connection[Any, Any]
    cancelled: Any
    started: float = field(default_factory=time.monotonic)
    ready: bool = False

    @classmethod
    def start(cls, make_job: MakeJob) -> Child:
        """Start a process; returns before it is ready."""
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        cancelled = context.RawValue(c_int64, -1)
        process = context.Process(
            target=serve, args=(make_job, theirs, cancelled), name="cupid-worker", daemon=True
        )
        process.start()
        theirs.close()  # so that our end sees the end of the process
        return cls(process, ours, cancelled)

    def kill(self) -> None:
        """End the process now, whatever it does."""
        self.process.kill()
        self.process.join(10.0)
        self.connection.close()


def serve(make_job: MakeJob, connection: Connection[Any, Any], cancelled: Any) -> None:
    """Main function of the process: says "ready" or "broken" once, then answers requests until the pipe ends."""
    # Ctrl-C goes to the whole group of processes; who started this one shuts it down in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        job = make_job()
    except Exception as error:  # noqa: BLE001 - reported to the other side, whatever it is
        connection.send(("broken", described(error)))
        return
    connection.send(("ready", None))
    memory = _Lent()
    with suppress(EOFError, OSError):  # the other side is gone
        while True:
            message = connection.recv()
            if message is None:
                break
            _answer(job, connection, cancelled, memory, message)
    memory.close()


def _answer(job: Job, connection: Connection[Any, Any], cancelled: Any, memory: _Lent, message: Any) -> None:
    number, request, name, layout = message
    said = 0.0

    def on_progress(progress: Progress) -> None:
        nonlocal said
        now = time.monotonic()
        # Ends of stages and poses are always told; in between no more than anybody can read.
        if progress.poses or progress.fraction in (0.0, 1.0) or now - said > _PROGRESS_PAUSE_S:
            connection.send(("progress", number, progress))
            said = now

    def is_cancelled() -> bool:
        return bool(cancelled.value == number)

    try:
        outcome = job(request, memory.images(name, layout), on_progress, is_cancelled)
        data = ForkingPickler.dumps(("done", number, outcome))
    except Exception as error:  # noqa: BLE001 - the loop of the worker: reported with its code
        data = ForkingPickler.dumps(("failed", number, described(error)))
    connection.send_bytes(data)


def described(error: Exception) -> CupidError:
    """An error that can cross the border of the process: ours as they are, others by name."""
    if isinstance(error, CupidError):
        try:
            ForkingPickler.loads(ForkingPickler.dumps(error))
            return error
        except Exception:  # noqa: BLE001 - whatever its class does wrong, what it says is kept
            return JobFailedError(f"[{error.code}] {error.problem}", hint=error.hint)
    text = f"{type(error).__name__}: {error}"[:2000]
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OutOfMemoryError(f"{text}.", hint="Use fewer samples or objects at once, or a smaller checkpoint.")
    return JobFailedError(f"{text}.", hint="This is a defect: report it with the image that led to it.")


class _Lent:
    """The shared memory that requests come in, as images."""

    def __init__(self) -> None:
        self._block: shared_memory.SharedMemory | None = None

    def images(self, name: str, layout: Layout) -> dict[str, NDArray[Any]]:
        """Read-only views of the images."""
        if self._block is None or self._block.name != name:
            self.close()
            self._block = shared_memory.SharedMemory(name) if layout else None
        found: dict[str, NDArray[Any]] = {}
        for key, offset, shape, kind in layout:
            assert self._block is not None
            view: NDArray[Any] = np.ndarray(shape, np.dtype(kind), buffer=self._block.buf, offset=offset)
            view.flags.writeable = False
            found[key] = view
        return found

    def close(self) -> None:
        """Give the memory back."""
        if self._block is not None:
            with suppress(BufferError):  # somebody holds a view; the memory goes with it
                self._block.close()
            self._block = None


class Shelf:
    """The shared memory that requests are laid into, as large as the largest of them."""

    def __init__(self) -> None:
        self._block: shared_memory.SharedMemory | None = None

    def lay(self, pixels: Any) -> tuple[str, Layout]:
        """Copy images in; returns the name of the block and where each image stands in it."""
        layout: Layout = []
        end = 0
        for key, image in pixels.items():
            layout.append((key, end, image.shape, image.dtype.str))
            end += -(-image.nbytes // 64) * 64
        if not layout:
            return "", layout
        if self._block is None or self._block.size < end:
            self.close()
            self._block = shared_memory.SharedMemory(create=True, size=max(end, 1))
        for key, offset, shape, kind in layout:
            place: NDArray[Any] = np.ndarray(shape, np.dtype(kind), buffer=self._block.buf, offset=offset)
            np.copyto(place, pixels[key])
        return self._block.name, layout

    def close(self) -> None:
        """Give the memory back to the system."""
        if self._block is not None:
            self._block.close()
            self._block.unlink()
            self._block = None
