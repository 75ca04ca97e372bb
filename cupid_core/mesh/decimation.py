"""Mesh decimation: fewer triangles for the same surface, with its colors.

Quadric decimation through `fast_simplification`, an order of magnitude faster than that of open3d. It may pinch
the surface together at edges; the cut afterwards takes it apart again.
"""

from __future__ import annotations

import math
import threading

import fast_simplification
import numpy as np

from cupid_core.mesh.cleaning import (
    Surface,
    closed,
    cut,
    fill_holes,
    remove_degenerate_faces,
    remove_small_components,
)
from cupid_core.mesh.edges import Floats, Ints

# The library keeps its mesh in one global place.
_LOCK = threading.Lock()
_TRIES = 6
# Separate pieces with less area than this share of the largest are numerical residue of decimation.
_MIN_COMPONENT_SHARE = 1e-6


def decimate(surface: Surface, budget: int, aggressiveness: float) -> Surface | None:
    """Reduce a surface to at most `budget` faces; closed if `surface` is.

    Args:
        surface: a manifold.
        budget: largest number of faces.
        aggressiveness: growth of the allowed error from pass to pass, 0 to 10; what fails is tried with less.

    Returns:
        The smaller surface; None where none was found that is closed and within the budget.
    """
    was_closed, target, pace = closed(surface), budget, aggressiveness
    for _ in range(_TRIES):
        made = remove_degenerate_faces(_simplified(surface, target, pace))
        if len(made.faces) == 0:
            target = min(2 * target, len(surface.faces))
            continue
        made, _ = remove_small_components(cut(made), _MIN_COMPONENT_SHARE)
        if was_closed and not closed(made):
            # Sheets that fell onto each other were removed; what they leave open is smaller than a triangle.
            made = fill_holes(made, math.inf)[0]
        if was_closed and not closed(made):
            pace *= 0.7
        elif len(made.faces) <= budget:
            return made
        elif len(made.faces) > 1.5 * budget:
            # At this pace the library gives up before the budget is reached; it goes on from there.
            surface, pace = made, aggressiveness
        else:
            # The cut adds faces where it has to divide an edge.
            target = max(4, target - 3 * (len(made.faces) - budget))
    return None


def _simplified(surface: Surface, target: int, aggressiveness: float) -> Surface:
    with _LOCK:
        points, faces, collapses = fast_simplification.simplify(
            surface.vertices,
            surface.faces.astype(np.int32),
            target_count=target,
            agg=aggressiveness,
            return_collapses=True,
        )
        if surface.colors is None:
            return _surface(points, faces, None)
        merged = fast_simplification.replay_simplification(
            surface.vertices, surface.faces.astype(np.int32), collapses
        )[2]
    return _surface(
        points, faces, _carried_colors(surface, np.asarray(points), np.asarray(merged, dtype=np.int64))
    )


def _surface(points: Floats, faces: Ints, colors: Floats | None) -> Surface:
    return Surface(np.asarray(points, dtype=np.float64), np.asarray(faces, dtype=np.int64), colors)


def _carried_colors(surface: Surface, points: Floats, merged: Ints) -> Floats:
    """Colors (V', 3): the mean of the vertices that went into each one, of which those close to it count most.

    Args:
        surface: before.
        points: (V', 3) after.
        merged: (V,) which of the points each vertex went into; -1 for what went with a piece that vanished.
    """
    assert surface.colors is not None
    first, second = surface.vertices[surface.faces[:, 0]], surface.vertices[surface.faces[:, 1]]
    reach = float(((first - second) ** 2).sum(axis=1).mean()) + np.finfo(np.float64).tiny
    kept = np.flatnonzero(merged >= 0)
    group = merged[kept]
    far = ((surface.vertices[kept] - points[group]) ** 2).sum(axis=1) / reach
    weight = 1 / (1 + far) ** 2
    total = np.maximum(np.bincount(group, weights=weight, minlength=len(points)), np.finfo(np.float64).tiny)
    sums = [np.bincount(group, weights=weight * surface.colors[kept, k], minlength=len(points)) for k in range(3)]
    return np.stack(sums, axis=1) / total[:, None]
