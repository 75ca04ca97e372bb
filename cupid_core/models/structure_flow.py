"""Stage 1: the flow network over the dense latent of structure and view.

One token per latent voxel (CUPID: 16^3 voxels, 8 channels of occupancy and 8 of UV), a stack of modulated cross
blocks, the image tokens as context. Source: CUPID (arXiv 2510.20776) section 3, on the network of TRELLIS.

Choices:
* `forward` is the plain, readable path; sampling uses `condition` once and `denoise` per step, the same blocks.
* Occluded image tokens can be weighted down (`occlusion_aware`, CUPID appendix A.2); the published weights were
  trained without.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.errors import ConfigError, InputError
from cupid_core.models.conditioning import Conditioning, block_modulations, context_memories, run_blocks
from cupid_core.models.layers.attention import KeyValue, visibility_bias
from cupid_core.models.layers.blocks import ModulatedCrossBlock, modulation_layer
from cupid_core.models.layers.embeddings import TimestepEmbedder, grid_position_embedding, model_times
from cupid_core.models.layers.initialize import initialize_flow
from cupid_core.models.layers.precision import cast_torso


class SparseStructureFlowModel(nn.Module):
    """Velocity of the structure latent, given time and image tokens.

    Args:
        resolution: cells of the latent cube along an edge, R.
        in_channels: channels of the latent.
        model_channels: width C of the tokens.
        cond_channels: channels of the context.
        out_channels: channels of the velocity.
        num_blocks: depth.
        num_heads: attention heads; None takes `model_channels // num_head_channels`.
        num_head_channels: see `num_heads`.
        mlp_ratio: hidden width of the feed-forward over C.
        patch_size: cells per token along an edge.
        pe_mode: only "ape" (absolute position embedding) exists.
        use_fp16: the torso starts in float16, as in the published files.
        use_checkpoint: accepted because published files name it; it concerns training memory and has no effect.
        share_mod: one modulation for all blocks.
        qk_rms_norm: normalize queries and keys of the self-attention.
        qk_rms_norm_cross: the same for the cross-attention.
        occlusion_aware: context tokens may carry a visible fraction.

    Raises:
        ConfigError: another `pe_mode`, or a patch size that does not divide the resolution.
    """

    pos_emb: Tensor

    def __init__(
        self,
        *,
        resolution: int,
        in_channels: int,
        model_channels: int,
        cond_channels: int,
        out_channels: int,
        num_blocks: int,
        num_heads: int | None = None,
        num_head_channels: int = 64,
        mlp_ratio: float = 4.0,
        patch_size: int = 2,
        pe_mode: str = "ape",
        use_fp16: bool = False,
        use_checkpoint: bool = False,
        share_mod: bool = False,
        qk_rms_norm: bool = False,
        qk_rms_norm_cross: bool = False,
        occlusion_aware: bool = False,
    ) -> None:
        super().__init__()
        if pe_mode != "ape":
            raise ConfigError(
                f"pe_mode is '{pe_mode}'.", hint="Only 'ape' exists, also in the published networks."
            )
        if resolution % patch_size:
            raise ConfigError(
                f"Patch size {patch_size} does not divide resolution {resolution}.",
                hint="Choose a divisor of the resolution.",
            )
        self.resolution, self.patch_size = resolution, patch_size
        self.in_channels, self.out_channels = in_channels, out_channels
        self.occlusion_aware = occlusion_aware
        self.torso_dtype = torch.float32
        self.t_embedder = TimestepEmbedder(model_channels)
        self.adaLN_modulation = modulation_layer(model_channels) if share_mod else None
        self.register_buffer("pos_emb", grid_position_embedding(resolution // patch_size, model_channels))
        self.input_layer = nn.Linear(in_channels * patch_size**3, model_channels)
        self.blocks = nn.ModuleList(
            ModulatedCrossBlock(
                model_channels,
                cond_channels,
                num_heads or model_channels // num_head_channels,
                mlp_ratio,
                qk_rms_norm=qk_rms_norm,
                qk_rms_norm_cross=qk_rms_norm_cross,
                share_mod=share_mod,
            )
            for _ in range(num_blocks)
        )
        self.out_layer = nn.Linear(model_channels, out_channels * patch_size**3)
        initialize_flow(self)
        self.to_precision(torch.float16 if use_fp16 else torch.float32)

    def to_precision(self, torso_dtype: torch.dtype) -> SparseStructureFlowModel:
        """Put the blocks in `torso_dtype` (their norms stay float32), in place; returns the network."""
        cast_torso(self.blocks, torso_dtype)
        self.torso_dtype = torso_dtype
        return self

    def forward(self, x: Tensor, t: Tensor, cond: Tensor, cond_weights: Tensor | None = None) -> Tensor:
        """Velocity in one call, with nothing precomputed.

        Args:
            x: (B, in_channels, R, R, R) float32.
            t: (B,) flow time multiplied by 1000.
            cond: (B, Lk, cond_channels) context; all zero for the null branch.
            cond_weights: (B, Lk) visible fraction of each context token in [0, 1].

        Returns:
            (B, out_channels, R, R, R) float32.

        Raises:
            InputError: weights for a network that is not occlusion aware.
        """
        bias = self.context_bias(cond_weights)
        memories = context_memories(self.blocks, cond)
        return self.denoise(x, self.modulations(t), memories, context_bias=bias)

    def modulations(self, t: Tensor) -> Tensor:
        """Modulations (T, blocks, 6C) of all blocks at times (T,) multiplied by 1000."""
        embedding = self.t_embedder(t)
        if self.adaLN_modulation is not None:
            embedding = self.adaLN_modulation(embedding)
        return block_modulations(self.blocks, embedding.to(self.torso_dtype))

    def condition(self, cond: Tensor, times: Sequence[float], cond_weights: Tensor | None = None) -> Conditioning:
        """Make all that stays the same while sampling.

        Args:
            cond: (Bc, Lk, cond_channels) contexts.
            times: flow times in [0, 1] that the solver will visit.
            cond_weights: (Bc, Lk) visible fractions.

        Raises:
            InputError: weights for a network that is not occlusion aware.
        """
        return Conditioning(
            memories=context_memories(self.blocks, cond),
            context_bias=self.context_bias(cond_weights),
            times=tuple(times),
            modulations=self.modulations(model_times(times, cond.device)),
        )

    def velocity(
        self, conditioning: Conditioning, *, null_half: bool = False
    ) -> Callable[[Tensor, float], Tensor]:
        """The callable a solver integrates.

        Args:
            conditioning: from `condition`.
            null_half: the second half of every batch has the null context (guidance).

        Returns:
            velocity(x, time) with x (B, in_channels, R, R, R) and a time of the conditioning.
        """

        def velocity(x: Tensor, time: float) -> Tensor:
            return self.denoise(
                x,
                conditioning.at(time),
                conditioning.memories,
                context_bias=conditioning.context_bias,
                null_items=x.shape[0] // 2 if null_half else 0,
            )

        return velocity

    def denoise(
        self,
        x: Tensor,
        modulations: Tensor,
        memories: Sequence[KeyValue],
        *,
        context_bias: Tensor | None = None,
        null_items: int = 0,
    ) -> Tensor:
        """Velocity from ready modulations and context memories.

        Args:
            x: (B, in_channels, R, R, R) float32.
            modulations: (B, blocks, 6C) or (1, blocks, 6C).
            memories: one per block, Bc contexts for B - null_items items; items of one context follow each other.
            context_bias: (Bc, 1, 1, Lk).
            null_items: number of last items with the null context.

        Returns:
            (B, out_channels, R, R, R) float32.
        """
        tokens = self.input_layer(self._patchify(x)) + self.pos_emb
        tokens = run_blocks(
            self.blocks,
            tokens.to(self.torso_dtype),
            modulations,
            memories,
            context_bias=context_bias,
            null_items=null_items,
        ).to(x.dtype)
        return self._unpatchify(self.out_layer(F.layer_norm(tokens, tokens.shape[-1:])))

    def context_bias(self, weights: Tensor | None) -> Tensor | None:
        """Attention bias (Bc, 1, 1, Lk) of visible fractions (Bc, Lk); None where there are none.

        Raises:
            InputError: the network is not occlusion aware.
        """
        if weights is None:
            return None
        if not self.occlusion_aware:
            raise InputError(
                "Visible fractions were given to a structure network that is not occlusion aware.",
                hint="Leave them out, or use a checkpoint trained with `occlusion_aware`.",
            )
        return visibility_bias(weights)

    def _patchify(self, x: Tensor) -> Tensor:
        """(B, C, R, R, R) to (B, tokens, C p^3): x outermost among tokens, channel outermost among features."""
        p, n = self.patch_size, self.resolution // self.patch_size
        return (
            x.reshape(-1, self.in_channels, n, p, n, p, n, p)
            .permute(0, 2, 4, 6, 1, 3, 5, 7)
            .reshape(-1, n**3, self.in_channels * p**3)
        )

    def _unpatchify(self, tokens: Tensor) -> Tensor:
        p, n = self.patch_size, self.resolution // self.patch_size
        return (
            tokens.reshape(-1, n, n, n, self.out_channels, p, p, p)
            .permute(0, 4, 1, 5, 2, 6, 3, 7)
            .reshape(-1, self.out_channels, self.resolution, self.resolution, self.resolution)
        )
