"""Gaussian noise that is the same for the same seed on every device."""

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
