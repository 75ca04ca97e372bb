"""The flow times a solver visits."""

from __future__ import annotations

from cupid_core.errors import ConfigError


def time_schedule(steps: int, rescale_t: float = 1.0) -> tuple[float, ...]:
    """Times from 1 (noise) to 0 (data), with more of them near the noise the larger `rescale_t`.

    t becomes r t / (1 + (r - 1) t), which keeps 0 and 1 (TRELLIS; shift of Esser et al. 2024).

    Args:
        steps: number of intervals, at least 1.
        rescale_t: r > 0; 1 is uniform.

    Returns:
        steps + 1 falling times.

    Raises:
        ConfigError: no step, or r not positive.
    """
    if steps < 1 or rescale_t <= 0:
        raise ConfigError(
            f"A schedule of {steps} steps rescaled by {rescale_t} does not exist.",
            hint="Use at least 1 step and a positive rescale_t.",
        )
    uniform = ((steps - index) / steps for index in range(steps + 1))
    # Written as r t / (r t + (1 - t)), so that 1 stays exactly 1.
    return tuple(rescale_t * t / (rescale_t * t + (1.0 - t)) for t in uniform)
