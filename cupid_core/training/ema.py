"""Average of the weights over the steps; knows named tensors, not networks.

Source: exponential moving average with a warm-up of its memory, min(decay, (1 + n) / (10 + n)) after n steps,
so that the first random weights are forgotten quickly.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class WeightAverage:
    """Exponential moving average of float32 weights.

    Args:
        weights: by name; the average starts at their values.
        decay: memory per step.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in weights.items()}

    def memory(self, step: int) -> float:
        """Share that the average keeps at this step; the first step is 1."""
        return min(self.decay, step / (9.0 + step))

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Take in the weights after this step."""
        names = list(self.values)
        torch._foreach_lerp_(
            [self.values[name] for name in names], [weights[name] for name in names], 1.0 - self.memory(step)
        )

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Continue from saved values of the same names and shapes."""
        for name, value in self.values.items():
            value.copy_(values[name])
