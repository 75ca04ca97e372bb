"""The learning rate of a step; knows numbers only."""

from __future__ import annotations

import math

from cupid_core.config import LearningRateConfig


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
