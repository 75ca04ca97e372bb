"""Normalizations that compute in float32 whatever the precision of their input.

Parameters of these layers stay in float32 when the rest of a torso goes to half precision
(see `cupid_core.models.layers.precision`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Shorter vectors are not made longer than this allows.
_SHORTEST = 1e-12


class LayerNorm32(nn.LayerNorm):
    """Layer norm over the last dimension, computed in float32, returned in the dtype of the input.

    Shapes: (..., C) to (..., C).
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (..., C)."""
        return super().forward(input.float()).to(input.dtype)


class ChannelLayerNorm32(LayerNorm32):
    """Layer norm over dimension 1 of a volume (B, C, X, Y, Z), computed in float32."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize over the channels of every voxel."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class GroupNorm32(nn.GroupNorm):
    """Group norm of (B, C, ...), computed in float32, returned in the dtype of the input."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalize over each group of channels and all places of an item."""
        return super().forward(input.float()).to(input.dtype)


class MultiHeadRMSNorm(nn.Module):
    """Root-mean-square norm of queries or keys, one gain per head and channel.

    x / |x| * gamma * sqrt(head_dim), in float32 (query-key normalization, Henry et al. 2020; TRELLIS).

    Args:
        head_dim: channels of one head.
        num_heads: number of heads.
    """

    def __init__(self, head_dim: int, num_heads: int) -> None:
        super().__init__()
        self.scale = head_dim**0.5
        self.gamma = nn.Parameter(torch.ones(num_heads, head_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (..., heads, head_dim)."""
        wide = x.float()
        # Small factors first: each pass over all queries or keys counts, here and in the backward pass.
        shrink = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).clamp(min=_SHORTEST).reciprocal()
        normal: Tensor = wide * shrink * (self.gamma * self.scale)
        return normal.to(x.dtype)
