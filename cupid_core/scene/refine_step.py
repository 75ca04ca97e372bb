"""One round of a refinement: residuals of depth and outline at one place, and the step that lowers them.

A step is (x, y, z, rx, ry, rz, log-scale): translation, rotation and growth about the origin of the object, camera
frame. Knows one rendering and what was seen; must not know what is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cupid_core.config import RefineConfig
from cupid_core.geometry import so3
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.sim3 import Sim3
from cupid_core.render.raycast import Rendering
from cupid_core.render.silhouette import eroded, nearest_of, outline, signed_distance
from cupid_core.scene.agreement import Depths, Mask

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_MAD_SIGMAS = 1.4826
_UNKNOWNS = 7
# Fewer residuals than this say nothing.
_LEAST = 12


@dataclass(frozen=True, eq=False)
class View:
    """A cut-out of the image around one object.

    Attributes:
        camera: of the cut-out, h x w.
        mask: (h, w) visible pixels of the object.
        hidden: (h, w) where others may hide it.
        doubtful: (h, w) where a border of the mask need not be the object's outline.
        depth_m: (h, w) metres, or None.
        border: (h, w) outline of the mask.
    """

    camera: Camera
    mask: Mask
    hidden: Mask
    doubtful: Mask
    depth_m: Depths | None
    border: Mask


@dataclass(frozen=True, eq=False)
class Start:
    """Where a refinement began: the place, which is the prior, and the object's longest side in its unit."""

    place: Sim3
    size: float


@dataclass(frozen=True, eq=False)
class _Residuals:
    """N residuals: values (N,), their derivatives (N, 7) by the step, the smallest deviation to believe."""

    values: Array
    jacobian: Array
    floor: float


def move(place: Sim3, step: Tensor) -> Sim3:
    """A place after a step (7,): turned and grown about the origin of the object, then shifted."""
    turn = so3.exp(step[3:6])
    return Sim3(place.scale * step[6].exp(), so3.multiply(turn, place.quat_xyzw), place.translation + step[:3])


def solve_step(
    rendering: Rendering, place: Sim3, start: Start, view: View, settings: RefineConfig
) -> Tensor | None:
    """The Gauss-Newton step (7,) at one place.

    Args:
        rendering: of the object there, with the camera of the view; normals of triangles.
        place: canonical to camera frame, float64.
        start: prior.
        view: what was seen.
        settings: of the refinement.

    Returns:
        None where neither depth nor outline says anything.
    """
    center = place.translation.numpy()
    of_outline = _outline_residuals(rendering, center, view, settings)
    of_depth = _depth_residuals(rendering, center, view, settings)
    if of_outline is None and of_depth is None:
        return None
    # The image alone cannot tell a large object from a near one.
    normal, gradient = _prior(place, start, settings, free_scale=of_depth is not None)
    for term in (of_outline, of_depth):
        if term is None:
            continue
        weights = _weights(term, settings)
        normal += (term.jacobian * weights[:, None]).T @ term.jacobian
        gradient += term.jacobian.T @ (weights * term.values)
    return torch.from_numpy(-np.linalg.solve(normal, gradient))


def _depth_residuals(rendering: Rendering, center: Array, view: View, settings: RefineConfig) -> _Residuals | None:
    """Distances along the normals from measured points to the rendered surface, at the same pixels."""
    if view.depth_m is None:
        return None
    inner = eroded(view.mask, 1) & eroded(rendering.mask, 1) & np.isfinite(view.depth_m)
    rows, columns = np.nonzero(inner)
    if len(rows) < _LEAST:
        return None
    rays = view.camera.rays().double().numpy()[rows, columns]
    points = rays * rendering.depth[rows, columns, None].astype(np.float64)
    measured = rays * view.depth_m[rows, columns, None].astype(np.float64)
    normals = rendering.normals[rows, columns].astype(np.float64)
    values = ((points - measured) * normals).sum(axis=1)
    jacobian = np.einsum("ni,nij->nj", normals, _motion(points - center))
    # A surface seen at a glance turns errors of a pixel into errors of depth: it counts less.
    facing = np.abs((normals * rays).sum(axis=1)) / np.linalg.norm(rays, axis=1)
    scale = np.sqrt(facing)
    floor = settings.depth_noise * float(np.median(view.depth_m[rows, columns]))
    return _Residuals(values * scale, jacobian * scale[:, None], floor)


