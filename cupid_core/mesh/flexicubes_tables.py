"""Dual-marching-cubes tables, generated from the rule.

Corner k of a cube has offset (k & 1, (k >> 1) & 1, (k >> 2) & 1). Bit k of a case is set when corner k is inside
(sdf < 0). The rule: on every face of the cube, the surface joins the crossings of its edges in pairs; on a face
with four crossings it joins the two crossings around each inside corner, so inside corners stay apart. Connected
crossings share one dual vertex. Source: Nielson, "Dual Marching Cubes" (2004); the ambiguity rule of Wenger,
"Isosurfaces" (2013), as FlexiCubes (Shen et al. 2023, supplement 1.3) applies it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

# The order of edges and of their two corners is part of the network's output format: channel e of the edge weights
# belongs to edge e, so it cannot be derived.
EDGE_CORNERS = (
    (0, 1), (1, 5), (4, 5), (0, 4), (2, 3), (3, 7), (6, 7), (2, 6), (2, 0), (3, 1), (7, 5), (6, 4),
)  # fmt: skip
N_CASES = 256
N_EDGES = 12
N_CORNERS = 8

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CubeTables:
    """What a cube looks like in each of its 256 cases.

    Attributes:
        dual_count: (256,) number of dual vertices, 0 to 4.
        edge_group: (256, 12) which of the cube's dual vertices an edge belongs to, -1 where it is not crossed.
        partner_step: (256, 3) step to the cube across the one ambiguous face of a problem case, 0 0 0 for the
        rest.
        is_problem: (256,) bool; two problem cases that share their ambiguous face both turn into case 255 - c.
    """

    dual_count: IntArray
    edge_group: IntArray
    partner_step: IntArray
    is_problem: npt.NDArray[np.bool_]


def corner_offset(corner: int) -> tuple[int, int, int]:
    """Offset (x, y, z), each 0 or 1, of a corner from the cube's lowest corner."""
    return corner & 1, (corner >> 1) & 1, (corner >> 2) & 1


@lru_cache(maxsize=1)
def cube_tables() -> CubeTables:
    """All 256 cases, built on first use."""
    edge_group = np.full((N_CASES, N_EDGES), -1, dtype=np.int64)
    partner_step = np.zeros((N_CASES, 3), dtype=np.int64)
    is_problem = np.zeros(N_CASES, dtype=np.bool_)
    for case in range(N_CASES):
        edge_group[case] = _group_edges(case)
        ambiguous = [face for face in _FACES if len(_crossed(face, case)) == 4]
        if len(ambiguous) == 1 and bin(case).count("1") >= 5:
            is_problem[case] = True
            axis, side = _FACE_NORMALS[_FACES.index(ambiguous[0])]
            partner_step[case, axis] = 1 if side else -1
    return CubeTables(edge_group.max(axis=1) + 1, edge_group, partner_step, is_problem)


def _face_ring(axis: int, side: int) -> tuple[int, ...]:
    """The four corners of a face in cyclic order."""
    first, second = (other for other in range(3) if other != axis)
    ring = ((0, 0), (1, 0), (1, 1), (0, 1))
    return tuple((side << axis) | (a << first) | (b << second) for a, b in ring)


_FACE_NORMALS = tuple((axis, side) for axis in range(3) for side in (0, 1))
_FACES = tuple(_face_ring(axis, side) for axis, side in _FACE_NORMALS)
_EDGE_OF_CORNERS = {frozenset(pair): edge for edge, pair in enumerate(EDGE_CORNERS)}


def _inside(case: int, corner: int) -> bool:
    return bool(case >> corner & 1)


def _crossed(ring: tuple[int, ...], case: int) -> list[int]:
    """Edges of a face whose ends lie on different sides of the surface."""
    sides = [(ring[i], ring[(i + 1) % 4]) for i in range(4)]
    return [
        _EDGE_OF_CORNERS[frozenset(pair)] for pair in sides if _inside(case, pair[0]) != _inside(case, pair[1])
    ]


def _face_links(ring: tuple[int, ...], case: int) -> list[tuple[int, int]]:
    """Pairs of crossed edges that the surface joins through one face."""
    crossed = _crossed(ring, case)
    if len(crossed) == 2:
        return [(crossed[0], crossed[1])]
    links = []
    if len(crossed) == 4:
        for i, corner in enumerate(ring):
            if _inside(case, corner):
                before, after = frozenset((ring[i - 1], corner)), frozenset((corner, ring[(i + 1) % 4]))
                links.append((_EDGE_OF_CORNERS[before], _EDGE_OF_CORNERS[after]))
    return links


def _group_edges(case: int) -> list[int]:
    """Number the connected groups of crossed edges, in the order of their lowest edge; -1 where not crossed."""
    label = {edge: edge for ring in _FACES for edge in _crossed(ring, case)}
    for ring in _FACES:
        for left, right in _face_links(ring, case):
            keep, drop = sorted((label[left], label[right]))
            label = {edge: keep if name == drop else name for edge, name in label.items()}
    names = sorted(set(label.values()))
    return [names.index(label[edge]) if edge in label else -1 for edge in range(N_EDGES)]
