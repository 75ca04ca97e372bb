"""Concurrency of a run: several processes, a thread that prefetches batches, and signals that stop the run.

Every process has its own batches and starts from the same weights, so averaged gradients keep the weights equal.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from cupid_core.errors import MissingPackageError
from cupid_core.training.stage import Stage


class Parallel(Protocol):
    """The group of processes of a run.

    Attributes:
        rank: number of this process.
        world: number of processes.
    """

    rank: int
    world: int

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace these tensors, in place, by their mean over all processes."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in at least one process, so that all of them stop or none."""
        ...


class Alone:
    """A single process."""

    rank = 0
    world = 1

    def average(self, tensors: Sequence[Tensor]) -> None:
        """The mean over one process is the value itself."""

    def any(self, flag: bool) -> bool:
        """The flag itself."""
        return flag


class Accelerated:
    """Processes started by `accelerate launch`.

    Raises:
        MissingPackageError: accelerate is not installed.
    """

    def __init__(self) -> None:
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise MissingPackageError(
                "Training on several devices needs the package accelerate.", hint="pip install 'cupid_ros[train]'"
            ) from error
        self._accelerator: Any = Accelerator()
        self.rank = int(self._accelerator.process_index)
        self.world = int(self._accelerator.num_processes)

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return torch.device(self._accelerator.device)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """All tensors in one flattened reduction, which is faster than one each."""
        flat = torch.cat([tensor.flatten().float() for tensor in tensors])
        mean = self._accelerator.reduce(flat, reduction="mean")
        for tensor, part in zip(tensors, mean.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """See `Parallel`."""
        total = self._accelerator.reduce(torch.tensor(float(flag), device=self.device), reduction="sum")
        return bool(total > 0)


class BatchPrefetcher:
    """Batches by number; one thread makes the next ones in advance.

    Args:
        stage: makes the batches.
        ahead: how many are made in advance; 0 makes each batch when it is asked for.
    """

    def __init__(self, stage: Stage[Any], ahead: int) -> None:
        self._stage, self._ahead = stage, ahead
        self._pool = ThreadPoolExecutor(1) if ahead else None
        self._pending: dict[int, Future[Any]] = {}

    def get(self, number: int, following: int) -> Any:
        """Batch `number`; the next call will ask for `following`."""
        if self._pool is None:
            return self._stage.batch(number)
        for later in range(number, number + self._ahead * (following - number) + 1, following - number):
            if later not in self._pending:
                self._pending[later] = self._pool.submit(self._stage.batch, later)
        return self._pending.pop(number).result()

    def close(self) -> None:
        """Stop the thread; a batch in progress is finished and dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """Context with an event that SIGINT and SIGTERM set; a second SIGINT raises KeyboardInterrupt at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def handle(number: int, frame: object) -> None:
        if stopped.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopped.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
