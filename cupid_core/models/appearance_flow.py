"""Stage 2: the flow network over the structured latent of the active voxels.

What the image shows at single voxels enters as pose-aligned features (see `pose_aligned` and
`appearance_variants`).

Source: TRELLIS (Xiang et al. 2024) section 3.2, CUPID (arXiv 2510.20776) section 3.3.

Choices:
* Sparse residual blocks take the rows from the fine grid to one of half the resolution, where the transformer runs
  on tokens padded to the longest item; they come back with skip connections.
* `forward` is the plain path. Sampling uses `condition` once and `denoise` per step, with the same blocks.
* The null branch of guidance is the second half of one batched call; its cross-attention is a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.errors import ConfigError, InputError
from cupid_core.models.appearance_conditioning import AppearanceConditioning, FlowModulations
from cupid_core.models.conditioning import Conditioning, block_modulations, context_memories, run_blocks
from cupid_core.models.layers.attention import KeyValue, padding_bias, visibility_bias
from cupid_core.models.layers.blocks import ModulatedCrossBlock, modulation_layer
from cupid_core.models.layers.embeddings import TimestepEmbedder, model_times, position_embedding
from cupid_core.models.layers.initialize import initialize_flow
from cupid_core.models.layers.precision import cast_torso
from cupid_core.models.layers.sparse_blocks import SparseResBlock3d, blocks_to_coarse, blocks_to_fine, coarser
from cupid_core.models.pose_aligned import VoxelView
from cupid_core.models.topology import VoxelTopology


class SLatFlowModel(nn.Module):
    """Velocity of the structured latent of each voxel, given time and image tokens.

    Args:
        resolution: cells of the voxel grid along an edge.
        in_channels: channels of the latent.
        model_channels: width C of the tokens.
        cond_channels: channels of the context.
        out_channels: channels of the velocity.
        num_blocks: depth of the transformer.
        num_heads: attention heads; None takes `model_channels // num_head_channels`.
        num_head_channels: see `num_heads`.
        mlp_ratio: hidden width of the feed-forward over C.
        patch_size: fine voxels per token along an edge: 2 to the number of `io_block_channels`.
        num_io_res_blocks: residual blocks per level on each side of the transformer.
        io_block_channels: widths of the levels, finest first; None or empty runs the transformer on all voxels.
        pe_mode: only "ape" (absolute position embedding) exists.
        use_fp16: the torso starts in float16, as in the published files.
        use_checkpoint: accepted because published files name it; it concerns training memory and has no effect.
        use_skip_connection: residual blocks after the transformer also read those before it.
        share_mod: one modulation for all transformer blocks.
        qk_rms_norm: normalize queries and keys of the self-attention.
        qk_rms_norm_cross: the same for the cross-attention.
        occlusion_aware: context tokens may carry a visible fraction (CUPID appendix A.2).
        pose_channels: channels of the pose-aligned features, set by the variants.

    Raises:
        ConfigError: another `pe_mode`, or a patch size that does not fit the levels.
    """

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
        num_io_res_blocks: int = 2,
        io_block_channels: Sequence[int] | None = None,
        pe_mode: str = "ape",
        use_fp16: bool = False,
        use_checkpoint: bool = False,
        use_skip_connection: bool = True,
        share_mod: bool = False,
        qk_rms_norm: bool = False,
        qk_rms_norm_cross: bool = False,
        occlusion_aware: bool = False,
        pose_channels: int = 0,
    ) -> None:
        super().__init__()
        widths = [*(io_block_channels or []), model_channels]
        _check(pe_mode, patch_size, len(widths) - 1)
        self.resolution, self.model_channels = resolution, model_channels
        self.in_channels, self.out_channels, self.pose_channels = in_channels, out_channels, pose_channels
        self.use_skip_connection, self.occlusion_aware = use_skip_connection, occlusion_aware
        self.levels = len(widths) - 1
        self.torso_dtype = torch.float32
        self.t_embedder = TimestepEmbedder(model_channels)
        self.adaLN_modulation = modulation_layer(model_channels) if share_mod else None
        self.input_layer = nn.Linear(in_channels + pose_channels, widths[0])
        self.input_blocks = blocks_to_coarse(widths, num_io_res_blocks)
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
        self.out_blocks = blocks_to_fine(widths, num_io_res_blocks, 2 if use_skip_connection else 1)
        self.out_layer = nn.Linear(widths[0], out_channels)
        self._initialize()
        self.to_precision(torch.float16 if use_fp16 else torch.float32)

    def to_precision(self, torso_dtype: torch.dtype) -> SLatFlowModel:
        """Put all blocks in `torso_dtype` (their norms stay float32), in place; returns the network."""
        cast_torso([self.input_blocks, self.blocks, self.out_blocks], torso_dtype)
        self.torso_dtype = torso_dtype
        return self

    def pose_features(self, view: VoxelView | None, topology: VoxelTopology) -> Tensor | None:
        """Pose-aligned features (N, pose_channels) of a view; None for this network, which uses none."""
        return None

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Tensor,
        topology: VoxelTopology,
        *,
        pose: Tensor | None = None,
        cond_weights: Tensor | None = None,
    ) -> Tensor:
        """Velocity in one call: everything but the pose-aligned features is computed here.

        Args:
            x: (N, in_channels) float32 rows of the latent.
            t: (B,) flow time multiplied by 1000.
            cond: (B, Lk, cond_channels) context; all zero for the null branch.
            topology: of the N voxels, with `levels` coarser levels.
            pose: (N, pose_channels) from `pose_features`.
            cond_weights: (B, Lk) visible fraction of each context token in [0, 1].

        Returns:
            (N, out_channels) float32.

        Raises:
            InputError: an input does not fit the network.
        """
        bias = self.context_bias(cond_weights)
        memories = context_memories(self.blocks, cond)
        return self.denoise(x, self.modulations(t), memories, topology, pose=pose, context_bias=bias)

    def modulations(self, t: Tensor) -> FlowModulations:
        """Modulations of all blocks at times (T,) multiplied by 1000."""
        embedding = self.t_embedder(t)
        shared = embedding if self.adaLN_modulation is None else self.adaLN_modulation(embedding)
        blocks = [cast(SparseResBlock3d, block) for block in (*self.input_blocks, *self.out_blocks)]
        return FlowModulations(
            inner=block_modulations(self.blocks, shared.to(self.torso_dtype)),
            outer=tuple(block.modulation(embedding.to(self.torso_dtype)) for block in blocks),
        )

    def condition(
        self,
        cond: Tensor,
        times: Sequence[float],
        topology: VoxelTopology,
        *,
        view: VoxelView | None = None,
        cond_weights: Tensor | None = None,
    ) -> AppearanceConditioning:
        """Compute everything that stays the same while sampling.

        Args:
            cond: (Bc, Lk, cond_channels) contexts; the k = B / Bc items of one context are adjacent.
            times: flow times in [0, 1] that the solver will visit.
            topology: of the voxels of B items.
            view: image tokens and positions of each voxel; None for a network without pose-aligned features.
            cond_weights: (Bc, Lk) visible fractions.

        Raises:
            InputError: an input does not fit the network.
        """
        if view is not None and view.uv.shape[0] != topology.coords.shape[0]:
            raise InputError(
                f"The view has {view.uv.shape[0]} image positions for {topology.coords.shape[0]} voxels.",
                hint="Give one uv per voxel, in the order of the topology.",
            )
        inner, outer = self.modulations(model_times(times, cond.device))
        return AppearanceConditioning(
            topology=topology,
            context=Conditioning(
                memories=context_memories(self.blocks, cond),
                context_bias=self.context_bias(cond_weights),
                times=tuple(times),
                modulations=inner,
            ),
            outer=outer,
            pose=self.pose_features(view, topology),
            null_pose=self.pose_features(None if view is None else view.null(), topology),
        )

    def velocity(
        self, conditioning: AppearanceConditioning, *, null_half: bool = False
    ) -> Callable[[Tensor, float], Tensor]:
        """The callable a solver integrates.

        Args:
            conditioning: from `condition`.
            null_half: x has every row twice, the second time for the null condition (guidance).

        Returns:
            velocity(x, time) with x (N, in_channels), or (2 N, in_channels) with `null_half`.
        """
        topology, pose = conditioning.topology, conditioning.pose
        if null_half:
            topology = topology.repeat(2)
            if pose is not None and conditioning.null_pose is not None:
                pose = torch.cat([pose, conditioning.null_pose])

        def velocity(x: Tensor, time: float) -> Tensor:
            return self.denoise(
                x,
                conditioning.at(time),
                conditioning.context.memories,
                topology,
                pose=pose,
                context_bias=conditioning.context.context_bias,
                null_items=conditioning.topology.batch_size if null_half else 0,
            )

        return velocity

    def denoise(
        self,
        x: Tensor,
        modulations: FlowModulations,
        memories: Sequence[KeyValue],
        topology: VoxelTopology,
        *,
        pose: Tensor | None = None,
        context_bias: Tensor | None = None,
        null_items: int = 0,
    ) -> Tensor:
        """Velocity from ready modulations and context memories.

        Args:
            x: (N, in_channels) float32.
            modulations: of B items, or of one time for all.
            memories: one per block, Bc contexts for B - null_items items; items of one context are adjacent.
            topology: of the N voxels.
            pose: (N, pose_channels).
            context_bias: (Bc, 1, 1, Lk).
            null_items: number of last items with the null context.

        Returns:
            (N, out_channels) float32.

        Raises:
            InputError: pose-aligned features or topology do not fit the network.
        """
        scales = self._scales(topology)
        rows = self.input_layer(self._with_pose(x, pose)).to(self.torso_dtype)
        before = len(self.input_blocks)
        skips = []
        for index, block in enumerate(self.input_blocks):
            rows = block(rows, modulations.outer[index], scales[self._level_of(index)])
            skips.append(rows)
        rows = self._transform(
            rows,
            scales[-1],
            modulations.inner,
            memories,
            context_bias=context_bias,
            null_items=null_items,
        )
        for index, block in enumerate(self.out_blocks):
            mirrored = before - 1 - index
            if self.use_skip_connection:
                rows = torch.cat([rows, skips[mirrored]], dim=1)
            rows = block(rows, modulations.outer[before + index], scales[self._level_of(mirrored)])
        rows = rows.to(x.dtype)
        out: Tensor = self.out_layer(F.layer_norm(rows, rows.shape[-1:]))
        return out

    def _transform(
        self,
        rows: Tensor,
        coarse: VoxelTopology,
        modulations: Tensor,
        memories: Sequence[KeyValue],
        *,
        context_bias: Tensor | None,
        null_items: int,
    ) -> Tensor:
        """Position embedding and transformer on the coarsest rows: (M, C) to (M, C)."""
        rows = rows + position_embedding(coarse.coords[:, 1:], self.model_channels).to(rows.dtype)
        tokens = run_blocks(
            self.blocks,
            coarse.items.gather(rows),
            modulations,
            memories,
            self_bias=None if coarse.items.mask is None else padding_bias(coarse.items.mask),
            context_bias=context_bias,
            null_items=null_items,
        )
        return coarse.items.scatter(tokens)

    def _level_of(self, input_block: int) -> int:
        """Level of the finer side of an input block, or of the output block that mirrors it."""
        return input_block * self.levels // max(len(self.input_blocks), 1)

    def _scales(self, topology: VoxelTopology) -> list[VoxelTopology]:
        """The topologies from the finest level to that of the transformer."""
        if topology.resolution != self.resolution:
            raise InputError(
                f"The voxels are on a grid of {topology.resolution}, the network works on {self.resolution}.",
                hint="Build the topology at the resolution of the network.",
            )
        scales = [topology]
        for _ in range(self.levels):
            scales.append(coarser(scales[-1]).topology)
        return scales

    def _with_pose(self, x: Tensor, pose: Tensor | None) -> Tensor:
        if (pose is not None) != (self.pose_channels > 0):
            raise InputError(
                f"Pose-aligned features are {'missing' if pose is None else 'given'}; the network takes "
                f"{self.pose_channels} channels of them.",
                hint="Make them with this network's `pose_features`.",
            )
        return x if pose is None else torch.cat([x, pose], dim=1)

    def context_bias(self, weights: Tensor | None) -> Tensor | None:
        """Attention bias (Bc, 1, 1, Lk) of visible fractions (Bc, Lk); None where there are none.

        Raises:
            InputError: the network is not occlusion aware.
        """
        if weights is None:
            return None
        if not self.occlusion_aware:
            raise InputError(
                "Visible fractions were given to an appearance network that is not occlusion aware.",
                hint="Leave them out, or use a checkpoint trained with `occlusion_aware`.",
            )
        return visibility_bias(weights)

    def _initialize(self) -> None:
        initialize_flow(self)
        for block in (*self.input_blocks, *self.out_blocks):
            for parameter in cast(SparseResBlock3d, block).conv2.parameters():
                nn.init.zeros_(parameter)


def _check(pe_mode: str, patch_size: int, levels: int) -> None:
    if pe_mode != "ape":
        raise ConfigError(f"pe_mode is '{pe_mode}'.", hint="Only 'ape' exists, also in the published networks.")
    if patch_size != 2**levels:
        raise ConfigError(
            f"Patch size {patch_size} does not fit {levels} levels of io_block_channels.",
            hint=f"Use patch_size={2**levels}.",
        )
