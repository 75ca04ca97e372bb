"""Conditional flow matching: times and noise of a training step, the noisy data, and the loss of the velocity.

Source: CUPID (arXiv 2510.20776) equation 1. The path itself is `sampling.flow_path.FlowPath`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cupid_core.config import FlowTrainingConfig
from cupid_core.errors import InvalidTensorError
from cupid_core.sampling.flow_path import FlowPath


@dataclass(frozen=True, eq=False)
class FlowSample:
    """A noisy batch and the velocity that the network should predict for it.

    Attributes:
        x_t: noisy data, shape of the data.
        t: (B,) flow time of each item, in (0, 1); 1 is noise.
        target: velocity, shape of the data.
    """

    x_t: Tensor
    t: Tensor
    target: Tensor


def draw_times(
    count: int,
    config: FlowTrainingConfig,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Flow times (B,) float32 with normally distributed logit.

    Drawn on the CPU, so that a seed means the same on every device.

    Args:
        count: B, items in the batch.
        config: mean and standard deviation of the logit.
        generator: CPU generator; the global one where None.
        device: where the result goes.

    Source: Esser et al., "Scaling Rectified Flow Transformers" (2024), logit-normal sampling.
    """
    normal = torch.randn(count, generator=generator, dtype=torch.float32)
    return torch.sigmoid(normal * config.time_std + config.time_mean).to(device)


def draw_noise(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> Tensor:
    """Standard normal numbers (shape) float32 on a device.

    On an accelerator they are drawn there, from a seed that the generator gives: drawing millions on the CPU would
    take longer than a training step. On the CPU they come from the generator itself.

    Args:
        shape: of the result.
        generator: CPU generator.
        device: where the result goes.
    """
    if device.type == "cpu":
        return torch.randn(*shape, generator=generator)
    local = torch.Generator(device=device).manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
    return torch.randn(*shape, generator=local, device=device)


def draw_kept_conditions(
    count: int,
    config: FlowTrainingConfig,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Mask (B,) bool of items that keep their condition; the others train the unconditional branch.

    Arguments as of `draw_times`.
    """
    kept = torch.rand(count, generator=generator, dtype=torch.float32) >= config.condition_dropout
    return kept.to(device)


def flow_sample(
    x0: Tensor, noise: Tensor, t: Tensor, item: Tensor | None = None, path: FlowPath | None = None
) -> FlowSample:
    """Mix data and noise.

    Args:
        x0: data, (B, ...) dense, or (N, C) rows of several items.
        noise: standard normal, shape of `x0`.
        t: (B,) flow times.
        item: (N,) int64, the item each row of `x0` belongs to; None for dense data.
        path: the path; the published one where None.

    Raises:
        InvalidTensorError: shapes do not fit each other.
    """
    rows = t if item is None else t[item.long()]
    if noise.shape != x0.shape or rows.shape != x0.shape[:1]:
        raise InvalidTensorError(
            f"Data {tuple(x0.shape)}, noise {tuple(noise.shape)}, times of rows {tuple(rows.shape)} do not fit.",
            hint="Give noise of the data's shape, one time per item, and for rows the item of each.",
        )
    path = path or FlowPath()
    rows = rows.reshape(-1, *[1] * (x0.dim() - 1))
    return FlowSample(path.interpolate(x0, noise, rows), t, path.velocity(x0, noise))


def velocity_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over everything, scalar float32.

    With rows of several objects every voxel counts the same, so large objects count more, as in the published
    training.
    """
    return (prediction.float() - target.float()).square().mean()


def velocity_loss_per_item(prediction: Tensor, target: Tensor, count: int, item: Tensor | None = None) -> Tensor:
    """Mean squared error (B,) float32 of each item, for logging by flow time and for weighting.

    Args:
        prediction: (B, ...) or (N, C) rows.
        target: as `prediction`.
        count: B.
        item: (N,) item of each row; None for dense data. An item without rows has loss 0.
    """
    rows = (prediction.float() - target.float()).square().flatten(start_dim=1).mean(dim=1)
    if item is None:
        return rows
    number = torch.bincount(item.long(), minlength=count).clamp(min=1)
    return rows.new_zeros(count).index_add(0, item.long(), rows) / number
