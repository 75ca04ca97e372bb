"""The process that owns the networks: carries out one request after the other.

It talks through a pipe in plain tuples, gets images through shared memory, and ends when the other side is gone.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from ctypes import c_int64
from dataclasses import dataclass, field
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

from cupid_core.errors import CupidError
from cupid_core.reconstruct.progress import Progress
from cupid_core.serving.engine import Job, MakeJob
from cupid_core.serving.errors import JobFailedError, OutOfMemoryError
from cupid_core.serving.shared_memory import SharedMemoryReader

_PROGRESS_INTERVAL_S = 0.05


@dataclass(eq=False)
class WorkerProcess:
    """A running process, seen from outside.

    Attributes:
        handle: of the operating system's process.
        connection: our end of the pipe.
        cancelled: shared number of the request that has to stop.
        started: `time.monotonic` of its start.
        ready: its networks are loaded.
    """

    handle: BaseProcess
    connection: Connection[Any, Any]
    cancelled: Any
    started: float = field(default_factory=time.monotonic)
    ready: bool = False

    @classmethod
    def start(cls, make_job: MakeJob) -> WorkerProcess:
        """Start a process; returns before it is ready."""
        context = FORK_SERVER.context()
        ours, theirs = context.Pipe()
        cancelled = context.RawValue(c_int64, -1)
        process = context.Process(
            target=serve, args=(make_job, theirs, cancelled), name="cupid-worker", daemon=True
        )
        process.start()
        theirs.close()  # else our end would never see the end of the process
        return cls(process, ours, cancelled)

    def kill(self) -> None:
        """End the process now, whatever it does."""
        self.handle.kill()
        self.handle.join(10.0)
        self.connection.close()


class ForkServer:
    """The server of `multiprocessing` from which processes are forked, with torch imported; a process has one.

    A process that is forked from this one could not use CUDA, and a spawned one imports torch at every start. A
    start waits for the server, so it is used once it is there, and processes are spawned before. It lives as
    long as this process, and keeps the environment variables that it was started with.
    """

    def __init__(self) -> None:
        self.ready = threading.Event()
        self._begun = False
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start it in the background; does nothing a second time, or on a system that has none."""
        with self._lock:
            if self._begun or "forkserver" not in get_all_start_methods():
                return
            self._begun = True
        threading.Thread(target=self._start, name="cupid-fork-server", daemon=True).start()

    def context(self) -> Any:
        """How to start a process now, without waiting."""
        return get_context("forkserver" if self.ready.is_set() else "spawn")

    def _start(self) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(["torch"])
        first = context.Process(target=_nothing, name="cupid-fork-server-test", daemon=True)
        first.start()
        first.join()
        self.ready.set()


def _nothing() -> None:
    """What the first process of the server does."""


FORK_SERVER = ForkServer()


def serve(make_job: MakeJob, connection: Connection[Any, Any], cancelled: Any) -> None:
    """Main function of the process: sends "ready" or "broken" once, then answers requests until the pipe ends."""
    # Ctrl-C goes to the whole process group; the parent shuts this process down in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        job = make_job()
    except Exception as error:  # noqa: BLE001 - reported to the other side, whatever it is
        connection.send(("broken", to_cupid_error(error)))
        return
    connection.send(("ready", None))
    memory = SharedMemoryReader()
    with suppress(EOFError, OSError):  # the other side is gone
        while True:
            message = connection.recv()
            if message is None:
                break
            _answer(job, connection, cancelled, memory, message)
    memory.close()


def _answer(
    job: Job, connection: Connection[Any, Any], cancelled: Any, memory: SharedMemoryReader, message: Any
) -> None:
    number, request, block, layout = message
    sent = 0.0

    def on_progress(progress: Progress) -> None:
        nonlocal sent
        now = time.monotonic()
        # Poses and the ends of stages are always sent; sampler steps only as often as somebody can read them.
        if progress.poses or progress.fraction in (0.0, 1.0) or now - sent > _PROGRESS_INTERVAL_S:
            connection.send(("progress", number, progress))
            sent = now

    def is_cancelled() -> bool:
        return bool(cancelled.value == number)

    try:
        outcome = job(request, memory.read(block, layout), on_progress, is_cancelled)
        data = ForkingPickler.dumps(("done", number, outcome))
    except Exception as error:  # noqa: BLE001 - the loop of the worker: reported with its code
        data = ForkingPickler.dumps(("failed", number, to_cupid_error(error)))
    connection.send_bytes(data)


def to_cupid_error(error: Exception) -> CupidError:
    """An error that can be pickled: a CupidError as it is, any other by name and text."""
    if isinstance(error, CupidError):
        try:
            ForkingPickler.loads(ForkingPickler.dumps(error))
            return error
        except Exception:  # noqa: BLE001 - whatever its class does wrong, code and text are kept
            return JobFailedError(f"[{error.code}] {error.problem}", hint=error.hint)
    text = f"{type(error).__name__}: {error}"[:2000]
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OutOfMemoryError(f"{text}.", hint="Use fewer samples or objects at once, or a smaller checkpoint.")
    return JobFailedError(f"{text}.", hint="This is a defect: report it with the image that led to it.")
