"""FlexiCubes: places the dual vertices of a topology and joins them to triangles.

Source: Shen et al., "Flexible Isosurface Extraction for Gradient-Based Mesh Optimization" (2023), section 4 and
equation 8. With neutral weights and undeformed vertices this is plain dual marching cubes with the mean of the
edge crossings as vertex. Differentiable in positions, sdf, attributes and weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cupid_core.mesh.dual_topology import DualTopology
from cupid_core.mesh.flexicubes_tables import EDGE_CORNERS, N_CORNERS, N_EDGES

# Shen et al. keep every weight this far inside its limits so that no vertex leaves its convex hull.
_WEIGHT_SCALE = 0.99
# The cubes around an edge in ascending order, turned into a ring that looks outward.
_RING_FIRST_OUTSIDE = (0, 1, 3, 2)
_RING_FIRST_INSIDE = (2, 3, 1, 0)
# Corners of the two triangles of a quad, split along one diagonal or the other.
_SPLIT_02 = (0, 1, 2, 0, 2, 3)
_SPLIT_13 = (0, 1, 3, 3, 1, 2)


@dataclass(frozen=True, eq=False)
class GridVertices:
    """Values at the vertices of a topology, row for row with its `vertex_keys`.

    Attributes:
        sdf: (U,) floating; inside < 0, with the signs the topology was built from.
        values: (U, 3 + C) floating: position in the object frame, then C attributes, interpolated alike.
    """

    sdf: Tensor
    values: Tensor


@dataclass(frozen=True, eq=False)
class CubeWeights:
    """FlexiCubes weights, read where they are needed.

    Attributes:
        raw: (N, 21) floating before the activations: 12 edges (beta, pull the dual vertex towards a crossing), 8
            corners (alpha, move the crossings along their edges), 1 split (gamma, chooses the diagonal of a quad).
        rows: (M,) int64 row of `raw` of each of the topology's cubes; -1 for a cube that has none: it is neutral.
    """

    raw: Tensor
    rows: Tensor

    @classmethod
    def neutral(cls, like: Tensor, n_cubes: int) -> CubeWeights:
        """Weights that change nothing, in the type and on the device of `like`."""
        absent = torch.full((1,), -1, dtype=torch.int64, device=like.device)
        return cls(like.new_zeros(1, N_EDGES + N_CORNERS + 1), absent.expand(n_cubes))

    def edge(self, cubes: Tensor, edge: int) -> Tensor:
        """Positive weight (P,) of one edge of each cube (P,)."""
        return torch.tanh(self._channel(cubes, edge)) * _WEIGHT_SCALE + 1

    def corner(self, cubes: Tensor, corner: int) -> Tensor:
        """Positive weight (P,) of one corner of each cube (P,)."""
        return torch.tanh(self._channel(cubes, N_EDGES + corner)) * _WEIGHT_SCALE + 1

    def split(self, cubes: Tensor) -> Tensor:
        """Split weight (P,) in (0, 1) of each cube (P,)."""
        return torch.sigmoid(self._channel(cubes, -1)) * _WEIGHT_SCALE + (1 - _WEIGHT_SCALE) / 2

    def _channel(self, cubes: Tensor, channel: int) -> Tensor:
        rows = self.rows[cubes]
        values = self.raw[rows.clamp(min=0), channel].to(torch.promote_types(self.raw.dtype, torch.float32))
        return torch.where(rows >= 0, values, 0)


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles with whatever attributes the grid vertices carried.

    Attributes:
        vertices: (V, 3) object frame.
        faces: (F, 3) int64, counter-clockwise seen from outside.
        attributes: (V, C) or None.
        deviation: (P,) FlexiCubes regularizer L_dev per (dual vertex, crossing), training surfaces only.
    """

    vertices: Tensor
    faces: Tensor
    attributes: Tensor | None = None
    deviation: Tensor | None = None


def inference_surface(topology: DualTopology, grid: GridVertices, weights: CubeWeights) -> Surface:
    """Two triangles per quad, the diagonal chosen by the split weights."""
    values = _dual_vertices(topology, grid, weights)
    quads, split_02, split_13 = _quads(topology, weights)
    along_02 = split_02 > split_13
    columns = [
        torch.where(along_02, quads[:, first], quads[:, second])
        for first, second in zip(_SPLIT_02, _SPLIT_13, strict=True)
    ]
    return _surface(values, torch.stack(columns, dim=1).reshape(-1, 3))


