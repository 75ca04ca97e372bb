"""The parts of the networks that are exported, each as a module from flat tensors to flat tensors.

What a network takes as a structure (index tables, keys and values of every block, modulations) is a list of
tensors here, in the order of `stage_inputs`. Nothing is computed that the networks do not compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from cupid_core.models.appearance_conditioning import FlowModulations
from cupid_core.models.appearance_flow import SLatFlowModel
from cupid_core.models.appearance_vae import SLatEncoder
from cupid_core.models.conditioning import context_memories
from cupid_core.models.decode_mesh import SLatMeshDecoder
from cupid_core.models.layers.attention import KeyValue
from cupid_core.models.pose_aligned import VoxelView
from cupid_core.models.structure_flow import SparseStructureFlowModel
from cupid_core.models.topology import VoxelTopology


class OneToOne(nn.Module):
    """A network of one tensor to one tensor: image encoder, dense decoders."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """(x,) to (network(x),)."""
        return (self.network(inputs[0]),)


class StructureCondition(nn.Module):
    """(context, times) to keys and values of every block, then modulations."""

    def __init__(self, flow: SparseStructureFlowModel) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        context, times = inputs
        memories = context_memories(self.flow.blocks, context)
        return *flat_memories(memories), self.flow.modulations(times)


class StructureStep(nn.Module):
    """(x, modulations, keys and values of every block[, context bias]) to the velocity.

    Args:
        flow: the network.
        guided: also under the null condition, (B, ...) to (2B, ...). The batch is doubled in the graph, because
            the exporter can prove that half of twice a length exists, and not that half of any length does.
    """

    def __init__(self, flow: SparseStructureFlowModel, *, guided: bool) -> None:
        super().__init__()
        self.flow, self.guided = flow, guided

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        x, modulations, *rest = inputs
        memories, bias = memories_and_bias(rest, len(self.flow.blocks))
        both = torch.cat([x, x]) if self.guided else x
        null_items = x.shape[0] if self.guided else 0
        return (self.flow.denoise(both, modulations, memories, context_bias=bias, null_items=null_items),)


class VoxelEncoder(nn.Module):
    """(rows, index tables) to mean and log variance of the latent."""

    def __init__(self, encoder: SLatEncoder, template: VoxelTopology) -> None:
        super().__init__()
        self.encoder, self.template = encoder, template

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        rows, *tables = inputs
        mean, logvar = self.encoder(rows, topology_of(self.template, tables))
        return mean, logvar


class MeshTrunk(nn.Module):
    """(latent, index tables) to the rows of all cubes."""

    def __init__(self, decoder: SLatMeshDecoder, template: VoxelTopology) -> None:
        super().__init__()
        self.decoder, self.template = decoder, template

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        latent, *tables = inputs
        return (self.decoder(latent, topology_of(self.template, tables)).rows,)


class AppearanceCondition(nn.Module):
    """(context, times, uv, image, visible[, latent], index tables) to all that stays the same while sampling.

    In this order: keys and values of every block, inner modulations, modulations of every residual block, and
    pose-aligned features where the network takes them.

    Args:
        flow: the network.
        template: a topology of the kind that the tables fill.
        prefix_tokens: of the image encoder.
        position_table: of the image encoder.
        has_latent: the network is conditioned on the structured latent of the image.
    """

    position_table: Tensor

    def __init__(
        self,
        flow: SLatFlowModel,
        template: VoxelTopology,
        *,
        prefix_tokens: int,
        position_table: Tensor,
        has_latent: bool,
    ) -> None:
        super().__init__()
        self.flow, self.template = flow, template
        self.prefix_tokens, self.has_latent = prefix_tokens, has_latent
        self.register_buffer("position_table", position_table.detach())

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        context, times, uv, image, visible, *rest = inputs
        latent = rest.pop(0) if self.has_latent else None
        view = VoxelView(uv, context, image, latent, visible, self.position_table, self.prefix_tokens)
        inner, outer = self.flow.modulations(times)
        pose = self.flow.pose_features(view, topology_of(self.template, rest))
        made = (*flat_memories(context_memories(self.flow.blocks, context)), inner, *outer)
        return made if pose is None else (*made, pose)


class AppearanceStep(nn.Module):
    """(x[, pose], modulations, keys and values of every block[, context bias], index tables) to the velocity.

    Args:
        flow: the network.
        template: a topology of the kind that the tables fill.
        guided: also under the null condition, (N, C) to (2N, C); then (null pose) follows (pose).
    """

    def __init__(self, flow: SLatFlowModel, template: VoxelTopology, *, guided: bool) -> None:
        super().__init__()
        self.flow, self.template, self.branches = flow, template, 2 if guided else 1

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        x, *rest = inputs
        poses = [rest.pop(0) for _ in range(self.branches)] if self.flow.pose_channels else []
        inner = rest.pop(0)
        outer = [rest.pop(0) for _ in (*self.flow.input_blocks, *self.flow.out_blocks)]
        kept = 2 * len(self.flow.blocks) + int(self.flow.occlusion_aware)
        memories, bias = memories_and_bias(rest[:kept], len(self.flow.blocks))
        topology = coarsest = topology_of(self.template, rest[kept:])
        # The exporter does not know that all levels have the same items; the transformer runs on the coarsest.
        while coarsest.down is not None:
            coarsest = coarsest.down.topology
        velocity = self.flow.denoise(
            torch.cat([x] * self.branches),
            FlowModulations(inner, tuple(outer)),
            memories,
            topology if self.branches == 1 else topology.repeat(self.branches),
            pose=torch.cat(poses) if poses else None,
            context_bias=bias,
            null_items=coarsest.batch_size * (self.branches - 1),
        )
        return (velocity,)


def topology_of(template: VoxelTopology, tables: Sequence[Tensor]) -> VoxelTopology:
    """The topology that these tables are, for any number of items of any size.

    What a template fixes is not kept: the number of items, and that groups of equal size need no mask.
    """
    return _of_any_items(template.with_tensors(tables))


def _of_any_items(topology: VoxelTopology) -> VoxelTopology:
    down = topology.down
    return replace(
        topology,
        items=replace(topology.items, padded=True),
        windows=tuple(replace(groups, padded=True) for groups in topology.windows),
        batch_size=topology.items.index.shape[0],
        down=None if down is None else replace(down, topology=_of_any_items(down.topology)),
    )


def flat_memories(memories: Sequence[KeyValue]) -> list[Tensor]:
    """Key, value of the first block, then of the second, and so on."""
    return [part for memory in memories for part in memory]


def memories_and_bias(flat: Sequence[Tensor], blocks: int) -> tuple[list[KeyValue], Tensor | None]:
    """Undo `flat_memories`; one more tensor at the end is the context bias."""
    memories = [KeyValue(flat[2 * block], flat[2 * block + 1]) for block in range(blocks)]
    return memories, flat[2 * blocks] if len(flat) > 2 * blocks else None