def _outline_residuals(
    rendering: Rendering, center: Array, view: View, settings: RefineConfig
) -> _Residuals | None:
    """Distances in the image between the rendered outline and the border of the mask, both ways."""
    if not rendering.mask.any() or not view.border.any():
        return None
    edge = outline(rendering.mask)
    if not edge.any():
        return None
    wanted, rendered = signed_distance(view.mask), signed_distance(rendering.mask)
    # From the rendering to the mask: an outline pixel is half a pixel inside its own silhouette.
    at = np.nonzero(edge & ~view.doubtful & ~_beside(view, edge))
    # From the mask to the rendering: its border pulls the nearest pixel of the rendered outline.
    border = np.nonzero(view.border & ~view.doubtful)
    near = np.unravel_index(nearest_of(edge)[border], edge.shape)
    rows, columns = np.concatenate([at[0], near[0]]), np.concatenate([at[1], near[1]])
    values = np.concatenate([wanted[at] + 0.5, -(rendered[border] + 0.5)]).astype(np.float64)
    slope = np.concatenate([_slope(wanted, *at), _slope(rendered, *border)])
    if len(rows) < _LEAST:
        return None
    jacobian = np.einsum("ni,nij->nj", slope, _image_motion(rendering, view.camera, center, rows, columns))
    return _Residuals(values, jacobian, settings.outline_noise_px)


def _beside(view: View, edge: Mask) -> Mask:
    """Pixels of the rendered outline whose nearest border of the mask is one that must not be believed."""
    doubtful = view.border & view.doubtful
    if not doubtful.any():
        return np.zeros_like(edge)
    return np.asarray(edge & doubtful.ravel()[nearest_of(view.border)])


def _slope(distance: npt.NDArray[np.float32], rows: Indices, columns: Indices) -> Array:
    """Unit direction (N, 2) = (x, y) in which a distance image grows, at pixels."""
    down = np.gradient(distance.astype(np.float64), axis=0)
    right = np.gradient(distance.astype(np.float64), axis=1)
    slope = np.stack([right[rows, columns], down[rows, columns]], axis=1)
    length = np.linalg.norm(slope, axis=1, keepdims=True)
    return np.asarray(slope / np.maximum(length, 1e-6))


def _image_motion(rendering: Rendering, camera: Camera, center: Array, rows: Indices, columns: Indices) -> Array:
    """How pixels (N, 2, 7) of the surface move with the step."""
    K = camera.K.double().numpy()
    rays = camera.rays().double().numpy()[rows, columns]
    depth = rendering.depth[rows, columns].astype(np.float64)
    motion = _motion(rays * depth[:, None] - center)
    across = (motion[:, :2] - rays[:, :2, None] * motion[:, 2:]) / depth[:, None, None]
    return np.asarray(np.stack([K[0, 0] * across[:, 0] + K[0, 1] * across[:, 1], K[1, 1] * across[:, 1]], axis=1))


def _motion(arms: Array) -> Array:
    """How points (N, 3, 7) move with the step, from their arms (N, 3) about the origin of the object."""
    motion = np.zeros((len(arms), 3, _UNKNOWNS))
    motion[:, [0, 1, 2], [0, 1, 2]] = 1.0
    x, y, z = arms.T
    motion[:, 0, 4], motion[:, 0, 5] = z, -y
    motion[:, 1, 3], motion[:, 1, 5] = -z, x
    motion[:, 2, 3], motion[:, 2, 4] = y, -x
    motion[:, :, 6] = arms
    return motion


def _weights(term: _Residuals, settings: RefineConfig) -> Array:
    """Tukey's weights (N,), so scaled that all residuals together count as the wanted number of measurements."""
    spread = _MAD_SIGMAS * float(np.median(np.abs(term.values)))
    sigma = max(spread, term.floor)
    inside = np.clip(1.0 - np.square(term.values / (settings.tukey_cutoff * sigma)), 0.0, None)
    count = min(len(term.values), settings.independent_patches)
    return np.asarray(np.square(inside) * count / (len(term.values) * sigma**2))


def _prior(place: Sim3, start: Start, settings: RefineConfig, *, free_scale: bool) -> tuple[Array, Array]:
    """Normal matrix (7, 7) and gradient (7,) of staying where the refinement began."""
    turn = so3.log(so3.multiply(place.quat_xyzw, so3.conjugate(start.place.quat_xyzw))).numpy()
    shift = (place.translation - start.place.translation).numpy()
    growth = float((place.scale / start.place.scale).log())
    away = np.concatenate([shift, turn, [growth]])
    std = np.concatenate(
        [
            np.full(3, settings.translation_std * start.size),
            np.full(3, settings.rotation_std_rad),
            [settings.scale_std if free_scale else 1e-9],
        ]
    )
    return np.diag(std**-2.0), away / std**2
