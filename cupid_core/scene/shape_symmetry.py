"""The rotations and mirror planes that leave a shape as it is, found from its surface.

A pose is known only up to them: along an axis of continuous symmetry the rotation means nothing, and a grasp
planner may use all equal ones. Colors are not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from cupid_core.geometry import so3
from cupid_core.mesh.surface_points import points_on_surface
from cupid_core.render.raycast import MeshCaster
from cupid_core.types import TriangleMesh

Floats = npt.NDArray[np.float64]

# A shape is unchanged where its surface moves by less than this on average, relative to its longest side;
# reconstructed surfaces are rough by a good half of it.
TOLERANCE = 0.015
NO_SYMMETRY, CONTINUOUS = 1, 0
# Folds whose changes differ by less, relative to the longest side, are equally good.
_ALIKE = 0.004
_POINTS = 256
# Folds that are looked for. The angles have no fold in common: what they all leave as it is turns freely.
_FOLDS = (8, 6, 5, 4, 3, 2)
_FREE_ANGLES_DEG = (23.0, 52.0, 97.0, 141.0)
# Principal axes this close to a canonical axis are that axis.
_SAME_AXIS = math.cos(math.radians(8.0))


@dataclass(frozen=True, eq=False)
class ShapeSymmetry:
    """What leaves a shape as it is, up to `TOLERANCE`.

    Attributes:
        fold: 360/fold degrees about the axis leave it as it is; 1: no rotation does, 0 (`CONTINUOUS`): every one.
        axis: (3,) unit vector of that rotation, frame of the mesh, through `center`; the highest fold is taken
            where there are several axes. NaN where the fold is 1.
        center: (3,) centroid of the surface, which all axes and planes pass through.
        mirror_normals: (M, 3) unit normals of mirror planes among the axes that were tried.
    """

    fold: int
    axis: Floats
    center: Floats
    mirror_normals: Floats

    @property
    def is_continuous(self) -> bool:
        """Whether the shape turns freely about its axis."""
        return self.fold == CONTINUOUS

    @classmethod
    def none(cls) -> ShapeSymmetry:
        """No rotation and no mirror plane."""
        return cls(NO_SYMMETRY, np.full(3, math.nan), np.zeros(3), np.zeros((0, 3)))

    def scaled(self, scale: float) -> ShapeSymmetry:
        """That of the mesh in other units."""
        return replace(self, center=self.center * scale)

    def rotations(self) -> Floats:
        """(M, 3, 3) rotations of the group, the identity first; 5 degrees apart where it is continuous."""
        count = 72 if self.is_continuous else self.fold
        if count == 1:
            return np.eye(3)[None]
        return np.stack([_rotation(self.axis, 2 * math.pi * step / count) for step in range(count)])


def find_symmetry(mesh: TriangleMesh, caster: MeshCaster) -> ShapeSymmetry:
    """The symmetry of a shape about its principal and its canonical axes.

    Args:
        mesh: any frame and unit.
        caster: of the same mesh.

    Raises:
        InputError: the mesh has no area.
    """
    points = points_on_surface(mesh, _POINTS).double().cpu().numpy()
    center, moments = _area_moments(mesh)
    longest = caster.longest_side()

    def change(transform: Floats) -> float:
        """Mean distance by which the surface moves, relative to the longest side."""
        moved = (points - center) @ transform.T + center
        return float(caster.closest(moved.astype(np.float32))[0].mean()) / longest

    fold, best = NO_SYMMETRY, np.full(3, math.nan)
    axes = _candidates(moments)
    for axis in axes:
        found = _fold_about(axis, change)
        # Continuous before every fold, then the highest.
        if (found or math.inf) > (fold or math.inf):
            fold, best = found, axis
    mirrors = [axis for axis in axes if change(np.eye(3) - 2 * np.outer(axis, axis)) <= TOLERANCE]
    return ShapeSymmetry(fold, best, center, np.array(mirrors).reshape(-1, 3))


def _fold_about(axis: Floats, change: Callable[[Floats], float]) -> int:
    """The highest fold about an axis that changes the shape as little as any; 0 where every angle leaves it."""
    if all(change(_rotation(axis, math.radians(angle))) <= TOLERANCE for angle in _FREE_ANGLES_DEG):
        return CONTINUOUS
    changes = {fold: change(_rotation(axis, 2 * math.pi / fold)) for fold in _FOLDS}
    least = min(changes.values())
    if least > TOLERANCE:
        return NO_SYMMETRY
    # A hexagon is nearly unchanged by an eighth of a turn, but less by a sixth.
    return next(fold for fold in _FOLDS if changes[fold] <= min(TOLERANCE, least + _ALIKE))


def _area_moments(mesh: TriangleMesh) -> tuple[Floats, Floats]:
    """Centroid (3,) of the surface, exactly, and its second moments (3, 3) about it."""
    corners = mesh.vertices.detach().double().cpu().numpy()[mesh.faces.cpu().numpy()]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    center: Floats = (area[:, None] * corners.mean(axis=1)).sum(axis=0) / area.sum()
    # The midpoints of the edges, equally weighted, integrate what is quadratic over a triangle.
    middles = (corners + np.roll(corners, 1, axis=1)) / 2 - center
    moments: Floats = np.einsum("f,fki,fkj->ij", area, middles, middles)
    return center, moments


def _candidates(moments: Floats) -> list[Floats]:
    """Canonical axes, z first, and principal axes that are not among them."""
    axes = [np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])]
    for axis in np.linalg.eigh(moments)[1].T:
        if all(abs(float(axis @ other)) < _SAME_AXIS for other in axes):
            axes.append(axis)
    return axes


def _rotation(axis: Floats, angle: float) -> Floats:
    """(3, 3) rotation by an angle in radians about a unit vector."""
    rotation: Floats = so3.to_matrix(so3.exp(torch.from_numpy(axis * angle))).numpy()
    return rotation
