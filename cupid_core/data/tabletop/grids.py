"""Truth on voxel grids: signed distance at corners, shell and solid occupancy, colors, projected centers.

Grids are indexed [x, y, z]; voxel i of r has its center at (i + 0.5)/r - 0.5 and corners at i/r - 0.5.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.data.tabletop.program import Program
from cupid_core.data.tabletop.textures import SurfacePoints, Surfaces
from cupid_core.geometry.grid import all_voxel_centers


def centers(resolution: int, device: torch.device | str = "cpu") -> Tensor:
    """Voxel centers (r^3, 3), x slowest."""
    return all_voxel_centers(resolution, device).reshape(-1, 3)


def corners(resolution: int, device: torch.device | str = "cpu") -> Tensor:
    """Voxel corners ((r + 1)^3, 3), x slowest."""
    step = torch.arange(resolution + 1, device=device) / resolution - 0.5
    return torch.stack(torch.meshgrid(step, step, step, indexing="ij"), dim=-1).reshape(-1, 3)


def corner_distances(program: Program, resolution: int) -> Tensor:
    """Signed distance at the corners (G, r + 1, r + 1, r + 1), canonical units."""
    group = program.scale.shape[0]
    points = corners(resolution, program.scale.device).T[:, None].expand(3, group, -1)
    edge = resolution + 1
    return program.distance(points).view(group, edge, edge, edge)


def occupancy(program: Program, sdf: Tensor) -> tuple[Tensor, Tensor]:
    """Shell and solid occupancy (G, r, r, r).

    A voxel belongs to the shell when the surface passes through it: the distances at its corners and center change
    sign, or the ball inscribed in it touches the surface. It is solid when its center is inside or it is shell.

    Args:
        program: G objects.
        sdf: (G, r + 1, r + 1, r + 1) of `corner_distances`.
    """
    resolution = sdf.shape[1] - 1
    low = -F.max_pool3d(-sdf[:, None], 2, 1)[:, 0]
    high = F.max_pool3d(sdf[:, None], 2, 1)[:, 0]
    # Far from the surface the center is on the side of the corners; elsewhere it is evaluated.
    middle = low.flatten(1)
    nearest = torch.minimum(low.abs(), high.abs()).flatten(1)
    order, valid = first_true((nearest < 1.4 / resolution) | ((low <= 0) & (high > 0)).flatten(1))
    found = program.distance(centers(resolution, sdf.device)[order].permute(2, 0, 1))
    middle = middle.scatter(1, order, torch.where(valid, found, middle.gather(1, order))).view_as(low)
    shell = (torch.minimum(low, middle) <= 0) & (torch.maximum(high, middle) > 0)
    shell = shell | (middle.abs() < 0.5 / resolution)
    return shell, shell | (middle < 0)


def first_true(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Columns of the True entries of each row (G, N), padded to the longest row: (G, M), and validity (G, M)."""
    count = int(mask.sum(dim=1).max().clamp(min=1))
    order = torch.argsort(mask.to(torch.int8), dim=1, descending=True, stable=True)[:, :count]
    return order, mask.gather(1, order)


def surface_points(program: Program, shell: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centers of shell voxels moved onto the surface.

    Args:
        program: G objects.
        shell: (G, r, r, r) bool.

    Returns:
        Voxel numbers (G, M) in x-slowest order, their validity (G, M), points and normals (3, G, M).
    """
    order, valid = first_true(shell.flatten(1))
    points = centers(shell.shape[1], shell.device)[order].permute(2, 0, 1)
    distance, normal = program.distance_and_normal(points, 0.25 / shell.shape[1])
    return order, valid, points - normal * distance, normal


def shell_colors(
    program: Program,
    surfaces: Surfaces,
    objects: Tensor,
    found: tuple[Tensor, Tensor, Tensor, Tensor],
    resolution: int,
) -> Tensor:
    """Albedo (G, 3, r, r, r) of the surface point nearest to every shell voxel's center; 0 elsewhere.

    Args:
        program: G objects.
        surfaces: appearance of all objects.
        objects: (G,) rows of `surfaces`.
        found: result of `surface_points`.
        resolution: r.
    """
    order, valid, points, normal = found
    _, slot = program.distance_and_slot(points)
    owner = objects[:, None].expand_as(slot)
    metric = program.metric(points)
    shown = SurfacePoints(points[:, valid], metric[:, valid], normal[:, valid], owner[valid], slot[valid])
    group = len(objects)
    colors = torch.zeros(3, group, resolution**3, device=points.device)
    row = torch.arange(group, device=points.device)[:, None].expand_as(order)
    colors[:, row[valid], order[valid]] = surfaces.albedo(shown)
    return colors.permute(1, 0, 2).reshape(group, 3, resolution, resolution, resolution)


def sample_distance(sdf: Tensor, points: Tensor) -> Tensor:
    """Trilinear distance (V, N) at points (3, V, N) from corner grids (V, 1, r + 1, r + 1, r + 1).

    Outside the cube the distance to the cube is added, as if orthogonal.
    """
    nearest = points.clamp(-0.5, 0.5)
    outside = points - nearest
    away = outside[0] ** 2 + outside[1] ** 2 + outside[2] ** 2
    lattice = torch.stack([nearest[2], nearest[1], nearest[0]], dim=-1) * 2
    sampled = F.grid_sample(
        sdf, lattice[:, :, None, None], mode="bilinear", padding_mode="border", align_corners=True
    )
    found = sampled[:, 0, :, 0, 0]
    return torch.where(away > 0, torch.sqrt(found.clamp(min=0) ** 2 + away), found)
