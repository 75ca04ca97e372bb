"""When the command began, for limits that count from there and not from the end of the imports."""

from __future__ import annotations

from contextvars import ContextVar

# time.monotonic() as set by `cupid_core.cli.main`; None in programs that call a command by themselves.
started: ContextVar[float | None] = ContextVar("started", default=None)
