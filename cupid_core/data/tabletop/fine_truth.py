"""Evaluates generated objects at the corners of the small cubes inside given voxels.

A whole grid of 129^3 corners would cost twenty times as much.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cupid_core.data.corner_truth import CornerTruth, corner_places
from cupid_core.data.tabletop.objects import Objects
from cupid_core.data.tabletop.program import Program
from cupid_core.data.tabletop.textures import SurfacePoints


def corner_truth(objects: Objects, voxels: Tensor, cubes: int = 4) -> CornerTruth:
    """Evaluate objects at the corners of the cubes inside voxels.

    Args:
        objects: O objects, from `build_objects`.
        voxels: (N, 4) int64 (object row, x, y, z) on the grid of the objects.
        cubes: k, cubes per voxel and axis.
    """
    resolution = objects.shell.shape[1]
    corners = corner_places(voxels, resolution, cubes)
    sdf, color, normal = _evaluate(objects, corners.owner, corners.position)
    return CornerTruth(voxels, resolution, cubes, corners.place, corners.position, sdf, color, normal)


def _evaluate(objects: Objects, owner: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance (V,), color (V, 3) and normal (V, 3) at points of objects; `owner` (V,) ascends."""
    sdf, color, normal = (
        torch.zeros_like(owner, dtype=torch.float32),
        torch.zeros_like(position),
        position.clone(),
    )
    count = torch.bincount(owner, minlength=len(objects.shapes))
    start = count.cumsum(0) - count
    for rows, program in objects.programs:
        asked = torch.nonzero(count[rows] > 0)[:, 0]
        if not len(asked):
            continue
        rows = rows[asked]
        longest = torch.arange(int(count[rows].max()), device=owner.device)
        # Padding repeats the object's own first point.
        valid = longest < count[rows][:, None]
        index = start[rows][:, None] + torch.where(valid, longest, 0)
        found = _surface(objects, program.select(asked), rows, position[index].permute(2, 0, 1))
        sdf[index[valid]] = found[0][valid]
        color[index[valid]], normal[index[valid]] = found[1][:, valid].T, found[2][:, valid].T
    return sdf, color, normal


def _surface(objects: Objects, program: Program, rows: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance (G, M) at points (3, G, M), and color and normal (3, G, M) of the surface nearest to them."""
    sdf, normal = program.distance_and_normal(points, 0.25 / objects.shell.shape[1])
    foot = points - normal * sdf
    _, slot = program.distance_and_slot(foot)
    owner = rows[:, None].expand_as(slot)
    flat = [value.flatten(1) for value in (foot, program.metric(foot), normal)]
    albedo = objects.surfaces.albedo(SurfacePoints(flat[0], flat[1], flat[2], owner.flatten(), slot.flatten()))
    return sdf, albedo.view_as(points), normal
