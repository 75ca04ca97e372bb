"""Sphere tracing of many views at once: first cones over blocks of pixels in a grid, then single rays.

Steps never leave the ball of the signed distance, which is free of surface (J. C. Hart, "Sphere tracing", 1996); a
cone of rays may advance as long as the ball around its axis holds the whole cone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cupid_core.data.tabletop.cameras import Views
from cupid_core.data.tabletop.grids import sample_distance
from cupid_core.data.tabletop.program import Program

# Edges of the blocks of pixels that advance as one cone through the grid, large to small, and their steps.
LEVELS = ((16, 10), (4, 5), (1, 3))
# Single rays: steps of each round; those that have hit or left are dropped after every round.
ROUNDS = (3, 3, 3, 4, 4, 5, 6, 8, 10)
# Extra refinement steps of rays that have hit.
POLISH = 3


@dataclass(frozen=True)
class Rays:
    """Rays of V views in the object frame.

    Attributes:
        origin: (3, V, 1) camera center.
        direction: (3, V, N) unit vectors.
        forward: (V, N) share of a unit step that is depth (camera z).
        pixel: (V, 1) size of a pixel at distance 1.
    """

    origin: Tensor
    direction: Tensor
    forward: Tensor
    pixel: Tensor

    def at(self, travel: Tensor) -> Tensor:
        """Points (3, V, N) after `travel` (V, N)."""
        return self.origin + self.direction * travel

    def take(self, index: Tensor) -> Rays:
        """The rays with these numbers (V, M)."""
        picked = self.direction.gather(2, index.expand(3, *index.shape))
        return Rays(self.origin, picked, self.forward.gather(1, index), self.pixel)


@dataclass(frozen=True)
class Hits:
    """Where the rays of V views hit their objects; padded to M per view.

    Attributes:
        index: (V, M) pixel numbers, row-major.
        valid: (V, M) False for padding.
        points: (3, V, M) canonical.
        depth: (V, M) camera z.
        rays: the M rays.
    """

    index: Tensor
    valid: Tensor
    points: Tensor
    depth: Tensor
    rays: Rays


def rays_of(views: Views, width: int, height: int) -> Rays:
    """Rays through all pixel centers of (height, width) images."""
    k, r, t = views.intrinsics, views.rotation, views.translation
    u = (torch.arange(width, device=k.device) + 0.5) / width
    v = (torch.arange(height, device=k.device) + 0.5) / height
    x = (u[None] - k[:, 0, 2:3]) / k[:, 0, 0:1]
    y = (v[None] - k[:, 1, 2:3]) / k[:, 1, 1:2]
    x = x[:, None, :].expand(-1, height, -1).reshape(len(k), -1)
    y = y[:, :, None].expand(-1, -1, width).reshape(len(k), -1)
    forward = 1 / torch.sqrt(x * x + y * y + 1)
    camera = (x * forward, y * forward, forward)
    direction = torch.stack(
        [
            r[:, 0, i : i + 1] * camera[0] + r[:, 1, i : i + 1] * camera[1] + r[:, 2, i : i + 1] * camera[2]
            for i in range(3)
        ]
    )
    origin = -(r * t[:, :, None]).sum(dim=1)
    return Rays(origin.T[..., None], direction, forward, (1 / (k[:, 0, 0] * width))[:, None])


def trace(program: Program, half: Tensor, rays: Rays, grid: Tensor, *, width: int, height: int) -> Hits:
    """Find the first surface point along every ray.

    Args:
        program: V objects, one per view.
        half: (V, 3) half extents of the objects.
        rays: of (height, width) images whose edges are multiples of the largest block.
        grid: (V, 1, r + 1, r + 1, r + 1) distances at voxel corners, which are cheaper to evaluate than the
            program.
        width: pixels.
        height: pixels.
    """
    radius = torch.sqrt((half * half).sum(dim=1))[:, None] * 1.05
    near, far = _sphere(rays, radius)
    index, travel, valid = _cones(rays, near, far, grid, width=width, height=height)
    return _march(program, rays.take(index), index, travel, valid=valid, far=far.gather(1, index))


def _sphere(rays: Rays, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave the object's bounding sphere (V, N); far is 0 where they miss it."""
    o, d = rays.origin, rays.direction
    middle = -(o[0] * d[0] + o[1] * d[1] + o[2] * d[2])
    closest = o[0] ** 2 + o[1] ** 2 + o[2] ** 2 - middle * middle
    half = torch.sqrt((radius * radius - closest).clamp(min=0))
    far = torch.where(closest < radius * radius, middle + half, torch.zeros_like(half))
    return (middle - half).clamp(min=1e-4), far


