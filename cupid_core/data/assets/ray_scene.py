"""Rays and nearest points against the surface of an asset, through open3d (Embree).

All methods take and return numpy arrays in the canonical frame and run on one thread, because objects are
processed in several processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_core.data.assets.surface import AssetSurface, Floats, Integers
from cupid_core.packages import open3d

Flags = NDArray[np.bool_]
# Rays per point of the inside test: one may hit an edge, or pass through a hole of the surface.
_VOTES_CLOSED, _VOTES_OPEN = 3, 11
# No triangle was hit.
_NOTHING = 2**32 - 1


@dataclass(frozen=True, eq=False)
class SurfacePlaces:
    """N points on triangles.

    Attributes:
        face: (N,) int64, -1 where a ray hit nothing.
        barycentric: (N, 3) float32 weights of the corners.
        normal: (N, 3) float32 unit normal of the triangle.
        distance: (N,) float32 from the ray's origin, or from the point to which this is nearest; infinite where
            nothing was hit.
    """

    face: Integers
    barycentric: Floats
    normal: Floats
    distance: Floats


class RayScene:
    """A surface prepared for ray casting and nearest-point queries.

    Args:
        surface: in any frame.

    Raises:
        MissingPackageError: open3d cannot be loaded.
    """

    def __init__(self, surface: AssetSurface) -> None:
        self.surface, self._library = surface, open3d()
        self._scene = self._library.t.geometry.RaycastingScene(nthreads=1)
        vertices = self._tensor(surface.vertices)
        triangles = self._library.core.Tensor(np.ascontiguousarray(surface.faces, dtype=np.uint32))
        self._scene.add_triangles(vertices, triangles)

    def hits(self, origins: Floats, directions: Floats) -> SurfacePlaces:
        """First hits of rays (N, 3), (N, 3) of unit direction."""
        answer = self._scene.cast_rays(self._rays(origins, directions), nthreads=1)
        return self._places(answer, answer["t_hit"].numpy())

    def blocked(self, origins: Floats, directions: Floats) -> Flags:
        """Whether (N,) rays hit anything at all."""
        found: Flags = self._scene.test_occlusions(self._rays(origins, directions), nthreads=1).numpy()
        return found

    def nearest(self, points: Floats) -> SurfacePlaces:
        """Points of the surface nearest to points (N, 3); the distance has no sign."""
        answer = self._scene.compute_closest_points(self._tensor(points), nthreads=1)
        distance = np.linalg.norm(answer["points"].numpy() - points, axis=1)
        return self._places(answer, distance)

    def inside(self, points: Floats) -> Flags:
        """Whether (N,) points (N, 3) are inside, by majority of several rays; a guess for surfaces with holes."""
        votes = _VOTES_CLOSED if self.surface.watertight else _VOTES_OPEN
        answer = self._scene.compute_occupancy(self._tensor(points), nthreads=1, nsamples=votes)
        return np.asarray(answer.numpy() > 0.5)

    def _tensor(self, values: Floats) -> Any:
        return self._library.core.Tensor(np.ascontiguousarray(values, dtype=np.float32))

    def _rays(self, origins: Floats, directions: Floats) -> Any:
        return self._tensor(np.concatenate([np.broadcast_to(origins, directions.shape), directions], axis=1))

    def _places(self, answer: Any, distance: Floats) -> SurfacePlaces:
        number = answer["primitive_ids"].numpy().astype(np.int64)
        number[number == _NOTHING] = -1
        second, third = answer["primitive_uvs"].numpy().T
        return SurfacePlaces(
            face=number,
            barycentric=np.stack([1 - second - third, second, third], axis=1),
            normal=answer["primitive_normals"].numpy(),
            distance=distance.astype(np.float32),
        )
