"""Fewer triangles for the same surface, with its colours. Knows surfaces as arrays, not settings or files.

Quadric decimation through `fast_simplification`, an order of magnitude faster than that of open3d. It may pinch
the surface together at edges; the cut afterwards takes it apart again.
"""

from __future__ import annotations

import threading

import fast_simplification
import numpy as np

from cupid_core.mesh.cleaning import Surface, closed, cut, without_degenerate, without_small
from cupid_core.mesh.edges import Floats, Ints

# The library keeps its mesh in one global place.
_LOCK = threading.Lock()
_TRIES = 3
# Pieces that decimation leaves without any extent worth the name.
_DUST = 1e-6


def decimated(surface: Surface, budget: int, haste: float) -> Surface | None:
    """At most `budget` faces; closed if `surface` is.

    Args:
        surface: a manifold.
        budget: largest number of faces.
        haste: growth of the allowed error from pass to pass, 0 to 10; what does not succeed is tried with less.

    Returns:
        The smaller surface; None where none was found that is closed and within the budget.
    """
    was_closed, target = closed(surface), budget
    for attempt in range(_TRIES):
        made = _simplified(surface, target, haste * 0.7**attempt)
        made = without_degenerate(made)
        if len(made.faces) == 0:
            target = 2 * target
            continue
        made, _ = without_small(cut(made), _DUST)
        if len(made.faces) > budget:
            # The cut adds faces where it has to divide an edge.
            target = max(4, target - 2 * (len(made.faces) - budget))
        elif closed(made) or not was_closed:
            return made
    return None


def _simplified(surface: Surface, target: int, haste: float) -> Surface:
    with _LOCK:
        points, faces, collapses = fast_simplification.simplify(
            surface.vertices, surface.faces.astype(np.int32), target_count=target, agg=haste, return_collapses=True
        )
        if surface.colours is None:
            return _surface(points, faces, None)
        merged = fast_simplification.replay_simplification(
            surface.vertices, surface.faces.astype(np.int32), collapses
        )[2]
    return _surface(
        points, faces, _carried_colours(surface, np.asarray(points), np.asarray(merged, dtype=np.int64))
    )


def _surface(points: Floats, faces: Ints, colours: Floats | None) -> Surface:
    return Surface(np.asarray(points, dtype=np.float64), np.asarray(faces, dtype=np.int64), colours)


def _carried_colours(surface: Surface, points: Floats, merged: Ints) -> Floats:
    """Colours (V', 3): the mean of the vertices that went into each one, of which those close to it count most.

    Args:
        surface: before.
        points: (V', 3) after.
        merged: (V,) which of the points each vertex went into; -1 for what went with a piece that vanished.
    """
    assert surface.colours is not None
    first, second = surface.vertices[surface.faces[:, 0]], surface.vertices[surface.faces[:, 1]]
    reach = float(((first - second) ** 2).sum(axis=1).mean()) + np.finfo(np.float64).tiny
    kept = np.flatnonzero(merged >= 0)
    group = merged[kept]
    far = ((surface.vertices[kept] - points[group]) ** 2).sum(axis=1) / reach
    weight = 1 / (1 + far) ** 2
    total = np.maximum(np.bincount(group, weights=weight, minlength=len(points)), np.finfo(np.float64).tiny)
    sums = [np.bincount(group, weights=weight * surface.colours[kept, k], minlength=len(points)) for k in range(3)]
    return np.stack(sums, axis=1) / total[:, None]