def _cones(
    rays: Rays, near: Tensor, far: Tensor, grid: Tensor, *, width: int, height: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Advance blocks of pixels together; returns ray numbers, start travels and validity, (V, M) each."""
    group, device = near.shape[0], near.device
    edge = LEVELS[0][0]
    # The error of an interpolated distance is bounded by the distance to the farthest corner.
    doubt = 0.5 * 3**0.5 / (grid.shape[-1] - 1)
    block = torch.arange((width // edge) * (height // edge), device=device)
    corner = (block // (width // edge)) * edge * width + (block % (width // edge)) * edge
    corner = corner[None].expand(group, -1)
    travel = torch.zeros(corner.shape, device=device)
    valid = torch.ones_like(corner, dtype=torch.bool)
    for level, (edge, steps) in enumerate(LEVELS):
        axis, spread, start, stop = _cone(rays, near, far, corner, edge=edge, width=width)
        travel = torch.maximum(travel, start)
        for _ in range(steps):
            free = sample_distance(grid, axis.at(travel)) - doubt - spread * travel
            travel = torch.where(travel < stop, travel + free.clamp(min=0) / (1 + spread), travel)
        alive = valid & (travel < stop)
        count = int(alive.sum(dim=1).max().clamp(min=1))
        order = torch.argsort(alive.to(torch.int8), dim=1, descending=True, stable=True)[:, :count]
        smaller = LEVELS[level + 1][0] if level + 1 < len(LEVELS) else 1
        step = torch.arange(0, edge, smaller, device=device)
        inner = (step[:, None] * width + step[None]).reshape(-1)
        corner = (corner.gather(1, order)[..., None] + inner).reshape(group, -1)
        travel = travel.gather(1, order)[..., None].expand(-1, -1, len(inner)).reshape(group, -1)
        valid = alive.gather(1, order)[..., None].expand(-1, -1, len(inner)).reshape(group, -1)
    return corner, torch.maximum(travel, near.gather(1, corner)), valid & (far.gather(1, corner) > 0)


def _cone(
    rays: Rays, near: Tensor, far: Tensor, corner: Tensor, *, edge: int, width: int
) -> tuple[Rays, Tensor, Tensor, Tensor]:
    """The axes of blocks of pixels, their widest angles, and where they enter and leave, (V, M) each."""
    middle = corner + (edge // 2) * (width + 1)
    axis = rays.take(middle)
    spread, start, stop = torch.zeros_like(axis.forward), near.gather(1, middle), far.gather(1, middle)
    for down, right in ((0, 0), (0, edge - 1), (edge - 1, 0), (edge - 1, edge - 1)):
        index = corner + (down * width + right)
        side = rays.take(index).direction - axis.direction
        spread = torch.maximum(spread, torch.sqrt(side[0] ** 2 + side[1] ** 2 + side[2] ** 2))
        start = torch.minimum(start, near.gather(1, index))
        stop = torch.maximum(stop, far.gather(1, index))
    return axis, spread, start, stop


def _march(program: Program, rays: Rays, index: Tensor, travel: Tensor, *, valid: Tensor, far: Tensor) -> Hits:
    """Trace single rays; those that have hit or left are dropped after every few steps."""
    found = torch.full_like(travel, -1.0)
    place = torch.arange(travel.shape[1], device=travel.device).expand_as(travel)
    alive, active, end, tolerance = valid, rays, far, 0.1 * rays.pixel
    for turn, steps in enumerate(ROUNDS):
        distance = torch.zeros_like(travel)
        for _ in range(steps):
            distance = program.distance(active.at(travel))
            travel = travel + distance
        # Grazing rays advance slowly along the surface; in the end, near enough counts as a hit.
        slack = 8.0 if turn == len(ROUNDS) - 1 else 1.0
        arrived = alive & (distance.abs() < slack * tolerance * travel)
        found = found.scatter(1, place, torch.where(arrived, travel, found.gather(1, place)))
        alive = alive & ~arrived & (travel < end)
        count = int(alive.sum(dim=1).max())
        if count == 0:
            break
        if count < 0.75 * alive.shape[1]:
            order = torch.argsort(alive.to(torch.int8), dim=1, descending=True, stable=True)[:, :count]
            place, travel, end, alive = (a.gather(1, order) for a in (place, travel, end, alive))
            active = active.take(order)
    return _collect(program, rays, index, found)


def _collect(program: Program, rays: Rays, index: Tensor, found: Tensor) -> Hits:
    hit = found > 0
    count = int(hit.sum(dim=1).max().clamp(min=1))
    order = torch.argsort(hit.to(torch.int8), dim=1, descending=True, stable=True)[:, :count]
    kept = rays.take(order)
    travel, valid = found.gather(1, order), hit.gather(1, order)
    best, smallest = travel, torch.full_like(travel, 1e9)
    for _ in range(POLISH):  # grazing rays may miss the surface narrowly, so the nearest point counts
        distance = program.distance(kept.at(travel))
        best = torch.where(distance.abs() < smallest, travel, best)
        smallest = torch.minimum(smallest, distance.abs())
        travel = travel + distance
    travel = best
    return Hits(index.gather(1, order), valid, kept.at(travel), travel * kept.forward, kept)
