"""Topology of the dual mesh: which grid edges a surface crosses and how their dual vertices connect.

Everything follows from the set of inside vertices (sdf < 0). Only edges with one inside end, and the cubes around
them, are ever listed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cupid_core.mesh.flexicubes_tables import EDGE_CORNERS, N_CASES, N_CORNERS, N_EDGES, corner_offset, cube_tables
from cupid_core.mesh.vertex_grid import VertexGrid, lookup, unique_keys


@dataclass(frozen=True, eq=False)
class DualTopology:
    """Surface edges, the cubes around them, and the numbering of dual vertices.

    Attributes:
        grid: the grid.
        vertex_keys: (U,) sorted keys of the ends of all crossed edges.
        ends: (E, 2) int64 into `vertex_keys`, in the order of `EDGE_CORNERS` (along y the higher end comes first).
        first_inside: (E,) bool, whether the first end is the inside one.
        cubes: (E, 4) int64 into `cube_keys`, ascending; -1 where the cube lies outside the grid.
        axis_sizes: number of edges along x, y, z; edges are stored in this order.
        cube_keys: (M,) sorted keys of the cubes around crossed edges.
        cases: (M,) int64 case of each cube, ambiguities resolved.
        first_dual: (M,) int64 number of each cube's first dual vertex.
        n_dual: number of dual vertices.
    """

    grid: VertexGrid
    vertex_keys: Tensor
    ends: Tensor
    first_inside: Tensor
    cubes: Tensor
    axis_sizes: tuple[int, int, int]
    cube_keys: Tensor
    cases: Tensor
    first_dual: Tensor
    n_dual: int

    def around(self, slot: int) -> tuple[int, Tensor, Tensor]:
        """All pairs (crossed edge, cube) in which the edge has one fixed place in the cube.

        Args:
            slot: 0..11, axis * 4 + place of the cube around the edge. Twelve slots cover every pair once.

        Returns:
            The edge's number 0..11 within the cube, rows (P,) of crossed edges, and their cubes (P,).
        """
        axis, place = divmod(slot, 4)
        start = sum(self.axis_sizes[:axis])
        cubes = self.cubes[start : start + self.axis_sizes[axis], place]
        inside_grid = torch.nonzero(cubes >= 0).squeeze(1)
        return _EDGE_AT[slot], inside_grid + start, cubes[inside_grid]

    def dual_vertex(self, cubes: Tensor, edge: int) -> Tensor:
        """Number (P,) of the dual vertex that edge 0..11 of each cube (P,) belongs to."""
        group = torch.as_tensor(cube_tables().edge_group[:, edge], device=cubes.device)
        return self.first_dual[cubes] + group[self.cases[cubes]]


def dual_topology(inside_keys: Tensor, grid: VertexGrid) -> DualTopology:
    """Find crossed edges, surface cubes and their cases.

    Args:
        inside_keys: (I,) sorted keys of the vertices with sdf < 0; every other vertex of the grid is outside.
        grid: the grid.
    """
    edges = [_crossed_edges(inside_keys, grid, axis) for axis in range(3)]
    end_keys = torch.cat([ends for ends, _ in edges])
    around = [_cubes_around(ends, grid, axis) for axis, (ends, _) in enumerate(edges)]
    vertex_keys = unique_keys(end_keys.flatten())
    # One axis at a time: four cubes per edge are the largest thing that is ever sorted here.
    cube_keys = unique_keys(torch.cat([unique_keys(keys[keys >= 0]) for keys in around]))
    cases = _resolve_ambiguities(_cases(cube_keys, inside_keys, grid), cube_keys, grid)
    count = torch.as_tensor(cube_tables().dual_count, device=inside_keys.device)[cases]
    total = torch.cumsum(count, dim=0)
    return DualTopology(
        grid=grid,
        vertex_keys=vertex_keys,
        ends=lookup(vertex_keys, end_keys)[0],
        first_inside=torch.cat([first_inside for _, first_inside in edges]),
        cubes=torch.cat([_index_or_absent(cube_keys, keys) for keys in around]),
        axis_sizes=(len(around[0]), len(around[1]), len(around[2])),
        cube_keys=cube_keys,
        cases=cases,
        first_dual=total - count,
        n_dual=int(total[-1]) if len(total) else 0,
    )


def _index_or_absent(members: Tensor, wanted: Tensor) -> Tensor:
    index, found = lookup(members, wanted)
    return index.masked_fill_(~found, -1)


def _around_offsets(axis: int) -> list[tuple[int, int, int]]:
    """Where an edge lies in each of its four cubes, cubes ascending: offset of its lower end from the cube."""
    offsets = [corner_offset(corner) for corner in range(N_CORNERS)]
    return sorted((offset for offset in offsets if offset[axis] == 0), reverse=True)


def _edge_at(axis: int, place: int) -> int:
    """Number of the cube edge along `axis` whose lower end has the offset of this place."""
    low = _around_offsets(axis)[place]
    for edge, pair in enumerate(EDGE_CORNERS):
        lower, upper = sorted(pair)
        if corner_offset(lower) == low and upper - lower == 1 << axis:
            return edge
    raise AssertionError(f"no cube edge along axis {axis} at {low}")


_EDGE_AT = tuple(_edge_at(*divmod(slot, 4)) for slot in range(N_EDGES))


def _crossed_edges(inside_keys: Tensor, grid: VertexGrid, axis: int) -> tuple[Tensor, Tensor]:
    """End keys (E, 2) of the crossed edges along one axis, in `EDGE_CORNERS` order; whether the first is inside.

    Every crossed edge has exactly one inside end, so looking both ways from the inside vertices finds each once.
    """
    stride = grid.strides[axis]
    coordinate = grid.coordinate(inside_keys, axis)
    upward = (coordinate < grid.resolution) & ~lookup(inside_keys, inside_keys + stride)[1]
    downward = (coordinate > 0) & ~lookup(inside_keys, inside_keys - stride)[1]
    lower = torch.cat([inside_keys[upward], inside_keys[downward] - stride])
    lower_inside = torch.arange(len(lower), device=lower.device) < int(upward.sum())
    lower, order = torch.sort(lower)
    lower_inside = lower_inside[order]
    if _LISTED_FROM_HIGHER[axis]:
        return torch.stack([lower + stride, lower], dim=1), ~lower_inside
    return torch.stack([lower, lower + stride], dim=1), lower_inside


_LISTED_FROM_HIGHER = tuple(any(a - b == 1 << axis for a, b in EDGE_CORNERS) for axis in range(3))


def _cubes_around(ends: Tensor, grid: VertexGrid, axis: int) -> Tensor:
    """Keys (E, 4) of the cubes around edges along one axis, ascending; -1 where there is none."""
    lower = ends.amin(dim=1)
    coords = grid.coords(lower)
    columns = []
    for offset in _around_offsets(axis):
        key = lower - sum(o * stride for o, stride in zip(offset, grid.strides, strict=True))
        exists = torch.ones_like(lower, dtype=torch.bool)
        for other in range(3):
            if other != axis:
                place = coords[:, other] - offset[other]
                exists &= (place >= 0) & (place < grid.resolution)
        columns.append(torch.where(exists, key, -1))
    return torch.stack(columns, dim=1)


def _cases(cube_keys: Tensor, inside_keys: Tensor, grid: VertexGrid) -> Tensor:
    """Case 0..255 (M,) of each cube: bit k is set when corner k is inside."""
    cases = torch.zeros_like(cube_keys)
    for corner in range(N_CORNERS):
        cases |= lookup(inside_keys, cube_keys + grid.corner_shift(corner))[1].long() << corner
    return cases


def _resolve_ambiguities(cases: Tensor, cube_keys: Tensor, grid: VertexGrid) -> Tensor:
    """Turn two problem cases that share their ambiguous face into their complements (M,)."""
    tables = cube_tables()
    problem = torch.as_tensor(tables.is_problem, device=cases.device)[cases]
    rows = torch.nonzero(problem).squeeze(1)
    steps = torch.as_tensor(tables.partner_step, device=cases.device)[cases[rows]]
    partner_coords = grid.coords(cube_keys[rows]) + steps
    within = ((partner_coords >= 0) & (partner_coords < grid.resolution)).all(dim=1)
    partner, found = lookup(cube_keys, grid.key(partner_coords))
    rows = rows[within & found & problem[partner]]
    resolved = cases.clone()
    resolved[rows] = N_CASES - 1 - cases[rows]
    return resolved
