"""The color of surface that a photograph does not show; knows a mesh and the colors of what was seen of it.

Two sources, both shifted to meet the photograph: the difference, known where both are, is continued smoothly over
the rest of the object.

* the colors that the mesh has;
* what is opposite, where a plane through the middle of the object, perpendicular to one of its axes, mirrors both
  its shape and, as far as both sides of it were seen, its colors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cupid_core.render.raycast import MeshCaster

Floats = npt.NDArray[np.float32]

# Distance within which a shift follows what was seen nearby, as a share of the object's size.
_REACH = 0.05
# Seen vertices that shifts are computed from, and vertices they are computed for at once.
_ANCHORS = 500
_CHUNK = 4096
# A vertex is seen well from this weight on.
_WELL = 0.5
# A plane mirrors the shape if 95 percent of the mirrored vertices are this near to the surface, as a share of the
# object's size.
_SHAPE_TOLERANCE = 0.02
# It mirrors the colors if these differ by less, root mean square, over at least this many vertices and this share
# of all that were seen; nearer to the plane than this share of the size, every object is symmetric.
_COLOR_TOLERANCE = 0.08
_LEAST_PAIRS, _LEAST_SHARE = 50, 0.1
_BESIDE_PLANE = 0.05


@dataclass(frozen=True, eq=False)
class SeenVertices:
    """What a photograph says of the vertices of a mesh.

    Attributes:
        colors: (V, 3) sRGB in [0, 1]; anything where the weight is 0.
        weight: (V,) in [0, 1], how well a vertex was seen.
    """

    colors: Floats
    weight: Floats


def hidden_colors(caster: MeshCaster, own: Floats, seen: SeenVertices) -> Floats:
    """Colors (V, 3) in [0, 1] for every vertex as if it had not been seen.

    Args:
        caster: the mesh.
        own: (V, 3) the colors that it has.
        seen: at least one vertex of it seen well.
    """
    points = caster.vertices / max(caster.longest_side(), 1e-12)
    colors = own + continued(points, seen.colors - own, seen.weight)
    taken = np.zeros(len(own), np.float32)
    for axis in range(3):
        mirrored = _mirrored(caster, axis, seen)
        if mirrored is None:
            continue
        both = np.minimum(mirrored.weight, seen.weight)
        shifted = mirrored.colors + continued(points, seen.colors - mirrored.colors, both)
        better = np.maximum(mirrored.weight - taken, 0)[:, None]
        colors = colors + better * (shifted - colors)
        taken = np.maximum(taken, mirrored.weight)
    return np.asarray(colors.clip(0, 1), dtype=np.float32)


def continued(points: Floats, values: Floats, weight: Floats) -> Floats:
    """Values (V, 3) known at some vertices, smoothly over all of them: means weighted by inverse distance.

    Args:
        points: (V, 3) in units of the object's size.
        values: (V, 3), used where they are known well.
        weight: (V,) how well.
    """
    known = np.flatnonzero(weight >= min(_WELL, float(weight.max())))
    anchors = known[:: -(-len(known) // _ANCHORS)]
    at, value = points[anchors], values[anchors] * weight[anchors, None]
    result = np.empty_like(values)
    for start in range(0, len(points), _CHUNK):
        some = slice(start, start + _CHUNK)
        squared = (
            np.square(points[some]).sum(axis=1)[:, None] + np.square(at).sum(axis=1) - 2 * points[some] @ at.T
        )
        share = 1 / np.square(np.maximum(squared, 0) + _REACH**2)
        result[some] = share @ value / (share @ weight[anchors])[:, None]
    return result


def _mirrored(caster: MeshCaster, axis: int, seen: SeenVertices) -> SeenVertices | None:
    """What was seen opposite of every vertex across the middle of an axis; None where that is no mirror."""
    size = caster.longest_side()
    middle = (caster.vertices[:, axis].max() + caster.vertices[:, axis].min()) / 2
    mirrored = caster.vertices.copy()
    mirrored[:, axis] = 2 * middle - mirrored[:, axis]
    away, corners, shares = caster.closest(mirrored)
    if np.percentile(away, 95) > _SHAPE_TOLERANCE * size:
        return None
    weight = (seen.weight[corners] * shares).sum(axis=1) * (away <= 2 * _SHAPE_TOLERANCE * size)
    # Unseen corners have no color; what is left of a triangle counts by its weight.
    share = seen.weight[corners] * shares
    colors = (seen.colors[corners] * share[..., None]).sum(axis=1) / np.maximum(share.sum(axis=1), 1e-6)[:, None]
    well = (seen.weight > _WELL) & (weight > _WELL)
    pairs = well & (np.abs(caster.vertices[:, axis] - middle) > _BESIDE_PLANE * size)
    if pairs.sum() < max(_LEAST_PAIRS, _LEAST_SHARE * (seen.weight > _WELL).sum()):
        return None
    if np.sqrt(np.square(colors[pairs] - seen.colors[pairs]).mean()) > _COLOR_TOLERANCE:
        return None
    return SeenVertices(colors.astype(np.float32), weight.astype(np.float32))
