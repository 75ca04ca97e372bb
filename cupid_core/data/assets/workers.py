"""Does independent pieces of work in several processes; one that fails, or ends its process, costs only itself.

A native library may crash on a broken file, so a process that ends is replaced, and what it was working on has
failed.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Generic, TypeVar

import torch

from cupid_core.errors import CupidError

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")
_log = logging.getLogger(__name__)
_PATIENCE_S = 5.0


@dataclass(frozen=True)
class Outcome(Generic[TaskT, ResultT]):
    """What became of one piece of work.

    Attributes:
        task: the piece.
        result: what came out; None where it failed.
        code: of the failure; empty where there is none.
        reason: what went wrong, a sentence; empty where nothing did.
    """

    task: TaskT
    result: ResultT | None
    code: str = ""
    reason: str = ""


def do_all(
    work: Callable[[TaskT], ResultT], tasks: Sequence[TaskT], processes: int
) -> Iterator[Outcome[TaskT, ResultT]]:
    """Outcomes of all tasks, as they come.

    Args:
        work: a function of the task alone; picklable where there are several processes.
        tasks: pieces of work; picklable likewise.
        processes: how many at a time; 1 works in this process, where a crash ends everything.
    """
    if processes <= 1:
        for task in tasks:
            yield _done(work, task)
        return
    waiting = list(reversed(tasks))
    context = multiprocessing.get_context("spawn")
    busy: dict[Connection, _Worker[TaskT]] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < processes:
                worker: _Worker[TaskT] = _Worker(context, work)
                worker.give(waiting.pop())
                busy[worker.pipe] = worker
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]  # wait returns what it was given
                yield worker.outcome()
                if worker.ended or not waiting:
                    worker.stop()
                    del busy[worker.pipe]
                else:
                    worker.give(waiting.pop())
    finally:
        for worker in busy.values():
            worker.stop(at_once=True)


def _done(work: Callable[[TaskT], ResultT], task: TaskT) -> Outcome[TaskT, ResultT]:
    try:
        return Outcome(task, work(task))
    except CupidError as error:
        return Outcome(task, None, error.code, str(error))
    except Exception as error:  # noqa: BLE001  # outermost loop: whatever one broken file does must not stop the others
        _log.debug("Unexpected", exc_info=True)
        return Outcome(task, None, "unexpected", f"{type(error).__name__}: {error}.")


def _serve(pipe: Connection, work: Callable[[Any], Any]) -> None:
    """Loop of a process: take a task, send what became of it, until there is nothing more to take."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    torch.set_num_threads(1)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(_done(work, task))


class _Worker(Generic[TaskT]):
    """A process and the task it has."""

    def __init__(self, context: SpawnContext, work: Callable[[Any], Any]) -> None:
        self.pipe, other = context.Pipe()
        self._process: SpawnProcess = context.Process(target=_serve, args=(other, work), daemon=True)
        self._process.start()
        other.close()
        self.ended = False
        self._task: TaskT

    def give(self, task: TaskT) -> None:
        self._task = task
        with contextlib.suppress(BrokenPipeError):  # `outcome` says that the process ended
            self.pipe.send(task)

    def outcome(self) -> Outcome[TaskT, Any]:
        """The answer that has come; a failure where the process ended instead."""
        try:
            answer: Outcome[TaskT, Any] = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.ended = True
            self._process.join(_PATIENCE_S)
            reason = f"The process that worked on it ended (exit code {self._process.exitcode})."
            return Outcome(self._task, None, "process_ended", reason)
        return answer

    def stop(self, *, at_once: bool = False) -> None:
        self.pipe.close()
        if at_once:
            self._process.terminate()
        self._process.join(_PATIENCE_S)
