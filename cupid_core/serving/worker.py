"""The engine that works in another process, with a mailbox for one request: a newer request supersedes it.

The caller never waits: `submit` puts a request into the mailbox. A supervisor thread starts the process, passes
requests on, keeps deadlines, and starts the process again when it died or hangs. Every ticket is answered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any

import numpy as np

from cupid_core.config.ros import RosWorkerConfig
from cupid_core.errors import CupidError
from cupid_core.reconstruct.progress import OnProgress, Progress
from cupid_core.serving.engine import Images, MakeJob, Ticket, cancelled_error
from cupid_core.serving.errors import (
    DeadlineError,
    ImageSizeError,
    SupersededError,
    WorkerClosedError,
    WorkerDiedError,
    WorkerStartError,
)
from cupid_core.serving.shared_memory import SharedMemoryWriter
from cupid_core.serving.worker_process import FORK_SERVER, WorkerProcess

_log = logging.getLogger(__name__)
_LATENCIES = 512
_IDLE_S = 3600.0


@dataclass
class WorkerStats:
    """Counters since the start.

    Attributes:
        submitted: requests handed in.
        superseded: answered without being started, because a newer one came.
        done: answered with a result.
        failed: answered with an error of the job.
        late: answered at their deadline.
        cancelled: answered because the caller cancelled them.
        restarts: processes that ended and were, or will be, replaced.
        waiting: requests in the mailbox, 0 or 1.
        ready: the process has loaded its networks.
        pid: of the process; None where there is none.
        latencies_s: from submission to result, of the newest results.
        start_error: why the last start of a process failed; None since one was ready.
    """

    submitted: int = 0
    superseded: int = 0
    done: int = 0
    failed: int = 0
    late: int = 0
    cancelled: int = 0
    restarts: int = 0
    waiting: int = 0
    ready: bool = False
    pid: int | None = None
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))
    start_error: CupidError | None = None

    def latency_percentile_s(self, percent: float) -> float:
        """That percentile of the latencies, 0 to 100; NaN where there is no result yet."""
        return float(np.percentile(self.latencies_s, percent)) if self.latencies_s else float("nan")


class Worker:
    """Carries out requests in a process of its own; implements `Engine`.

    Args:
        make_job: loads the job in the process; picklable, so defined at the top level of a module.
        config: deadlines and bounds.
    """

    def __init__(self, make_job: MakeJob, config: RosWorkerConfig | None = None) -> None:
        self._make_job = make_job
        self._config = config or RosWorkerConfig()
        self._lock = threading.Lock()
        self._stats = WorkerStats()
        self._waiting: Ticket | None = None
        self._running: Ticket | None = None
        self._number = 0
        self._process: WorkerProcess | None = None
        self._memory = SharedMemoryWriter()
        self._start_not_before = 0.0
        self._start_failed = False
        self._kill_at = 0.0
        self._closing = False
        self._wake_read, self._wake_write = Pipe(duplex=False)
        self._awake = False
        self._thread = threading.Thread(target=self._supervise, name="cupid-worker-supervisor", daemon=True)
        self._thread.start()

    def submit(
        self,
        request: Any,
        images: Images,
        *,
        deadline_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Ticket:
        """See `Engine.submit`; returns at once.

        Raises:
            ImageSizeError: the images together are larger than the settings allow.
            WorkerClosedError: it is closed.
        """
        size_mb = sum(image.nbytes for image in images.values()) / 2**20
        if size_mb > self._config.max_request_mb:
            raise ImageSizeError(
                f"The images of the request have {size_mb:.0f} MB, allowed are {self._config.max_request_mb}.",
                hint="Send smaller images, or raise ros.worker.max_request_mb.",
            )
        seconds = self._config.deadline_s if deadline_s is None else deadline_s
        ticket = Ticket(request, images, time.monotonic() + seconds, on_progress)
        with self._lock:
            if self._closing:
                raise WorkerClosedError("The worker is closed.", hint="Activate the node again.")
            older, self._waiting = self._waiting, ticket
            self._stats.submitted += 1
            self._stats.superseded += older is not None
        if older is not None:
            older.finish(
                SupersededError("A newer request took its place.", hint="Send fewer, or wait for results.")
            )
        self._wake()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """See `Engine.cancel`; the process has `grace_s` to stop, then it is killed."""
        with self._lock:
            if ticket.done or ticket.cancelled:
                return
            ticket.cancelled = True
            self._stats.cancelled += 1
            if self._waiting is ticket:
                self._waiting = None
        ticket.finish(cancelled_error())
        self._wake()

    def stats(self) -> WorkerStats:
        """A copy of the counters."""
        with self._lock:
            values = {**vars(self._stats), "latencies_s": deque(self._stats.latencies_s, maxlen=_LATENCIES)}
            process = self._process
            values["waiting"] = int(self._waiting is not None)
            values["ready"] = process is not None and process.ready
            values["pid"] = None if process is None else process.handle.pid
            return WorkerStats(**values)

    def close(self) -> None:
        """Kill the process and answer open tickets; returns when both are done. A second call does nothing."""
        with self._lock:
            self._closing = True
        self._wake()
        self._thread.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wake(self) -> None:
        """Make the supervisor run a round; never blocks, because at most one byte is in the pipe."""
        with self._lock:
            if not self._awake and self._thread.is_alive():
                self._awake = True
                self._wake_write.send_bytes(b"1")

    def _supervise(self) -> None:
        """The thread: one round per event or deadline."""
        while not self._closing:
            try:
                self._round()
            except Exception:  # noqa: BLE001 - logged; the request is answered with its code
                # Without the supervisor every later request would wait forever.
                _log.exception("worker: unexpected error; the process is started again")
                self._end_process(WorkerDiedError("The supervisor of the worker failed.", hint="Ask again."))
        self._shut_down()

    def _round(self) -> None:
        self._keep_deadlines()
        if self._process is None:
            self._start_if_needed()
        self._dispatch()
        watched: list[Any] = [self._wake_read]
        if self._process is not None:
            watched += [self._process.connection, self._process.handle.sentinel]
        ready = wait(watched, timeout=self._seconds_to_next_event())
        if self._wake_read in ready:
            with self._lock:
                self._wake_read.recv_bytes()
                self._awake = False
        process = self._process
        if process is not None and (process.connection in ready or process.handle.sentinel in ready):
            self._receive(process)

    def _start_if_needed(self) -> None:
        """Start a process at once; after a failed start only when a request waits, and after a pause."""
        if time.monotonic() < self._start_not_before or (self._start_failed and self._waiting is None):
            return
        self._start_not_before = time.monotonic() + self._config.restart_pause_s
        process = WorkerProcess.start(self._make_job)
        with self._lock:
            self._process = process

    def _dispatch(self) -> None:
        """Pass the waiting request on if the process is free."""
        process = self._process
        if process is None or not process.ready or self._running is not None:
            return
        with self._lock:
            ticket, self._waiting = self._waiting, None
        if ticket is None:
            return
        self._number += 1
        self._running, self._kill_at = ticket, ticket.deadline + self._config.grace_s
        name, layout = self._memory.write(ticket.images)
        ticket.started = time.monotonic()
        try:
            process.connection.send((self._number, ticket.request, name, layout))
        except OSError:
            self._end_process(_died(process))

    def _receive(self, process: WorkerProcess) -> None:
        """Handle all messages of the process, and notice its end."""
        try:
            while process.connection.poll():
                self._handle(process, process.connection.recv())
                if self._process is not process:
                    return
        except (EOFError, OSError):
            self._end_process(_died(process))
            return
        if not process.handle.is_alive() and not process.connection.poll():
            self._end_process(_died(process))

    def _handle(self, process: WorkerProcess, message: tuple[Any, ...]) -> None:
        word, *rest = message
        if word == "ready":
            process.ready, self._start_failed = True, False
            FORK_SERVER.begin()  # not before: it would compete with the networks that are loaded
            with self._lock:
                self._stats.start_error = None
        elif word == "broken":
            self._start_failed = True
            self._end_process(rest[0], answer_waiting=True)
        elif rest[0] == self._number and self._running is not None:
            if word == "progress":
                self._report(self._running, rest[1])
            else:
                self._answer(self._running, rest[1])
                self._running = None

    @staticmethod
    def _report(ticket: Ticket, progress: Progress) -> None:
        try:
            ticket.report(progress)
        except Exception:  # noqa: BLE001 - logged
            # An error of the listener must not end the supervisor and its process.
            _log.exception("worker: on_progress raised an error")

    def _answer(self, ticket: Ticket, outcome: Any) -> None:
        failed = isinstance(outcome, CupidError)
        if not ticket.done:  # else it was late or cancelled, and is counted
            with self._lock:
                self._stats.failed += failed
                self._stats.done += not failed
                if not failed:
                    self._stats.latencies_s.append(time.monotonic() - ticket.accepted)
        ticket.finish(outcome)

    def _keep_deadlines(self) -> None:
        now = time.monotonic()
        with self._lock:
            waiting = self._waiting
            if waiting is not None and now >= waiting.deadline:
                self._waiting = None
        for ticket in (waiting, self._running):
            if ticket is not None and now >= ticket.deadline and not ticket.done:
                with self._lock:
                    self._stats.late += 1
                seconds = ticket.deadline - ticket.accepted
                hint = "Give it more time, fewer objects, or a faster preset."
                ticket.finish(DeadlineError(f"Not done within {seconds:.1f} s.", hint=hint))
        process, running = self._process, self._running
        if process is None:
            return
        if running is not None and running.done:
            if process.cancelled.value != self._number:
                process.cancelled.value = self._number
                self._kill_at = min(self._kill_at, now + self._config.grace_s)
            if now >= self._kill_at:
                _log.warning("worker: the process did not stop within %.1f s and is killed", self._config.grace_s)
                self._end_process(_died(process))
        elif not process.ready and now - process.started > self._config.startup_s:
            self._start_failed = True
            hint = "Check the checkpoint, or raise ros.worker.startup_s."
            late = WorkerStartError(f"Not ready within {self._config.startup_s:g} s.", hint=hint)
            self._end_process(late, answer_waiting=True)

    def _end_process(self, error: CupidError, *, answer_waiting: bool = False) -> None:
        """End the process and answer its request; the next round starts another one."""
        process, running = self._process, self._running
        with self._lock:
            self._process, self._running = None, None
            self._stats.restarts += process is not None
            waiting = self._waiting if answer_waiting else None
            if answer_waiting:
                self._waiting = None
        if process is not None:
            if not process.ready:
                self._start_failed = True
                with self._lock:
                    self._stats.start_error = error
            process.kill()
        for ticket in (running, waiting):
            if ticket is not None:
                self._answer(ticket, error)

    def _seconds_to_next_event(self) -> float:
        moments = [time.monotonic() + _IDLE_S]
        process, running = self._process, self._running
        with self._lock:
            waiting = self._waiting
        if waiting is not None:
            moments.append(waiting.deadline)
        if running is not None:
            moments.append(self._kill_at if running.done else running.deadline)
        if process is None and (waiting is not None or not self._start_failed):
            moments.append(self._start_not_before)
        if process is not None and not process.ready:
            moments.append(process.started + self._config.startup_s)
        return max(0.0, min(moments) - time.monotonic())

    def _shut_down(self) -> None:
        closed = WorkerClosedError("The worker was closed.", hint="Activate the node again.")
        with self._lock:
            tickets = (self._running, self._waiting)
            self._running = self._waiting = None
            process, self._process = self._process, None
        if process is not None:
            process.kill()
        for ticket in tickets:
            if ticket is not None:
                ticket.finish(closed)
        self._memory.close()


def _died(process: WorkerProcess) -> WorkerDiedError:
    process.handle.join(0.5)
    code = process.handle.exitcode
    how = "still ran" if code is None else f"ended by signal {-code}" if code < 0 else f"ended with code {code}"
    return WorkerDiedError(
        f"The worker process {how} in the middle of the request.",
        hint="It is started again; ask again, and look for lack of memory if it happens often.",
    )
