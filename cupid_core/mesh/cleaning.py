"""Steps that turn any triangles into closed, outward, connected pieces: weld, orient, cut, drop, fill.

Each step takes and returns a `Surface` of arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh
from numpy.typing import NDArray

from cupid_core.mesh.edges import Floats, Ints, connected_labels, cut_to_manifold, is_closed, pair_half_edges

# Vertices of a piece that are tested for lying inside another one.
_PROBES = 7
# Share of the way to its neighbors by which a vertex at a cut moves.
_RETREAT = 0.02


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles as arrays: vertices (V, 3), faces (F, 3), colors (V, 3) or None."""

    vertices: Floats
    faces: Ints
    colors: Floats | None

    def rows(self, mean_of: Ints, faces: Ints) -> Surface:
        """New vertices, each the mean of the old ones in a row of (V', k), with new faces."""
        colors = None if self.colors is None else self.colors[mean_of].mean(axis=1)
        return Surface(self.vertices[mean_of].mean(axis=1), faces, colors)

    def of_faces(self, chosen: NDArray[np.bool_]) -> Surface:
        """Only these faces, and the vertices they use."""
        kept, faces = np.unique(self.faces[chosen], return_inverse=True)
        return self.rows(kept[:, None], faces.reshape(-1, 3))


def area_vectors(surface: Surface) -> Floats:
    """Cross products (F, 3), twice the area of each face long."""
    first, second, third = (surface.vertices[surface.faces[:, corner]] for corner in range(3))
    return np.cross(second - first, third - first)


