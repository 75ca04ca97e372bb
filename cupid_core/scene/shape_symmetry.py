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
    center, longest = points.mean(axis=0), caster.longest_side()

    def is_unchanged(transform: Floats) -> bool:
        moved = (points - center) @ transform.T + center
        away = caster.closest(moved.astype(np.float32))[0]
        return float(away.mean()) <= TOLERANCE * longest

    fold, best = NO_SYMMETRY, np.full(3, math.nan)
    axes = _candidates(points - center)
    for axis in axes:
        found = _fold_about(axis, is_unchanged)
        # Continuous before every fold, then the highest.
        if (found or math.inf) > (fold or math.inf):
            fold, best = found, axis
    mirrors = [axis for axis in axes if is_unchanged(np.eye(3) - 2 * np.outer(axis, axis))]
    return ShapeSymmetry(fold, best, center, np.array(mirrors).reshape(-1, 3))


def _fold_about(axis: Floats, is_unchanged: Callable[[Floats], bool]) -> int:
    """The highest fold about an axis; 0 where every angle leaves the shape as it is."""
    if all(is_unchanged(_rotation(axis, math.radians(angle))) for angle in _FREE_ANGLES_DEG):
        return CONTINUOUS
    for fold in _FOLDS:
        if is_unchanged(_rotation(axis, 2 * math.pi / fold)):
            return fold
    return NO_SYMMETRY


def _candidates(points: Floats) -> list[Floats]:
    """Canonical axes, z first, and principal axes that are not among them."""
    axes = [np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])]
    for axis in np.linalg.eigh(points.T @ points)[1].T:
        if all(abs(float(axis @ other)) < _SAME_AXIS for other in axes):
            axes.append(axis)
    return axes


def _rotation(axis: Floats, angle: float) -> Floats:
    """(3, 3) rotation by an angle in radians about a unit vector."""
    rotation: Floats = so3.to_matrix(so3.exp(torch.from_numpy(axis * angle))).numpy()
    return rotation
