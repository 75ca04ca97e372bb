"""Exact truth of the surface of a generated object: points, colors, gloss."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cupid_core.data.tabletop import grids
from cupid_core.data.tabletop.cameras import build_views, draw_view
from cupid_core.data.tabletop.draws import VIEW_STREAM, Draws
from cupid_core.data.tabletop.material import METALLIC, REFLECTANCE
from cupid_core.data.tabletop.objects import Objects
from cupid_core.data.tabletop.program import Program
from cupid_core.data.tabletop.settings import TabletopSettings
from cupid_core.data.tabletop.textures import SurfacePoints

# Number of surface points for comparisons of shapes.
SURFACE_POINTS = 8192
# Projection steps onto the surface, and the largest remaining distance, canonical units.
_STEPS = 3
_ON_SURFACE = 1e-3
_NORMAL_STEP = 0.004


def surface_points(program: Program, shell: Tensor, seed: int, count: int = SURFACE_POINTS) -> Tensor:
    """Points (at most `count`, 3) all over the surface of one object, canonical; nearly even.

    Random points of the voxels that the surface passes through, moved onto it.

    Args:
        program: of one object.
        shell: (r, r, r) bool, its voxels that the surface passes through.
        seed: of the random points.
        count: number of points; thin objects may give fewer.
    """
    resolution = shell.shape[0]
    centers = grids.centers(resolution)[shell.flatten()]
    generator = torch.Generator().manual_seed(seed)
    tries = math.ceil(1.5 * count / max(len(centers), 1))
    points = centers.repeat(tries, 1)
    points = (points + (torch.rand(points.shape, generator=generator) - 0.5) / resolution).T[:, None]
    for _ in range(_STEPS):
        distance, normal = program.distance_and_normal(points, _NORMAL_STEP)
        points = points - normal * distance
    near = program.distance(points)[0].abs() < _ON_SURFACE
    found = points[:, 0, near].T
    return found[torch.randperm(len(found), generator=generator)[:count]]


def surface_appearance(objects: Objects, points: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    """Unlit color (N, 3), sRGB in [0, 1], and gloss (N,), 0 matt to 1 mirror, of points of one object.

    Args:
        objects: one object.
        points: (N, 3) on its surface, canonical.
        normals: (N, 3) outward, object frame.
    """
    (_, program) = objects.programs[0]
    inside = points.T[:, None]
    _, slot = program.distance_and_slot(inside)
    owner = torch.zeros_like(slot[0])
    shown = SurfacePoints(inside[:, 0], program.metric(inside)[:, 0], normals.T, owner, slot[0])
    reflectance, roughness, metallic = objects.surfaces.rows(shown)[:, REFLECTANCE : METALLIC + 1].unbind(1)
    # The same rule by which whole scenes decide where a depth camera measures nothing.
    shine = metallic * (1 - roughness) + 0.6 * (roughness < 0.2).float()
    return objects.surfaces.albedo(shown).T, shine.to(reflectance)


def other_view(objects: Objects, seed: int, index: int, settings: TabletopSettings) -> Tensor:
    """T_camera_object (4, 4) of another random view of one object, as the generator samples them."""
    drawn = draw_view(Draws(VIEW_STREAM, seed, index, 1), objects.shapes[0].rests, settings)
    views = build_views([drawn], objects.surfaces.groups, objects.surface, objects.surface_valid)
    return views.matrix()[0]
