"""Classifier-free guidance as a wrapper of velocity callables.

Source: Ho and Salimans (2022); applied within an interval of times, Kynkaanniemi et al. (2024).
"""

from __future__ import annotations

import torch
from torch import Tensor

from cupid_core.sampling.solver import Velocity


def guided(
    conditional: Velocity,
    stacked: Velocity,
    strength: float,
    interval: tuple[float, float] = (0.0, 1.0),
) -> Velocity:
    """Push the conditional velocity away from the unconditional one.

    (1 + s) v_conditional - s v_unconditional inside the interval (both ends included), v_conditional outside.
    Many texts call 1 + s the weight.

    Args:
        conditional: velocity under the condition, for a batch (B, ...).
        stacked: both velocities in one call, for a batch (2B, ...) whose first half is under the condition and
            whose second half is not.
        strength: s; 0 calls `conditional` alone.
        interval: lowest and highest guided flow time.

    Returns:
        velocity for a batch (B, ...).
    """
    low, high = interval

    def velocity(x: Tensor, time: float) -> Tensor:
        if strength == 0.0 or not low <= time <= high:
            return conditional(x, time)
        under, free = stacked(torch.cat([x, x]), time).chunk(2)
        return (1.0 + strength) * under - strength * free

    return velocity