def training_surface(topology: DualTopology, grid: GridVertices, weights: CubeWeights) -> Surface:
    """Four triangles around a center vertex per quad, so that the split weights receive gradients, and L_dev."""
    values = _dual_vertices(topology, grid, weights)
    quads, split_02, split_13 = _quads(topology, weights)
    corners = values[quads]
    middle_02, middle_13 = (corners[:, 0] + corners[:, 2]) / 2, (corners[:, 1] + corners[:, 3]) / 2
    share_02, share_13 = split_02[:, None], split_13[:, None]
    centers = (middle_02 * share_02 + middle_13 * share_13) / (share_02 + share_13 + 1e-8)
    center_index = torch.arange(len(quads), device=quads.device) + len(values)
    ring = torch.stack([quads, quads.roll(-1, dims=1), center_index[:, None].expand(-1, 4)], dim=-1)
    deviation = _deviation(topology, grid, values[:, :3])
    return replace(_surface(torch.cat([values, centers]), ring.reshape(-1, 3)), deviation=deviation)


def _surface(values: Tensor, faces: Tensor) -> Surface:
    attributes = values[:, 3:].contiguous() if values.shape[1] > 3 else None
    return Surface(values[:, :3].contiguous(), faces, attributes)


def _crossing(first: Tensor, second: Tensor, sdf_first: Tensor, sdf_second: Tensor) -> Tensor:
    """Values (P, C) where the linear interpolation of sdf (P,) between two ends is zero."""
    return torch.lerp(first, second, (sdf_first / (sdf_first - sdf_second))[:, None])


def _dual_vertices(topology: DualTopology, grid: GridVertices, weights: CubeWeights) -> Tensor:
    """Position and attributes (D, 3 + C) of the dual vertices: weighted mean of the crossings of their edges.

    One pass per place of an edge in its cube: within a pass no dual vertex is met twice, so the sums have a fixed
    order on every device, and the working memory is a twelfth of all (dual vertex, crossing) pairs.
    """
    total = grid.values.new_zeros(topology.n_dual, grid.values.shape[1])
    weight_sum = grid.values.new_zeros(topology.n_dual)
    for slot in range(N_EDGES):
        edge, rows, cubes = topology.around(slot)
        first, second = topology.ends[rows].unbind(1)
        corner_first, corner_second = EDGE_CORNERS[edge]
        sdf_first = grid.sdf[first] * weights.corner(cubes, corner_first)
        sdf_second = grid.sdf[second] * weights.corner(cubes, corner_second)
        crossing = _crossing(grid.values[first], grid.values[second], sdf_first, sdf_second)
        weight = weights.edge(cubes, edge)
        dual = topology.dual_vertex(cubes, edge)
        total.index_add_(0, dual, crossing * weight[:, None])
        weight_sum.index_add_(0, dual, weight)
    return total / weight_sum[:, None]


def _quads(topology: DualTopology, weights: CubeWeights) -> tuple[Tensor, Tensor, Tensor]:
    """Dual vertices (Q, 4) around every crossed edge inside the grid, outward, and the weights of its diagonals.

    An edge on the border of the grid has fewer than four cubes and gives no quad.
    """
    duals = torch.full_like(topology.cubes, -1)
    for slot in range(N_EDGES):
        edge, rows, cubes = topology.around(slot)
        duals[rows, slot % 4] = topology.dual_vertex(cubes, edge)
    complete = torch.nonzero((topology.cubes >= 0).all(dim=1)).squeeze(1)
    first_inside = topology.first_inside[complete]
    quads, splits = [], []
    for place_inside, place_outside in zip(_RING_FIRST_INSIDE, _RING_FIRST_OUTSIDE, strict=True):
        place = torch.where(first_inside, place_inside, place_outside)
        quads.append(duals[complete, place])
        splits.append(weights.split(topology.cubes[complete, place]))
    return torch.stack(quads, dim=1), splits[0] * splits[2], splits[1] * splits[3]


def _deviation(topology: DualTopology, grid: GridVertices, dual_positions: Tensor) -> Tensor:
    """L_dev (P,): how far each crossing's distance from its dual vertex is from the mean of that vertex."""
    positions = grid.values[:, :3]
    distances, duals = [], []
    for slot in range(N_EDGES):
        edge, rows, cubes = topology.around(slot)
        first, second = topology.ends[rows].unbind(1)
        crossing = _crossing(positions[first], positions[second], grid.sdf[first], grid.sdf[second])
        duals.append(topology.dual_vertex(cubes, edge))
        distances.append(torch.linalg.vector_norm(crossing - dual_positions[duals[-1]], dim=-1))
    distance, dual = torch.cat(distances), torch.cat(duals)
    count = torch.bincount(dual, minlength=topology.n_dual).clamp_(min=1)
    mean = distance.new_zeros(topology.n_dual).index_add(0, dual, distance) / count
    return (distance - mean[dual]).abs()
