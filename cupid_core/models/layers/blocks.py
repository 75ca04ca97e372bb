"""Transformer blocks on padded token tensors (B, L, C): plain, and modulated by time with cross-attention.

They take tokens, biases and precomputed modulations.
Parameter names are those of the published checkpoints.
"""

from __future__ import annotations

from torch import Tensor, nn

from cupid_core.models.layers.attention import CrossAttention, KeyValue, SelfAttention
from cupid_core.models.layers.norms import LayerNorm32

BLOCK_NORM_EPS = 1e-6


class FeedForward(nn.Module):
    """Linear, GELU (tanh form), linear: (..., C) to (..., C).

    Args:
        channels: C.
        mlp_ratio: hidden width over C.
    """

    def __init__(self, channels: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each token."""
        out: Tensor = self.mlp(x)
        return out


class TransformerBlock(nn.Module):
    """Pre-norm block without modulation: self-attention, feed-forward.

    Args:
        channels: C.
        num_heads: divides C.
        mlp_ratio: hidden width of the feed-forward over C.
        qk_rms_norm: normalize queries and keys.
    """

    def __init__(
        self, channels: int, num_heads: int, mlp_ratio: float = 4.0, *, qk_rms_norm: bool = False
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm32(channels, eps=BLOCK_NORM_EPS, elementwise_affine=False)
        self.norm2 = LayerNorm32(channels, eps=BLOCK_NORM_EPS, elementwise_affine=False)
        self.attn = SelfAttention(channels, num_heads, qk_rms_norm=qk_rms_norm)
        self.mlp = FeedForward(channels, mlp_ratio)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, L, C) to (B, L, C); `bias` (B, 1, 1, L) masks padded keys."""
        x = x + self.attn(self.norm1(x), bias)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ModulatedCrossBlock(nn.Module):
    """Self-attention, cross-attention, feed-forward; the first and last shifted, scaled and gated by time.

    Source: adaLN of DiT (Peebles and Xie 2023) with the cross-attention of TRELLIS. Only the norm before the
    cross-attention has parameters.

    Args:
        channels: C.
        context_channels: channels of the context.
        num_heads: divides C.
        mlp_ratio: hidden width of the feed-forward over C.
        qk_rms_norm: normalize queries and keys of the self-attention.
        qk_rms_norm_cross: the same for the cross-attention.
        share_mod: the network makes one modulation for all blocks, so this block has no layer for it.
    """

    def __init__(
        self,
        channels: int,
        context_channels: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        *,
        qk_rms_norm: bool = False,
        qk_rms_norm_cross: bool = False,
        share_mod: bool = False,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm32(channels, eps=BLOCK_NORM_EPS, elementwise_affine=False)
        self.norm2 = LayerNorm32(channels, eps=BLOCK_NORM_EPS)
        self.norm3 = LayerNorm32(channels, eps=BLOCK_NORM_EPS, elementwise_affine=False)
        self.self_attn = SelfAttention(channels, num_heads, qk_rms_norm=qk_rms_norm)
        self.cross_attn = CrossAttention(channels, context_channels, num_heads, qk_rms_norm=qk_rms_norm_cross)
        self.mlp = FeedForward(channels, mlp_ratio)
        self.adaLN_modulation = None if share_mod else modulation_layer(channels)

    def modulation(self, embedding: Tensor) -> Tensor:
        """This block's shifts, scales and gates.

        Args:
            embedding: (B, C) time embedding in torso precision; with `share_mod` the (B, 6C) made by the network.

        Returns:
            (B, 6C).
        """
        if self.adaLN_modulation is None:
            return embedding
        made: Tensor = self.adaLN_modulation(embedding)
        return made

    def cross_kv(self, context: Tensor) -> KeyValue:
        """Keys and values of a context (Bc, Lk, context_channels); independent of time and of the tokens."""
        return self.cross_attn.key_value(context)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        memory: KeyValue,
        *,
        self_bias: Tensor | None = None,
        context_bias: Tensor | None = None,
        null_items: int = 0,
    ) -> Tensor:
        """Run the block.

        Args:
            x: (B, L, C) tokens.
            modulation: (B, 6C) or (1, 6C), from `modulation`.
            memory: from `cross_kv`; Bc contexts for B - null_items items (see `CrossAttention.forward`).
            self_bias: (B, 1, 1, L), masks padded tokens of x.
            context_bias: (Bc, 1, 1, Lk), weighs or hides context tokens.
            null_items: that many last items have the all-zero context.

        Returns:
            (B, L, C).
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.unsqueeze(1).chunk(6, dim=-1)
        x = x + gate1 * self.self_attn(self.norm1(x) * (1 + scale1) + shift1, self_bias)
        x = x + self.cross_attn(self.norm2(x), memory, context_bias, null_items)
        out: Tensor = x + gate2 * self.mlp(self.norm3(x) * (1 + scale2) + shift2)
        return out


def modulation_layer(channels: int) -> nn.Sequential:
    """SiLU and linear from the time embedding (B, C) to the six modulations (B, 6C) of a block."""
    return nn.Sequential(nn.SiLU(), nn.Linear(channels, 6 * channels))
