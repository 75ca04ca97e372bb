"""Gaussian noise that is the same for the same seed on every device and in every batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class NoiseSource:
    """A stream of standard normal tensors; drawn on the CPU in float32, then moved.

    Args:
        seed: two sources of one seed give the same stream.
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator(device="cpu").manual_seed(seed)

    def draw(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """The next tensor of the stream: float32 of `shape` on `device`."""
        return torch.randn(tuple(shape), generator=self._generator, dtype=torch.float32).to(device)


class ItemNoise(NoiseSource):
    """Noise whose rows belong to items, each with a stream of its own.

    What an item gets depends on its seed alone, not on what else is in the batch.

    Args:
        seeds: one for each item.
        rows: how many rows of a drawn tensor belong to each item, in order.
    """

    def __init__(self, seeds: Sequence[int], rows: Sequence[int]) -> None:
        super().__init__(0)
        self._sources = [NoiseSource(seed) for seed in seeds]
        self._rows = list(rows)

    def draw(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """See `NoiseSource.draw`; the first number of the shape is the sum of the rows."""
        assert shape[0] == sum(self._rows), f"{shape[0]} rows, {sum(self._rows)} belong to items"
        pairs = zip(self._sources, self._rows, strict=True)
        return torch.cat([source.draw((rows, *shape[1:])) for source, rows in pairs]).to(device)
