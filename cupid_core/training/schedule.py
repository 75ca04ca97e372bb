"""Learning-rate schedules."""

from __future__ import annotations

import math

from cupid_core.config import LearningRateConfig
from cupid_core.training.run_settings import OptimizerSettings


def learning_rate(step: int, config: LearningRateConfig) -> float:
    """Linear warm-up from the initial to the base rate, then half a cosine to the final rate, then constant.

    Args:
        step: number of the step, the first is 1.
        config: rates and numbers of steps.

    Source: the released training of CUPID (arXiv 2510.20776); there the cosine rises again after its last step,
    here it does not.
    """
    if step <= config.warmup_steps:
        return config.initial + (config.base - config.initial) * step / config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / (config.max_steps - config.warmup_steps))
    return config.final + (config.base - config.final) * (1 + math.cos(math.pi * progress)) / 2


def stable_then_decay(step: int, steps: int, settings: OptimizerSettings) -> float:
    """Share of the full learning rate: linear warm-up, constant, then a fall over the last part of the run.

    Until the fall begins the number of steps does not matter, so a run can be lengthened while it is stable.
    A `decay_share` of 1 with a cosine is the common half-cosine schedule, a share of 0 a constant rate.

    Args:
        step: number of the step, the first is 1.
        steps: of the whole run.
        settings: warm-up, share and shape of the fall, final share.

    Source: warm-up-stable-decay (Hu et al. 2024, "MiniCPM").
    """
    if step <= settings.warmup_steps:
        return step / (settings.warmup_steps + 1)
    length = settings.decay_share * steps
    progress = max(0.0, step - (steps - length)) / length if length > 0 else 0.0
    progress = min(1.0, progress)
    fall = progress if settings.decay_shape == "linear" else (1 - math.cos(math.pi * progress)) / 2
    return 1.0 - (1.0 - settings.final_share) * fall
