"""Sparse convolutions in the form that an exported graph wants: few gathers, few matrix products.

`SparseConv3d` runs one gather and one product per offset, because that is fastest in torch on a CPU. A compiled
runtime pays for every node instead, so here several offsets share one gather and one product. The numbers are the
same up to the order of summation.
"""

from __future__ import annotations

import copy
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.models.layers.sparse import SparseConv3d
from cupid_core.models.layers.sparse_blocks import SparseSubdivideBlock3d
from cupid_core.models.topology import CHILDREN, NEIGHBORS, Coarsening, VoxelTopology, step_to_parent

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def with_gathered_convolutions(network: NetworkT, *, fine_offsets: int = 9) -> NetworkT:
    """A copy of a network whose sparse convolutions are `GatheredConv3d`; all other parameters are shared.

    Args:
        network: any; without sparse convolutions the copy computes the same nodes.
        fine_offsets: offsets per product where a convolution reads subdivided voxels. All 27 at once would
            gather rows of 27 times their width: 2.7 GB in float16 for 8,000 voxels of the published decoder.
    """
    shared = {id(parameter): parameter for parameter in network.parameters()}
    other = copy.deepcopy(network, memo=dict(shared))
    for module in list(other.modules()):
        if isinstance(module, SparseSubdivideBlock3d):
            module.out_layers[0] = SubdividedConv3d(cast(SparseConv3d, module.out_layers[0]))
        for name, child in module.named_children():
            if isinstance(child, SparseConv3d):
                offsets = fine_offsets if child.row_blocks > 1 else NEIGHBORS
                setattr(module, name, GatheredConv3d(child, offsets))
    return other


class GatheredConv3d(nn.Module):
    """The same convolution as a `SparseConv3d`.

    Args:
        convolution: holds weight and bias.
        offsets: how many of the 27 offsets share one product.
    """

    def __init__(self, convolution: SparseConv3d, offsets: int) -> None:
        super().__init__()
        # (27, in, out), so that a slice of offsets is one matrix (offsets * in, out).
        matrices = convolution.conv.weight.detach().flatten(1, 3).permute(1, 2, 0).contiguous()
        self.weight = nn.Parameter(matrices, requires_grad=False)
        self.bias = convolution.conv.bias
        self.offsets = offsets

    def forward(self, rows: Tensor, topology: VoxelTopology) -> Tensor:
        """Convolve rows (N, in) of a topology of N voxels: (N, out)."""
        return self._product(rows, topology.neighbors)

    def upsampled(self, rows: Tensor, down: Coarsening) -> Tensor:
        """Convolve coarse rows (M, in) as if first copied to the N fine voxels: (N, out)."""
        return self._product(rows, down.neighbors)

    def _product(self, rows: Tensor, neighbors: Tensor) -> Tensor:
        weight, bias = self.weight.to(rows.dtype), self.bias.to(rows.dtype)
        source = F.pad(rows, (0, 0, 0, 1))
        total: Tensor | None = None
        for start in range(0, NEIGHBORS, self.offsets):
            index = neighbors[:, start : start + self.offsets].flatten()
            gathered = source.index_select(0, index).reshape(-1, self.offsets * rows.shape[1])
            matrix = weight[start : start + self.offsets].flatten(0, 1)
            total = torch.addmm(bias if total is None else total, gathered, matrix)
        assert total is not None
        return total


class SubdividedConv3d(nn.Module):
    """`SparseConv3d.subdivided`: the 27 offsets of a child fall on 8 parents, so 8 summed weights replace 27.

    Args:
        convolution: holds weight and bias.
    """

    def __init__(self, convolution: SparseConv3d) -> None:
        super().__init__()
        weight = convolution.conv.weight.detach()
        matrices = weight.float().flatten(1, 3).permute(1, 2, 0)
        self.parents = [_parents_of_child(child) for child in range(CHILDREN)]
        summed = [
            torch.cat([matrices[offsets].sum(0) for offsets in parents.values()]) for parents in self.parents
        ]
        self.weight = nn.Parameter(torch.stack(summed).to(weight.dtype), requires_grad=False)  # (8, 8 in, out)
        self.bias = convolution.conv.bias

    def subdivided(self, rows: Tensor, topology: VoxelTopology) -> Tensor:
        """Convolve rows (N, in) as if first copied to the 8 children of each voxel: (8 N, out)."""
        weight, bias = self.weight.to(rows.dtype), self.bias.to(rows.dtype)
        source = F.pad(rows, (0, 0, 0, 1))
        made = []
        for child, parents in enumerate(self.parents):
            index = torch.cat([topology.neighbors[:, parent : parent + 1] for parent in parents], dim=1)
            gathered = source.index_select(0, index.flatten()).reshape(-1, len(parents) * rows.shape[1])
            made.append(torch.addmm(bias, gathered, weight[child]))
        return torch.stack(made, dim=1).flatten(0, 1)


def _parents_of_child(child: int) -> dict[int, list[int]]:
    """The 8 neighbors of a voxel that hold neighbors of one of its children, and which offsets each holds."""
    held: dict[int, list[int]] = {}
    for offset in range(NEIGHBORS):
        held.setdefault(step_to_parent(child, offset)[0], []).append(offset)
    return dict(sorted(held.items()))