def weld_vertices(surface: Surface) -> Surface:
    """Merge vertices at exactly the same position."""
    _, first, inverse = np.unique(surface.vertices, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return surface.rows(first[order][:, None], rank[inverse.reshape(-1)][surface.faces])


def remove_degenerate_faces(surface: Surface) -> Surface:
    """Remove faces that name a vertex twice, repeated faces, and pairs that are each other's back."""
    faces = surface.faces
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    turned = np.take_along_axis(faces, (faces.argmin(axis=1)[:, None] + np.arange(3)) % 3, axis=1)
    front = turned[:, 1] < turned[:, 2]
    size = len(surface.vertices) + 1
    key = (turned[:, 0] * size + np.minimum(turned[:, 1], turned[:, 2])) * size + np.maximum(
        turned[:, 1], turned[:, 2]
    )
    _, first, group, count = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    keep = np.zeros(len(faces), dtype=bool)
    keep[first[count == 1]] = True
    for index in np.flatnonzero(count > 1):
        members = np.flatnonzero(group.reshape(-1) == index)
        surplus = int(front[members].sum()) * 2 - len(members)
        if surplus:  # the side that is in the majority stays, once
            keep[members[front[members] == (surplus > 0)][0]] = True
    return Surface(surface.vertices, faces[keep], surface.colors)


def orient_consistently(surface: Surface) -> Surface:
    """Turn faces so that neighbors agree about the outside, where the surface has one."""
    mesh = trimesh.Trimesh(surface.vertices, surface.faces, process=False, validate=False)
    trimesh.repair.fix_winding(mesh)  # type: ignore[no-untyped-call]
    return Surface(surface.vertices, np.asarray(mesh.faces, dtype=np.int64), surface.colors)


def cut(surface: Surface) -> Surface:
    """At most two faces at an edge and one fan at a vertex (`edges.cut_to_manifold`)."""
    result = cut_to_manifold(surface.vertices, surface.faces)
    made = surface.rows(result.source, result.faces)
    _, group, count = np.unique(result.source, axis=0, return_inverse=True, return_counts=True)
    twins = np.flatnonzero(count[group.reshape(-1)] > 1)
    if len(twins):
        # Programs that weld what lies at one place would undo the cut, so both sides retreat a little.
        made.vertices[twins] += _RETREAT * (_neighbor_means(made.vertices, made.faces) - made.vertices)[twins]
    return made


def face_components(surface: Surface) -> Ints:
    """Number of the connected piece of every face."""
    count = len(surface.vertices)
    faces = surface.faces
    label = connected_labels(
        count, np.concatenate([faces[:, 0], faces[:, 1]]), np.concatenate([faces[:, 1], faces[:, 2]])
    )
    return np.unique(label[faces[:, 0]], return_inverse=True)[1].reshape(-1)


def remove_small_components(surface: Surface, share: float) -> tuple[Surface, int]:
    """Remove the pieces that have less area than this share of the largest; also returns their number."""
    piece = face_components(surface)
    area = np.bincount(piece, weights=np.linalg.norm(area_vectors(surface), axis=1))
    keep = (area >= share * area.max()) & (area > 0)
    return (surface, 0) if keep.all() else (surface.of_faces(keep[piece]), int((~keep).sum()))


def orient_outward(surface: Surface) -> tuple[Surface, int]:
    """Every closed piece with its normals outward, and without the pieces enclosed in a larger one.

    Returns:
        The surface, and the number of enclosed pieces: walls of invisible cavities, solids inside solids.
    """
    piece = face_components(surface)
    corners = surface.vertices[surface.faces]
    volume = np.bincount(piece, weights=np.linalg.det(corners) / 6)
    # The volume of an open piece depends on the origin, and is only a guess at its orientation.
    faces = np.where((volume < 0)[piece][:, None], surface.faces[:, ::-1], surface.faces)
    turned = Surface(surface.vertices, faces, surface.colors)
    order = np.argsort(-np.abs(volume), kind="stable")
    enclosed = np.zeros(len(volume), dtype=bool)
    low, high = np.full((len(volume), 3), np.inf), np.full((len(volume), 3), -np.inf)
    np.minimum.at(low, piece, corners.min(axis=1))
    np.maximum.at(high, piece, corners.max(axis=1))
    for place, small in enumerate(order):
        used = np.unique(surface.faces[piece == small])
        probes = surface.vertices[used[np.linspace(0, len(used) - 1, min(_PROBES, len(used))).astype(np.int64)]]
        larger = order[:place][~enclosed[order[:place]]]
        boxed = ((probes[:, None] > low[larger]) & (probes[:, None] < high[larger])).all(axis=2).mean(axis=0) > 0.5
        enclosed[small] = any(_mostly_inside(probes, corners[piece == large]) for large in larger[boxed])
    return (turned.of_faces(~enclosed[piece]) if enclosed.any() else turned), int(enclosed.sum())


def _mostly_inside(points: Floats, triangles: Floats) -> bool:
    """Most of these points have the closed surface around them (by solid angle)."""
    inside = 0
    for point in points:
        a, b, c = (triangles[:, corner] - point for corner in range(3))
        la, lb, lc = (np.linalg.norm(arm, axis=1) for arm in (a, b, c))
        below = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
        angle = 2 * np.arctan2((a * np.cross(b, c)).sum(1), below)
        inside += int(abs(angle.sum()) > 2 * np.pi)
    return inside > len(points) / 2


def fill_holes(surface: Surface, longest: float) -> tuple[Surface, int, int]:
    """Close holes by a fan around the middle of their border.

    Args:
        surface: cut, see `cut`.
        longest: perimeter up to which a hole is closed.

    Returns:
        The surface, the number of holes closed, and of those left open.
    """
    partner = pair_half_edges(surface.vertices, surface.faces)
    border = np.flatnonzero(partner < 0)
    if not len(border):
        return surface, 0, 0
    start, end = surface.faces.ravel()[border], np.roll(surface.faces, -1, axis=1).ravel()[border]
    following = dict(zip(start.tolist(), end.tolist(), strict=True))
    vertices, faces, colors = [surface.vertices], [surface.faces], [surface.colors]
    filled = left = 0
    while following:
        first = next(iter(following))
        loop = [first]
        while (step := following.pop(loop[-1])) != first:
            loop.append(step)
        ring = np.array(loop)
        ends = np.roll(ring, -1)
        if np.linalg.norm(surface.vertices[ends] - surface.vertices[ring], axis=1).sum() > longest:
            left += 1
            continue
        filled += 1
        middle = len(surface.vertices) + len(vertices) - 1
        faces.append(np.stack([ends, ring, np.full_like(ring, middle)], axis=1))
        vertices.append(surface.vertices[ring].mean(axis=0, keepdims=True))
        colors.append(None if surface.colors is None else surface.colors[ring].mean(axis=0, keepdims=True))
    joined = None if surface.colors is None else np.concatenate([part for part in colors if part is not None])
    return Surface(np.concatenate(vertices), np.concatenate(faces), joined), filled, left


def smooth(surface: Surface, rounds: int) -> Surface:
    """Taubin smoothing: a shrinking and a swelling step each round, so that the volume stays.

    Source: Taubin 1995, "A signal processing approach to fair surface design"; lambda 0.5, mu -0.53.
    """
    vertices = surface.vertices
    for factor in (0.5, -0.53) * rounds:
        vertices = vertices + factor * (_neighbor_means(vertices, surface.faces) - vertices)
    return Surface(vertices, surface.faces, surface.colors)


def _neighbor_means(vertices: Floats, faces: Ints) -> Floats:
    """Mean (V, 3) of the vertices that an edge leads to; of a manifold without border, every neighbor once."""
    first, second = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    degree = np.maximum(np.bincount(first, minlength=len(vertices)), 1)
    sums = [np.bincount(first, weights=vertices[second, axis], minlength=len(vertices)) for axis in range(3)]
    return np.stack(sums, axis=1) / degree[:, None]


def closed(surface: Surface) -> bool:
    """Every edge has two faces that agree about the outside."""
    return is_closed(surface.faces)
