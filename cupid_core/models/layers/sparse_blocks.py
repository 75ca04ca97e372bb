"""Blocks on the rows (N, C) of active voxels.

Parameter names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, cast

import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.errors import InputError
from cupid_core.models.layers.attention import attend, padding_bias
from cupid_core.models.layers.blocks import BLOCK_NORM_EPS, TransformerBlock
from cupid_core.models.layers.norms import LayerNorm32
from cupid_core.models.layers.sparse import (
    PointwiseConv3d,
    SparseConv3d,
    SparseGroupNorm32,
    downsample,
    subdivide,
    upsample,
)
from cupid_core.models.padded_groups import PaddedGroups
from cupid_core.models.topology import Coarsening, VoxelTopology

FINE_ROW_BLOCKS = 32
Resample = Literal["none", "down", "up"]


class SparseResBlock3d(nn.Module):
    """Residual block of two convolutions, shifted and scaled by time between them.

    Args:
        channels: channels of the input rows.
        emb_channels: channels of the time embedding.
        out_channels: channels of the output rows; None keeps them.
        resample: "down" first merges voxels into the coarser level, "up" first copies to the finer one.
    """

    def __init__(
        self, channels: int, emb_channels: int, out_channels: int | None = None, *, resample: Resample = "none"
    ) -> None:
        super().__init__()
        out_channels = channels if out_channels is None else out_channels
        self.resample = resample
        self.norm1 = LayerNorm32(channels, eps=BLOCK_NORM_EPS)
        self.norm2 = LayerNorm32(out_channels, eps=BLOCK_NORM_EPS, elementwise_affine=False)
        self.conv1 = SparseConv3d(channels, out_channels)
        self.conv2 = SparseConv3d(out_channels, out_channels)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, 2 * out_channels))
        self.skip_connection = nn.Linear(channels, out_channels) if channels != out_channels else nn.Identity()

    def modulation(self, embedding: Tensor) -> Tensor:
        """Scale and shift of this block from time embeddings: (T, emb_channels) to (T, 2 out)."""
        made: Tensor = self.emb_layers(embedding)
        return made

    def forward(self, rows: Tensor, modulation: Tensor, topology: VoxelTopology) -> Tensor:
        """Run the block.

        Args:
            rows: (N, channels) on `topology`; for "up" (M, channels) on its coarser level.
            modulation: (B, 2 out) or (1, 2 out), from `modulation`.
            topology: the finer of the levels the block touches.

        Returns:
            (N, out) on `topology`; for "down" (M, out) on its coarser level.
        """
        if self.resample == "down":
            step = coarser(topology)
            rows, topology = downsample(rows, step), step.topology
        hidden = F.silu(self.norm1(rows))
        skip: Tensor = self.skip_connection(rows)
        if self.resample == "up":
            step = coarser(topology)
            hidden, skip = self.conv1.upsampled(hidden, step), upsample(skip, step)
        else:
            hidden = self.conv1(hidden, topology)
        scale, shift = topology.per_voxel(modulation).chunk(2, dim=-1)
        hidden = F.silu(self.norm2(hidden) * (1 + scale) + shift)
        out: Tensor = self.conv2(hidden, topology) + skip
        return out


class SparseSubdivideBlock3d(nn.Module):
    """Residual block that replaces each voxel by its 8 children.

    The first convolution and the skip read rows that are equal among siblings, so both run on the parents.

    Args:
        channels: channels of the input rows, divisible by 32.
        out_channels: channels of the output rows, divisible by 32.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.act_layers = nn.ModuleList([SparseGroupNorm32(channels), nn.SiLU()])
        self.out_layers = nn.ModuleList(
            [
                SparseConv3d(channels, out_channels),
                SparseGroupNorm32(out_channels),
                nn.SiLU(),
                SparseConv3d(out_channels, out_channels, row_blocks=FINE_ROW_BLOCKS),
            ]
        )
        self.skip_connection = (
            PointwiseConv3d(channels, out_channels) if channels != out_channels else nn.Identity()
        )

    def forward(self, rows: Tensor, topology: VoxelTopology, fine: VoxelTopology) -> Tensor:
        """Run the block: (N, channels) on `topology` to (8 N, out_channels) on `fine`, its subdivision."""
        first, second = cast(SparseConv3d, self.out_layers[0]), cast(SparseConv3d, self.out_layers[3])
        hidden = first.subdivided(F.silu(self.act_layers[0](rows, topology)), topology)
        hidden = second(F.silu(self.out_layers[1](hidden, fine)), fine)
        out: Tensor = hidden + subdivide(self.skip_connection(rows))
        return out


class SparseTransformerBlock(TransformerBlock):
    """Pre-norm self-attention inside groups of voxels, then feed-forward; parameters as in `TransformerBlock`.

    All but the attention itself runs on the N rows, so padding costs nothing in the linear layers.
    """

    def forward(self, x: Tensor, groups: PaddedGroups) -> Tensor:  # type: ignore[override]
        """(N, C) to (N, C); voxels attend to those of their own group."""
        x = x + self._attend_in_groups(self.norm1(x), groups)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def _attend_in_groups(self, x: Tensor, groups: PaddedGroups) -> Tensor:
        query, key, value = (groups.gather(part).transpose(1, 2) for part in self.attn.project(x))
        bias = None if groups.mask is None else padding_bias(groups.mask)
        heads = attend(query, key, value, bias).transpose(1, 2)
        out: Tensor = self.attn.to_out(groups.scatter(heads).flatten(1))
        return out


def coarser(topology: VoxelTopology) -> Coarsening:
    """The step to the coarser level.

    Raises:
        InputError: the topology was built without one.
    """
    if topology.down is None:
        raise InputError("The topology has no coarser level.", hint="Build it with `levels=1`.")
    return topology.down


def blocks_to_coarse(widths: Sequence[int], per_level: int) -> nn.ModuleList:
    """Residual blocks from the finest level to the coarsest: per level plain ones, then a downsampling one.

    Args:
        widths: channels of the levels, finest first; the last is also that of the time embedding.
        per_level: blocks per level.
    """
    channels = widths[-1]
    blocks = nn.ModuleList()
    for width, coarser_width in pairwise(widths):
        blocks.extend(SparseResBlock3d(width, channels) for _ in range(per_level - 1))
        blocks.append(SparseResBlock3d(width, channels, coarser_width, resample="down"))
    return blocks


def blocks_to_fine(widths: Sequence[int], per_level: int, inputs: int) -> nn.ModuleList:
    """The mirror image of `blocks_to_coarse`; every block reads `inputs` times its width (2 with skips)."""
    channels = widths[-1]
    blocks = nn.ModuleList()
    for coarser_width, width in pairwise(reversed(widths)):
        blocks.append(SparseResBlock3d(coarser_width * inputs, channels, width, resample="up"))
        blocks.extend(SparseResBlock3d(width * inputs, channels, width) for _ in range(per_level - 1))
    return blocks
