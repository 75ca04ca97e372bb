"""Sinusoidal embeddings of time and of voxel positions.

Both follow Vaswani et al. (2017) with the period 10000; their channel orders differ and are part of the
published weights, so neither may be changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

MAX_PERIOD = 10000.0
TIME_SCALE = 1000.0
"""Flow time runs from 1 (noise) to 0 (data); the networks get it multiplied by this."""


def model_times(times: Sequence[float], device: torch.device | str | None = None) -> Tensor:
    """Flow times in [0, 1] as the networks take them: (T,) float32, scaled in double precision first."""
    return torch.tensor([TIME_SCALE * time for time in times], dtype=torch.float32, device=device)


def timestep_sinusoid(t: Tensor, channels: int) -> Tensor:
    """Embed times as [cos, sin], cosines first, an odd last channel zero.

    Args:
        t: (B,) time multiplied by 1000.
        channels: width of the result.

    Returns:
        (B, channels) float32.
    """
    half = channels // 2
    steps = torch.arange(half, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * steps / half)
    return nn.functional.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, channels - 2 * half))


def position_embedding(coords: Tensor, channels: int) -> Tensor:
    """Embed integer positions axis by axis as [sin, cos], padded with zeros at the end.

    Args:
        coords: (..., axes) positions in voxels, any real or integer dtype.
        channels: width of the result; each axis takes 2 * (channels // axes // 2) of it.

    Returns:
        (..., channels) float32.
    """
    axes = coords.shape[-1]
    count = channels // axes // 2
    steps = torch.arange(count, dtype=torch.float32, device=coords.device) / count
    angles = coords.float()[..., None] * (1.0 / MAX_PERIOD**steps)
    table = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)
    return nn.functional.pad(table, (0, channels - 2 * count * axes))


def grid_position_embedding(resolution: int, channels: int) -> Tensor:
    """Position embedding of every cell of a cubic grid, x outermost and z fastest.

    Returns:
        (resolution**3, channels) float32.
    """
    axis = torch.arange(resolution)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    return position_embedding(grid.reshape(-1, 3), channels)


class TimestepEmbedder(nn.Module):
    """Time to a feature vector: sinusoid, linear, SiLU, linear; always float32.

    Args:
        channels: width of the result.
        frequency_channels: width of the sinusoid.
    """

    def __init__(self, channels: int, frequency_channels: int = 256) -> None:
        super().__init__()
        self.frequency_channels = frequency_channels
        self.mlp = nn.Sequential(nn.Linear(frequency_channels, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, t: Tensor) -> Tensor:
        """Embed (B,) times, already multiplied by 1000, to (B, channels)."""
        embedded: Tensor = self.mlp(timestep_sinusoid(t, self.frequency_channels))
        return embedded
