"""The color of surface that a photograph does not show; knows a mesh and the colors of what was seen of it.

Two sources, both shifted to meet the photograph: the difference, known where both are, is continued smoothly over
the rest of the object.

* the colors that the mesh has, with as much of their contrast as predicts the photograph where both are known;
* what is opposite, where a plane through the middle of the object, perpendicular to one of its axes, mirrors both
  its shape and, as far as both sides of it were seen, its colors.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cupid_core.render.raycast import MeshCaster

Floats = npt.NDArray[np.float32]

# Of the continuation, beside 1 for an edge of a flat surface: what holds a vertex to what is known of it, what
# pulls all of them to the mean, the difference of normals at which an edge gets soft, and what is left of it then.
_HOLD, _PULL, _CREASE, _LEAST_STIFFNESS = 10.0, 1e-4, 0.4, 0.02
_ACCURACY, _ITERATIONS = 1e-3, 400
# A vertex is seen well from this weight on.
_WELL = 0.5
# A plane mirrors the shape if 95 percent of the mirrored vertices are this near to the surface, as a share of the
# object's size.
_SHAPE_TOLERANCE = 0.02
# It mirrors the colors if these differ by less, root mean square, and by less of their variance: of a plain object
# there is nothing to mirror. That is over at least this many vertices and this share of all that were seen; nearer
# to the plane than this share of the size, every object is symmetric.
_COLOR_TOLERANCE, _UNEXPLAINED = 0.08, 0.25
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
    own = _as_far_as_it_predicts(own, seen)
    colors = own + continued(caster, seen.colors - own, seen.weight)
    taken = np.zeros(len(own), np.float32)
    for axis in range(3):
        mirrored = _mirrored(caster, axis, seen)
        if mirrored is None:
            continue
        both = np.minimum(mirrored.weight, seen.weight)
        shifted = mirrored.colors + continued(caster, seen.colors - mirrored.colors, both)
        better = np.maximum(mirrored.weight - taken, 0)[:, None]
        colors = colors + better * (shifted - colors)
        taken = np.maximum(taken, mirrored.weight)
    return np.asarray(colors.clip(0, 1), dtype=np.float32)


def _as_far_as_it_predicts(own: Floats, seen: SeenVertices) -> Floats:
    """Colors of the mesh with their contrast times the slope, 0 to 1, of the line from them to the seen ones."""
    weight = np.where(seen.weight >= min(_WELL, float(seen.weight.max())), seen.weight, 0)[:, None]
    mean, seen_mean = ((weight * colors).sum(axis=0) / weight.sum() for colors in (own, seen.colors))
    away = own - mean
    common, spread = (weight * away * (seen.colors - seen_mean)).sum(), (weight * away * away).sum()
    slope = np.clip(common / max(float(spread), 1e-9), 0, 1)
    return np.asarray(mean + slope * away, dtype=np.float32)


def continued(caster: MeshCaster, values: Floats, weight: Floats) -> Floats:
    """Values (V, 3) known at some vertices, smoothly over all of them.

    Along the surface, and hardly across its edges: the inside of a mug says little of its outside, although it is
    near. The least sum of squared differences along the edges of the mesh, by conjugate gradients.

    Args:
        caster: the mesh, with normals.
        values: (V, 3), used as far as they are known.
        weight: (V,) in [0, 1], how well.

    Source: Perez et al., Poisson Image Editing, 2003 (the membrane).
    """
    assert caster.normals is not None
    faces = torch.from_numpy(caster.faces)
    half = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    normals = torch.from_numpy(caster.normals)
    turn = (normals[half[:, 0]] - normals[half[:, 1]]).square().sum(dim=1)
    stiffness = torch.exp(-turn / _CREASE**2).clamp(min=_LEAST_STIFFNESS).repeat(2)
    ends = torch.cat([half, half.flip(1)]).T.contiguous()
    known, target = _HOLD * torch.from_numpy(weight)[:, None], torch.from_numpy(values)
    mean = (known * target).sum(dim=0) / known.sum()
    diagonal = torch.zeros(len(values)).index_add(0, ends[0], stiffness)[:, None] + known + _PULL
    start = torch.where(known > 0, target, mean)
    return np.asarray(_solved(_rows(ends, stiffness, len(values)), diagonal, known * target + _PULL * mean, start))


def _rows(ends: Tensor, values: Tensor, size: int) -> Tensor:
    """A sparse square matrix stored by rows, which is the quick one to multiply with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls the format new
        return torch.sparse_coo_tensor(ends, values, (size, size)).to_sparse_csr()


def _solved(matrix: Tensor, diagonal: Tensor, right: Tensor, start: Tensor) -> Tensor:
    """The solution (V, 3) of (diagonal - matrix) x = right by conjugate gradients, each column for itself."""
    x = start
    residual = right - diagonal * x + matrix @ x
    scaled = residual / diagonal
    direction, product = scaled, (residual * scaled).sum(dim=0)
    limit = _ACCURACY**2 * (right * right / diagonal).sum(dim=0).clamp(min=1e-12)
    for _ in range(_ITERATIONS):
        if bool((product <= limit).all()):
            break
        image = diagonal * direction - matrix @ direction
        step = product / (direction * image).sum(dim=0).clamp(min=1e-20)
        x, residual = x + step * direction, residual - step * image
        scaled = residual / diagonal
        product, before = (residual * scaled).sum(dim=0), product
        direction = scaled + product / before.clamp(min=1e-20) * direction
    return x


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
    off = np.square(colors[pairs] - seen.colors[pairs]).mean()
    if off > min(_COLOR_TOLERANCE**2, _UNEXPLAINED * seen.colors[pairs].var(axis=0).mean()):
        return None
    return SeenVertices(colors.astype(np.float32), weight.astype(np.float32))
