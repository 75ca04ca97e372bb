"""Edges of triangle meshes, and the cut that leaves at most two faces at every edge.

A surface that only touches itself at an edge or in a point is closed but not a manifold; it is cut there so that
every edge has two faces and every vertex one fan of them.

Source: Gueziec et al. 2001, "Cutting and stitching" (the cut); pairs at an edge are chosen by angle so that two
solids that touch come apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_MAX_ROUNDS = 20


@dataclass(frozen=True, eq=False)
class CutSurface:
    """A surface after the cut.

    Attributes:
        faces: (F', 3); an edge where the cut alone does not help is divided, which adds faces.
        source: (V', 2) input vertices whose mean each vertex is; mostly twice the same.
        partner: (3 F',) as `pair_half_edges`.
    """

    faces: Ints
    source: Ints
    partner: Ints

    @property
    def closed(self) -> bool:
        """Every edge belongs to exactly two faces, which agree about the outside."""
        return len(self.faces) > 0 and bool((self.partner >= 0).all())


def is_closed(faces: Ints) -> bool:
    """Every edge belongs to exactly two faces of (F, 3), one in each direction."""
    if not len(faces):
        return False
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    size = int(faces.max()) + 1
    there, back = np.sort(start * size + end), np.sort(end * size + start)
    return bool((there[1:] != there[:-1]).all() and (there == back).all() and (start != end).all())


def connected_labels(count: int, first: Ints, second: Ints) -> Ints:
    """Number the connected components of `count` nodes joined by links (L,), (L,): (count,), from 0."""
    label = np.arange(count)
    while len(first):
        a, b = label[first], label[second]
        apart = a != b
        first, second, a, b = first[apart], second[apart], a[apart], b[apart]
        label[np.maximum(a, b)] = np.minimum(a, b)
        while True:
            jumped = label[label]
            if np.array_equal(jumped, label):
                break
            label = jumped
    return np.unique(label, return_inverse=True)[1].reshape(-1)


def pair_half_edges(vertices: Floats, faces: Ints) -> Ints:
    """The half-edge on the other side of every half-edge.

    Half-edge 3 f + c leads from corner c of face f to the next corner. Where more than two faces meet at an edge,
    neighbors in angle with matter between them are paired.

    Args:
        vertices: (V, 3).
        faces: (F, 3), no vertex twice in a face.

    Returns:
        (3 F,), -1 where there is no other side.
    """
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    key = np.minimum(start, end) * (len(vertices) + 1) + np.maximum(start, end)
    order = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.diff(key[order], prepend=-1))
    count = np.diff(first, append=len(order))
    along = (start < end)[order]
    partner = np.full(len(order), -1)
    two = first[count == 2]
    two = two[along[two] != along[two + 1]]
    partner[order[two]], partner[order[two + 1]] = order[two + 1], order[two]
    if (count > 2).any():
        _pair_crowded(
            vertices, faces, [order[f : f + c] for f, c in zip(first, count, strict=True) if c > 2], partner
        )
    return partner


def _pair_crowded(vertices: Floats, faces: Ints, groups: list[Ints], partner: Ints) -> None:
    """Fill in the partners at edges with more than two faces."""
    half = np.concatenate(groups)
    face, corner = half // 3, half % 3
    start, end, other = (faces[face, (corner + step) % 3] for step in range(3))
    along = start < end
    low, high = vertices[np.minimum(start, end)], vertices[np.maximum(start, end)]
    axis = high - low
    helper = np.eye(3)[np.abs(axis).argmin(axis=1)]
    across = np.cross(axis, helper)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-300)
    third = np.cross(axis / np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-300), across)
    arm = vertices[other] - low
    angle = np.arctan2((arm * third).sum(axis=1), (arm * across).sum(axis=1))
    begin = 0
    for group in groups:
        rows = np.arange(begin, begin + len(group))
        rows = rows[np.argsort(angle[rows], kind="stable")]
        begin += len(group)
        waiting: list[int] = []
        # Matter begins behind a face that runs against the edge and ends at one that runs along it; twice around,
        # because the circle may begin inside matter.
        for row in (*rows, *rows):
            if partner[half[row]] >= 0:
                continue
            if not along[row]:
                if row not in waiting:
                    waiting.append(row)
            elif waiting:
                match = waiting.pop()
                partner[half[row]], partner[half[match]] = half[match], half[row]


def cut_to_manifold(vertices: Floats, faces: Ints) -> CutSurface:
    """Cut a surface wherever it touches itself at an edge or a vertex.

    Args:
        vertices: (V, 3).
        faces: (F, 3), no vertex twice in a face.

    Returns:
        The same triangles, with vertices of their own on both sides of every cut; vertices without faces are gone.
    """
    partner = pair_half_edges(vertices, faces)
    faces, corner_vertex = _separated(faces, partner)
    source = np.stack([corner_vertex, corner_vertex], axis=1)
    for _ in range(_MAX_ROUNDS):
        double = _doubled_edges(faces, partner)
        if not len(double):
            break
        faces, source, partner = _divided(faces, source, partner, double)
    return CutSurface(faces, source, partner)


def _separated(faces: Ints, partner: Ints) -> tuple[Ints, Ints]:
    """Faces with one vertex per fan of corners, and the vertex each of them came from."""
    half = np.flatnonzero(partner >= 0)
    opposite = partner[half]
    label = connected_labels(len(partner), half, opposite - opposite % 3 + (opposite + 1) % 3)
    count = int(label.max()) + 1 if len(label) else 0
    origin = np.empty(count, dtype=np.int64)
    origin[label] = faces.ravel()
    # Kept in the order of the input, so that a manifold passes unchanged.
    order = np.argsort(origin, kind="stable")
    rank = np.empty(count, dtype=np.int64)
    rank[order] = np.arange(count)
    return rank[label].reshape(-1, 3), origin[order]


def _doubled_edges(faces: Ints, partner: Ints) -> Ints:
    """Half-edges, one per pair beyond the first, of edges that several pairs of faces still share."""
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    half = np.flatnonzero((start < end) & (partner >= 0))
    key = start[half] * (int(faces.max(initial=0)) + 1) + end[half]
    order = np.argsort(key, kind="stable")
    again = np.flatnonzero(np.diff(key[order]) == 0) + 1
    return half[order[again]]


def _divided(faces: Ints, source: Ints, partner: Ints, double: Ints) -> tuple[Ints, Ints, Ints]:
    """Divide these edges in the middle as far as no face is touched twice; the caller comes again for the rest."""
    touched: set[int] = set()
    middles: list[tuple[int, int]] = []
    chosen: list[tuple[int, int]] = []
    for half in double.tolist():
        pair = (half, int(partner[half]))
        if touched.isdisjoint(each // 3 for each in pair):
            touched |= {each // 3 for each in pair}
            chosen.append(pair)
            middles.append((source[faces.flat[pair[0]], 0], source[faces.flat[pair[1]], 0]))
    old, extra = len(faces), 2 * len(chosen)
    faces = np.concatenate([faces, np.empty((extra, 3), dtype=np.int64)])
    partner = np.concatenate([partner, np.full(3 * extra, -1)])
    for number, pair in enumerate(chosen):
        middle = len(source) + number
        for side, half in enumerate(pair):
            row, corner = divmod(half, 3)
            ahead, behind = (corner + 1) % 3, (corner + 2) % 3
            new = old + 2 * number + side
            # (a, b, apex) becomes (a, middle, apex) and (middle, b, apex).
            faces[new] = (middle, faces[row, ahead], faces[row, behind])
            faces[row, ahead] = middle
            _join(partner, 3 * new + 1, int(partner[3 * row + ahead]))
            _join(partner, 3 * new + 2, 3 * row + ahead)
        for side, half in enumerate(pair):
            _join(partner, half, 3 * (old + 2 * number + 1 - side))
    return faces, np.concatenate([source, np.array(middles, dtype=np.int64).reshape(-1, 2)]), partner


def _join(partner: Ints, half: int, other: int) -> None:
    partner[half] = other
    if other >= 0:
        partner[other] = half
