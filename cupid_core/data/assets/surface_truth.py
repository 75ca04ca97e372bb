"""Truth at the corners of the cubes inside voxels, from a scanned or modelled surface."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cupid_core.data.assets.ray_scene import RayScene, SurfacePlaces
from cupid_core.data.assets.surface import Floats
from cupid_core.data.corner_truth import CornerTruth, corner_places
from cupid_core.geometry.grid import all_voxel_centers

# Half the thickness given to an open surface, in cube edges: enough that corners lie inside.
_HALF_SHEET = 0.75
# Closer to the surface than this, in cube edges, the side of a triangle does not follow from the position of a
# point.
_TOUCHING = 1e-3


def surface_corner_truth(scene: RayScene, coords: Tensor, resolution: int, cubes: int = 4) -> CornerTruth:
    """Signed distance, color and normal at the corners of the cubes of one object's voxels.

    A closed surface has an inside. For an open one, the inside is decided by the majority of several rays, plus a
    sheet of one and a half cube edges around every triangle, so that open surfaces do not vanish.

    Args:
        scene: surface in the canonical frame.
        coords: (N, 3) integer voxels, near the surface or not.
        resolution: voxels per axis.
        cubes: cubes per voxel and axis.

    Returns:
        Truth with object row 0.
    """
    voxels = torch.cat([torch.zeros_like(coords[:, :1]), coords], dim=1).long()
    corners = corner_places(voxels, resolution, cubes)
    points = corners.position.numpy().astype(np.float32)
    edge = 1 / (resolution * cubes)
    nearest = scene.nearest(points)
    sign = np.where(scene.inside(points), -1.0, 1.0).astype(np.float32)
    signed: Floats = nearest.distance * sign
    if not scene.surface.watertight:
        signed = np.minimum(signed, nearest.distance - _HALF_SHEET * edge)
    color = scene.surface.color_at(nearest.face, nearest.barycentric)
    normal = _outward(scene, nearest, (points, sign), _TOUCHING * edge)
    values = (torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)) for part in (signed, color, normal))
    return CornerTruth(voxels, resolution, cubes, corners.place, corners.position, *values)


def solid_voxels(scene: RayScene, resolution: int) -> Tensor:
    """Voxels (r, r, r) bool whose center is inside."""
    inside = scene.inside(all_voxel_centers(resolution).reshape(-1, 3).numpy())
    return torch.from_numpy(inside).view(resolution, resolution, resolution)


def _outward(scene: RayScene, nearest: SurfacePlaces, signed: tuple[Floats, Floats], touching: float) -> Floats:
    """Unit normals (V, 3) of the triangles nearest to points with a sign, oriented towards the outside."""
    points, sign = signed
    corners = scene.surface.vertices[scene.surface.faces[nearest.face]]
    foot = np.einsum("nc,ncd->nd", nearest.barycentric, corners)
    side = ((points - foot) * nearest.normal).sum(axis=1)
    turned = np.where(np.abs(side) > touching, np.sign(side * sign), 1.0)
    normal: Floats = nearest.normal * turned[:, None]
    return normal
