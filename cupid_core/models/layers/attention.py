"""Multi-head attention over padded token tensors (B, L, C).

Choices:
* One kernel, `scaled_dot_product_attention` (training in bfloat16 on a CPU aside, see `attend`). Masked or
  down-weighted keys get an additive bias (`padding_bias`, `visibility_bias`), so items of different lengths and
  partly occluded context share one code path.
* Keys and values of a context that stays fixed during sampling are computed once (`CrossAttention.key_value`).
* The null context of guidance is all zeros, so all its keys are equal, the softmax is uniform and the result is
  to_out(bias of the values) for every query: a constant, taken instead of computed for the last `null_items`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.models.layers.norms import MultiHeadRMSNorm

HIDDEN = -1e4
"""Bias of a padded key: exp underflows to exactly 0 against it, and float16 can hold it."""


class KeyValue(NamedTuple):
    """Keys and values of one context, split into heads: (B, heads, L, head_dim) each."""

    key: Tensor
    value: Tensor


def padding_bias(valid: Tensor) -> Tensor:
    """Bias that masks padded keys.

    Args:
        valid: (B, L) bool, true where there is a token; every item needs at least one.

    Returns:
        (B, 1, 1, L) float32.
    """
    return torch.zeros(valid.shape, device=valid.device).masked_fill(~valid, HIDDEN)[:, None, None, :]


def visibility_bias(weights: Tensor) -> Tensor:
    """Bias that weighs context tokens by their visible fraction, log(w + 1e-7) (CUPID, appendix A.2).

    Args:
        weights: (B, L) in [0, 1].

    Returns:
        (B, 1, 1, L) float32.
    """
    return torch.log(weights.float() + 1e-7)[:, None, None, :]


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(head_dim) + bias) v.

    Args:
        query: (B, heads, Lq, head_dim).
        key: (B, heads, Lk, head_dim).
        value: (B, heads, Lk, head_dim).
        bias: broadcastable to (B, heads, Lq, Lk), any float dtype.

    Returns:
        (B, heads, Lq, head_dim).
    """
    mask = None if bias is None else bias.to(query.dtype)
    if query.dtype is torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled():
        # With the fused kernel a whole training step took 1.5 times as long on a CPU, for its backward pass.
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        weighted: Tensor = (logits if mask is None else logits + mask).softmax(dim=-1) @ value
        return weighted
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _join_heads(heads: Tensor) -> Tensor:
    """(B, heads, L, head_dim) to (B, L, C)."""
    return heads.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Attention of the tokens of an item to each other.

    Args:
        channels: C.
        num_heads: divides C.
        qk_rms_norm: normalize queries and keys per head.
    """

    def __init__(self, channels: int, num_heads: int, *, qk_rms_norm: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.to_out = nn.Linear(channels, channels)
        self.q_rms_norm = MultiHeadRMSNorm(channels // num_heads, num_heads) if qk_rms_norm else nn.Identity()
        self.k_rms_norm = MultiHeadRMSNorm(channels // num_heads, num_heads) if qk_rms_norm else nn.Identity()

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of tokens in any arrangement: (..., C) to three (..., heads, head_dim)."""
        query, key, value = self.to_qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(-3)
        return self.q_rms_norm(query), self.k_rms_norm(key), value

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attend within each item.

        Args:
            x: (B, L, C).
            bias: (B, 1, 1, L) per key, e.g. `padding_bias`; rows of padded queries are
                finite and without meaning.

        Returns:
            (B, L, C).
        """
        query, key, value = (part.transpose(1, 2) for part in self.project(x))
        out: Tensor = self.to_out(_join_heads(attend(query, key, value, bias)))
        return out


class CrossAttention(nn.Module):
    """Attention of tokens to a context whose keys and values are made beforehand.

    Args:
        channels: C of the tokens.
        context_channels: channels of the context.
        num_heads: divides C.
        qk_rms_norm: normalize queries and keys per head.
    """

    def __init__(self, channels: int, context_channels: int, num_heads: int, *, qk_rms_norm: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(channels, channels)
        self.to_kv = nn.Linear(context_channels, 2 * channels)
        self.to_out = nn.Linear(channels, channels)
        self.q_rms_norm = MultiHeadRMSNorm(channels // num_heads, num_heads) if qk_rms_norm else nn.Identity()
        self.k_rms_norm = MultiHeadRMSNorm(channels // num_heads, num_heads) if qk_rms_norm else nn.Identity()

    def key_value(self, context: Tensor) -> KeyValue:
        """Keys and values of a context (Bc, Lk, context_channels), in the precision of this layer."""
        context = context.to(self.to_kv.weight.dtype)
        key, value = self.to_kv(context).unflatten(-1, (2, self.num_heads, -1)).unbind(-3)
        return KeyValue(self.k_rms_norm(key).transpose(1, 2), value.transpose(1, 2))

    def null_output(self) -> Tensor:
        """The constant (C,) that every token gets from an all-zero context."""
        out: Tensor = self.to_out(self.to_kv.bias[self.to_out.in_features :])
        return out

    def forward(self, x: Tensor, memory: KeyValue, bias: Tensor | None = None, null_items: int = 0) -> Tensor:
        """Attend to the context.

        Args:
            x: (B, L, C); B - null_items is a multiple k of Bc, and the k items of one context follow each other.
            memory: keys and values of Bc contexts.
            bias: (Bc, 1, 1, Lk) per key.
            null_items: that many last items have the all-zero context; they get `null_output`.

        Returns:
            (B, L, C).
        """
        live = x[: x.shape[0] - null_items]
        # All items of one context become one long query sequence: the context is never repeated in memory.
        folded = live.reshape(memory.key.shape[0], -1, *live.shape[1:]).flatten(1, 2)
        query = self.q_rms_norm(self.to_q(folded).unflatten(-1, (self.num_heads, -1))).transpose(1, 2)
        out: Tensor = self.to_out(_join_heads(attend(query, memory.key, memory.value, bias)))
        out = out.reshape(live.shape)
        if null_items == 0:
            return out
        return torch.cat([out, self.null_output().to(out.dtype).expand(null_items, *out.shape[1:])])
