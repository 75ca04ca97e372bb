"""What carries out requests, seen from the caller: a ticket per request, and an engine that answers it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from cupid_core.errors import CancelledError, CupidError
from cupid_core.reconstruct.progress import Cancelled, OnProgress, Progress

Images = Mapping[str, NDArray[Any]]
Job = Callable[[Any, Images, OnProgress, Cancelled], Any]
"""Does the work: (request, its images, progress, cancelled) -> result. Images are valid only during the call."""
MakeJob = Callable[[], Job]
"""Loads what the job needs; called in the process that does the work, so it must be picklable."""


@dataclass(eq=False)
class Ticket:
    """One request and its answer.

    Attributes:
        request: what was asked for; picklable.
        images: that belong to it, passed through shared memory. They must not change until the ticket is done.
        deadline: `time.monotonic` at which it is too late.
        on_progress: called from another thread; must return at once.
        future: the result, or a CupidError. Callbacks run in another thread and must return at once.
        accepted: `time.monotonic` of submission.
        started: `time.monotonic` when the work began; None before.
        cancelled: the caller does not want the result any more.
    """

    request: Any
    images: Images
    deadline: float
    on_progress: OnProgress | None = None
    future: Future[Any] = field(default_factory=Future)
    accepted: float = field(default_factory=time.monotonic)
    started: float | None = None
    cancelled: bool = False

    @property
    def done(self) -> bool:
        """There is a result or an error."""
        return self.future.done()

    def outcome(self) -> Any:
        """The result, or the CupidError in its place; never waits.

        Raises:
            RuntimeError: it is not done (the caller's mistake).
        """
        if not self.future.done():
            raise RuntimeError("the ticket is not done")
        return self.future.exception() or self.future.result()

    def report(self, progress: Progress) -> None:
        """Pass progress on to the caller."""
        if self.on_progress is not None and not self.done:
            self.on_progress(progress)

    def finish(self, outcome: Any) -> bool:
        """Answer the request, once: later answers change nothing.

        Args:
            outcome: the result, or a CupidError.

        Returns:
            Whether this was the answer.
        """
        try:
            if isinstance(outcome, CupidError):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)
        except InvalidStateError:  # another thread was faster
            return False
        return True


class Engine(Protocol):
    """Carries out requests: `Worker` in another process, `InProcessEngine` in this one."""

    def submit(
        self,
        request: Any,
        images: Images,
        *,
        deadline_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Ticket:
        """Hand in a request. It supersedes a request that has not started.

        Args:
            request: picklable values.
            images: by name.
            deadline_s: seconds from now; None takes the settings'.
            on_progress: see `Ticket`.
        """
        ...

    def cancel(self, ticket: Ticket) -> None:
        """Stop a request; its ticket is done with a CancelledError."""
        ...

    def close(self) -> None:
        """Stop everything; open tickets are done with a WorkerClosedError."""
        ...


class InProcessEngine:
    """Carries out each request at once, in the process and thread of the caller, which waits.

    Args:
        make_job: loads the job, at the first request.
        deadline_s: of a request.
    """

    def __init__(self, make_job: MakeJob, *, deadline_s: float = float("inf")) -> None:
        self._make_job = make_job
        self._deadline_s = deadline_s
        self._job: Job | None = None

    def submit(
        self,
        request: Any,
        images: Images,
        *,
        deadline_s: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> Ticket:
        """See `Engine.submit`; the returned ticket is done."""
        deadline = time.monotonic() + (self._deadline_s if deadline_s is None else deadline_s)
        ticket = Ticket(request, images, deadline, on_progress, started=time.monotonic())
        try:
            self._job = self._job or self._make_job()
            outcome = self._job(
                request, images, ticket.report, lambda: ticket.cancelled or time.monotonic() > deadline
            )
        except CupidError as error:
            outcome = error
        ticket.finish(outcome)
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """See `Engine.cancel`; only `on_progress` can call it in time."""
        ticket.cancelled = True

    def close(self) -> None:
        """Release the networks."""
        self._job = None


def cancelled_error() -> CancelledError:
    """The answer to a request that its caller has cancelled."""
    return CancelledError("The request was cancelled.", hint="Send it again.")
