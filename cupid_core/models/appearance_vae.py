"""Structured-latent auto-encoder: the transformer shared by encoder and decoders, and the encoders.

Source: TRELLIS (Xiang et al. 2024) section 3.1; windows without cyclic wrap, shifted by half a window in every
second block.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.errors import ConfigError, InputError
from cupid_core.models.layers.embeddings import position_embedding
from cupid_core.models.layers.initialize import initialize_flow
from cupid_core.models.layers.precision import cast_torso
from cupid_core.models.layers.sparse_blocks import SparseTransformerBlock
from cupid_core.models.padded_groups import PaddedGroups
from cupid_core.models.topology import VoxelTopology

# Log variance of a posterior without uncertainty.
_DETERMINISTIC_LOGVAR = -30.0
# Components with less variance than this share of the first are rounding errors.
_MIN_VARIANCE_SHARE = 1e-8


class Posterior(NamedTuple):
    """Distribution of the latent of each voxel: (N, latent_channels) each."""

    mean: Tensor
    logvar: Tensor


class SparseTransformerBase(nn.Module):
    """Linear, position embedding, blocks of self-attention inside windows or inside whole items.

    Args:
        resolution: cells of the voxel grid along an edge.
        in_channels: channels of the input rows.
        model_channels: width C of the rows inside.
        num_blocks: depth.
        num_heads: attention heads; None takes `model_channels // num_head_channels`.
        num_head_channels: see `num_heads`.
        mlp_ratio: hidden width of the feed-forward over C.
        attn_mode: "swin" (windows) or "full" (whole items).
        window_size: edge of the windows in voxels.
        pe_mode: only "ape" (absolute position embedding) exists.
        use_fp16: the torso starts in float16, as in the published files.
        use_checkpoint: accepted because published files name it; it concerns training memory and has no effect.
        qk_rms_norm: normalize queries and keys.

    Raises:
        ConfigError: another `pe_mode` or `attn_mode`.
    """

    def __init__(
        self,
        *,
        resolution: int,
        in_channels: int,
        model_channels: int,
        num_blocks: int,
        num_heads: int | None = None,
        num_head_channels: int = 64,
        mlp_ratio: float = 4.0,
        attn_mode: str = "swin",
        window_size: int = 8,
        pe_mode: str = "ape",
        use_fp16: bool = False,
        use_checkpoint: bool = False,
        qk_rms_norm: bool = False,
    ) -> None:
        super().__init__()
        if pe_mode != "ape":
            raise ConfigError(
                f"pe_mode is '{pe_mode}'.", hint="Only 'ape' exists, also in the published networks."
            )
        if attn_mode not in ("swin", "full"):
            raise ConfigError(f"attn_mode is '{attn_mode}'.", hint="Use 'swin' (published networks) or 'full'.")
        self.resolution = resolution
        self.window_size = window_size if attn_mode == "swin" else None
        self.model_channels = model_channels
        self.torso_dtype = torch.float32
        self.input_layer = nn.Linear(in_channels, model_channels)
        heads = num_heads or model_channels // num_head_channels
        self.blocks = nn.ModuleList(
            SparseTransformerBlock(model_channels, heads, mlp_ratio, qk_rms_norm=qk_rms_norm)
            for _ in range(num_blocks)
        )
        self._starts_half = use_fp16

    @property
    def in_channels(self) -> int:
        """Channels of the input rows."""
        return self.input_layer.in_features

    def torso(self) -> list[nn.Module]:
        """Roots of the modules that go to half precision."""
        return [self.blocks]

    def to_precision(self, torso_dtype: torch.dtype) -> SparseTransformerBase:
        """Put the torso in `torso_dtype` (its norms stay float32), in place; returns the network."""
        cast_torso(self.torso(), torso_dtype)
        self.torso_dtype = torso_dtype
        return self

    def add_head(self, in_channels: int, out_channels: int) -> None:
        """Add the output layer and initialize all parameters; every subclass calls this last."""
        self.out_layer = nn.Linear(in_channels, out_channels)
        initialize_flow(self)
        self.to_precision(torch.float16 if self._starts_half else torch.float32)

    def tokens(self, rows: Tensor, topology: VoxelTopology) -> Tensor:
        """Run input layer and blocks: rows (N, in_channels) float32 to (N, C) in torso precision.

        Raises:
            InputError: the topology is on another grid, or has another window size, or none.
        """
        hidden: Tensor = self.input_layer(rows) + position_embedding(topology.coords[:, 1:], self.model_channels)
        hidden = hidden.to(self.torso_dtype)
        groups = self._groups(topology)
        for index, block in enumerate(self.blocks):
            hidden = block(hidden, groups[index % len(groups)])
        return hidden

    def project(self, tokens: Tensor) -> Tensor:
        """Final layer norm and output layer in float32: (N, C) to (N, out_channels)."""
        tokens = tokens.float()
        out: Tensor = self.out_layer(F.layer_norm(tokens, tokens.shape[-1:]))
        return out

    def _groups(self, topology: VoxelTopology) -> tuple[PaddedGroups, ...]:
        if topology.resolution != self.resolution:
            raise InputError(
                f"The voxels are on a grid of {topology.resolution}, the network works on {self.resolution}.",
                hint="Build the topology at the resolution of the network.",
            )
        if self.window_size is None:
            return (topology.items,)
        if topology.window_size != self.window_size:
            raise InputError(
                f"The topology has windows of {topology.window_size}, the network attends in {self.window_size}.",
                hint=f"Build it with window_size={self.window_size}.",
            )
        return topology.windows


class SLatEncoder(SparseTransformerBase):
    """Image features gathered at the voxels to the posterior of their latent.

    Args:
        latent_channels: channels of the latent.
        trunk: the arguments of `SparseTransformerBase`.
    """

    def __init__(self, *, latent_channels: int, **trunk: Any) -> None:
        super().__init__(**trunk)
        self.add_head(self.model_channels, 2 * latent_channels)

    def forward(self, rows: Tensor, topology: VoxelTopology) -> Posterior:
        """Encode rows (N, in_channels) float32: mean and log variance, (N, latent_channels) float32 each."""
        return Posterior(*self.project(self.tokens(rows, topology)).chunk(2, dim=-1))


class PrincipalEncoder(nn.Module):
    """The principal components of the rows as their latent: an encoder in closed form, for small training budgets.

    It is linear in the row of one voxel and has nothing to train. Same interface as `SLatEncoder`. Its weights are
    NaN until `fit`.

    Args:
        resolution: cells of the voxel grid along an edge.
        in_channels: channels of the input rows.
        latent_channels: components that are kept.
    """

    weight: Tensor
    bias: Tensor
    window_size = None

    def __init__(self, *, resolution: int, in_channels: int, latent_channels: int) -> None:
        super().__init__()
        self.resolution, self.in_channels = resolution, in_channels
        self.register_buffer("weight", torch.full((latent_channels, in_channels), torch.nan))
        self.register_buffer("bias", torch.full((latent_channels,), torch.nan))

    def fit(self, rows: Tensor) -> PrincipalEncoder:
        """Set mean, axes and deviations from rows (N, in_channels), in place; returns the encoder.

        The sign of an axis is such that its largest entry is positive, so that the same rows always give the same
        latent. An axis without variance gives zeros.
        """
        wide = rows.double()
        mean = wide.mean(0)
        variance, axes = torch.linalg.eigh((wide - mean).T @ (wide - mean) / len(wide))
        variance, axes = variance.flip(0)[: len(self.bias)], axes.flip(1)[:, : len(self.bias)]
        axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
        varies = variance > variance[0] * _MIN_VARIANCE_SHARE
        weight = (axes * torch.where(varies, variance, torch.inf).rsqrt()).T
        self.weight.copy_(weight)
        self.bias.copy_(-weight @ mean)
        return self

    def to_precision(self, torso_dtype: torch.dtype) -> PrincipalEncoder:
        """No effect: the encoder has no torso and stays in float32. Returns the encoder."""
        return self

    def rescale(self, mean: Tensor, std: Tensor) -> None:
        """Shift and scale the latent, in place, so that latents of this mean and deviation become normal."""
        self.weight.div_(std[:, None].to(self.weight))
        self.bias.sub_(mean.to(self.bias)).div_(std.to(self.bias))

    def forward(self, rows: Tensor, topology: VoxelTopology) -> Posterior:
        """As `SLatEncoder`; the topology is not needed."""
        mean = F.linear(rows, self.weight, self.bias)
        return Posterior(mean, torch.full_like(mean, _DETERMINISTIC_LOGVAR))
