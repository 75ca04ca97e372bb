"""Integration of a velocity field along a schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
"""velocity(x, time) of the shape of x; time in [0, 1], 1 is noise."""

SolverName = Literal["euler", "heun"]


@dataclass(frozen=True)
class Step:
    """One finished step, for progress and inspection.

    Attributes:
        index: number of the step, from 0.
        total: number of steps.
        time: flow time at its beginning.
        start: x there.
        velocity: the velocity that was followed from there (of Heun the mean of both ends).
        end: x at the end of the step.
    """

    index: int
    total: int
    time: float
    start: Tensor
    velocity: Tensor
    end: Tensor

    @property
    def fraction(self) -> float:
        """Share of the steps that is done, in (0, 1]."""
        return (self.index + 1) / self.total


OnStep = Callable[[Step], None]
"""Called after every step; raising stops the integration, and the error reaches the caller as it is."""


def integrate(
    velocity: Velocity,
    x: Tensor,
    times: Sequence[float],
    *,
    solver: SolverName = "euler",
    on_step: OnStep | None = None,
) -> Tensor:
    """Follow dx/dt = velocity(x, t) from the first to the last time.

    Args:
        velocity: called once per step (Euler, first order) or twice (Heun, second order), at these times only.
        x: start, any shape; not changed.
        times: at least two, in the order they are visited.
        solver: "euler" or "heun".
        on_step: see `OnStep`.

    Returns:
        x at the last time.
    """
    for index, (time, following) in enumerate(pairwise(times)):
        width = following - time
        slope = velocity(x, time)
        if solver == "heun":
            slope = (slope + velocity(x + width * slope, following)) / 2
        end = x + width * slope
        if on_step is not None:
            on_step(Step(index, len(times) - 1, time, x, slope, end))
        x = end
    return x
