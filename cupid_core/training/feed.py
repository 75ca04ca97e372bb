"""Batches made ahead of time; knows the numbers of batches, not what is in them."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from cupid_core.training.stage import Stage


class Feed:
    """Batches by number, the next ones made ahead by one thread.

    Args:
        stage: makes them.
        ahead: how many are made before they are asked for; 0 makes each when it is.
    """

    def __init__(self, stage: Stage[Any], ahead: int) -> None:
        self._stage, self._ahead = stage, ahead
        self._pool = ThreadPoolExecutor(1) if ahead else None
        self._waiting: dict[int, Future[Any]] = {}

    def get(self, number: int, following: int) -> Any:
        """Batch `number`; the next one to be asked for is `following`."""
        if self._pool is None:
            return self._stage.batch(number)
        for later in range(number, number + self._ahead * (following - number) + 1, following - number):
            if later not in self._waiting:
                self._waiting[later] = self._pool.submit(self._stage.batch, later)
        return self._waiting.pop(number).result()

    def close(self) -> None:
        """Stop the thread; what it has begun is finished and dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
