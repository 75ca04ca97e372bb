"""One sampling run: schedule, guidance, solver."""

from __future__ import annotations

from torch import Tensor

from cupid_core.config import SamplerConfig
from cupid_core.sampling.guidance import guided
from cupid_core.sampling.schedule import time_schedule
from cupid_core.sampling.solver import OnStep, Velocity, integrate


def sampling_times(config: SamplerConfig) -> tuple[float, ...]:
    """The flow times that a run with these settings visits; a network may prepare itself for them."""
    return time_schedule(config.steps, config.rescale_t)


def sample(
    conditional: Velocity,
    stacked: Velocity,
    noise: Tensor,
    config: SamplerConfig,
    on_step: OnStep | None = None,
) -> Tensor:
    """Turn noise into data.

    Args:
        conditional: velocity under the condition.
        stacked: velocities of a doubled batch, first half under the condition, second half not (see `guided`).
        noise: (B, ...) standard normal.
        config: steps, schedule, guidance and solver.
        on_step: progress; raise in it to stop (see `OnStep`).

    Returns:
        (B, ...) data.
    """
    velocity = guided(
        conditional,
        stacked,
        config.guidance_strength,
        (config.guidance_from_t, config.guidance_to_t),
    )
    return integrate(velocity, noise, sampling_times(config), solver=config.solver, on_step=on_step)
