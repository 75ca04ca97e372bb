"""Several processes that train one network: averages their gradients. Knows tensors and ranks, not stages.

Every process draws its own batches and starts from the same weights, so averaged gradients keep all of them equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from cupid_core.errors import MissingPackageError


class Parallel(Protocol):
    """The group of processes a run belongs to.

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
        """Whether the flag is set in at least one process: all of them stop, or none."""
        ...


class Alone:
    """One process."""

    rank = 0
    world = 1

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to do."""

    def any(self, flag: bool) -> bool:
        """The flag."""
        return flag


class Accelerated:
    """Processes started by `accelerate launch`.

    Raises:
        MissingPackageError: accelerate is not installed.
    """

    def __init__(self) -> None:
        try:
            from accelerate import Accelerator  # type: ignore[import-not-found,unused-ignore]
        except ImportError as error:
            raise MissingPackageError(
                "Training on several devices needs the package accelerate.", hint="pip install accelerate"
            ) from error
        self._accelerator: Any = Accelerator()
        self.rank = int(self._accelerator.process_index)
        self.world = int(self._accelerator.num_processes)

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return torch.device(self._accelerator.device)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """One reduction over everything, flattened."""
        flat = torch.cat([tensor.flatten().float() for tensor in tensors])
        mean = self._accelerator.reduce(flat, reduction="mean")
        for tensor, part in zip(tensors, mean.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """One reduction of one number."""
        total = self._accelerator.reduce(torch.tensor(float(flag), device=self.device), reduction="sum")
        return bool(total > 0)
