"""The size of an object: a conservative box from its parts, then the true extent from its distance function."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cupid_core.data.tabletop.program import Program
from cupid_core.data.tabletop.shape import Array, Part, Shape
from cupid_core.data.tabletop.symmetry import SymmetryGroup

# Longest side of every object in the canonical cube.
LONGEST_SIDE = 0.96
CELLS = 18
# Points that climb to the extreme in each of the six directions, and their steps.
CLIMBERS = 16
CLIMBS = 7


def _local_box(part: Part) -> tuple[Array, Array]:
    """Lowest and highest corner of a part in its own frame, before warps."""
    size = part.size
    if part.kind in ("box", "slab", "ellipsoid"):
        high = np.array(size[:3])
    elif part.kind == "cylinder":
        high = np.array([size[0], size[0], size[1]])
    elif part.kind == "cone":
        wide = max(size[0], size[1])
        high = np.array([wide, wide, size[2]])
    elif part.kind == "capsule":
        wide = max(size[0], size[1])
        high = np.array([wide, wide, size[2] + wide])
    elif part.kind == "arc":
        high = np.array([size[0] + size[1], size[0] + size[1], size[1]])
    elif part.kind == "frustum":
        high = np.array([max(size[0], size[2]), max(size[1], size[3]), size[4]])
    else:
        vertices = np.array(part.profile)
        if part.kind == "extrude":
            low2, high2 = vertices.min(axis=0) - size[1], vertices.max(axis=0) + size[1]
            return np.array([*low2, -size[0]]), np.array([*high2, size[0]])
        wide = float(vertices[:, 0].max()) + size[0]
        low_z, high_z = float(vertices[:, 1].min()) - size[0], float(vertices[:, 1].max()) + size[0]
        return np.array([-wide, -wide, low_z]), np.array([wide, wide, high_z])
    return -high, high


def part_box(part: Part) -> tuple[Array, Array]:
    """Lowest and highest corner of a part in the object frame, with folds and warps; never too small."""
    low, high = _local_box(part)
    if part.warp in ("bend", "twist", "taper"):
        wide = float(np.linalg.norm(np.maximum(np.abs(low), np.abs(high)))) * 1.2
        low, high = np.full(3, -wide), np.full(3, wide)
    corners = np.array(
        [[(low, high)[i][0], (low, high)[j][1], (low, high)[k][2]] for i, j, k in np.ndindex(2, 2, 2)]
    )
    corners = corners @ np.asarray(part.turn).reshape(3, 3).T + np.asarray(part.at)
    for axis, name in enumerate("xy"):
        if name in part.mirror:
            flipped = corners.copy()
            flipped[:, axis] *= -1
            corners = np.vstack([corners, flipped])
    if part.repeat > 1:
        wide = float(np.linalg.norm(corners[:, :2], axis=1).max())
        z = corners[:, 2]
        return np.array([-wide, -wide, z.min()]), np.array([wide, wide, z.max()])
    return np.asarray(corners.min(axis=0)), np.asarray(corners.max(axis=0))


def shape_box(shape: Shape) -> tuple[Array, Array]:
    """Lowest and highest corner (3,) of the union of a shape's parts, metres; cuts are ignored."""
    boxes = [part_box(part) for part in shape.parts if part.op == "union"]
    # A smooth joint bulges by at most a quarter of its radius.
    bulge = max((part.blend for part in shape.parts), default=0.0) / 4
    low = np.min([low for low, _ in boxes], axis=0) - bulge
    return low, np.asarray(np.max([high for _, high in boxes], axis=0) + bulge)


def canonical_frame(program: Program, shapes: list[Shape]) -> tuple[Program, Tensor]:
    """Center every object and scale its longest side to `LONGEST_SIDE`.

    On a coarse grid, the points p with the largest p.e - d(p) lie next to the extreme surface points in
    direction e (the ball of radius |d| around p touches the surface). From there, points slide along the surface
    to the extremes.

    Args:
        program: G objects in metric coordinates.
        shapes: the same G objects.

    Returns:
        The program in canonical units, and the half extents (G, 3) of the objects in them.
    """
    device = program.scale.device
    boxes = [shape_box(shape) for shape in shapes]
    low = torch.tensor(np.stack([b[0] for b in boxes], axis=1), dtype=torch.float32, device=device)  # (3, G)
    high = torch.tensor(np.stack([b[1] for b in boxes], axis=1), dtype=torch.float32, device=device)
    step = torch.linspace(0, 1, CELLS, device=device)
    grid = torch.stack(torch.meshgrid(step, step, step, indexing="ij")).reshape(3, 1, -1)
    outer_low, outer_high = low, high
    for _ in range(
        2
    ):  # the box of the parts can be much too wide, so search again inside the extent that was found
        points = low[..., None] + (high - low)[..., None] * grid
        cell = torch.sqrt((((high - low) / (CELLS - 1)) ** 2).sum(dim=0))
        candidates, direction, support = _candidates(program, points, cell)
        low, high = torch.maximum(-support[:3] - cell, outer_low), torch.minimum(support[3:] + cell, outer_high)
    reached = _climb(program, candidates, direction, cell)
    found_low, found_high = -reached[:3], reached[3:]
    found_low, found_high = _symmetric(found_low, found_high, [shape.symmetry for shape in shapes])
    extent = found_high - found_low  # (3, G)
    scale = extent.amax(dim=0) / LONGEST_SIDE
    return program.normalized(scale, (found_high + found_low) / 2), (extent / (2 * scale)).T.contiguous()


def _symmetric(low: Tensor, high: Tensor, groups: list[SymmetryGroup]) -> tuple[Tensor, Tensor]:
    """Put the center exactly on the axes that the objects' symmetry fixes; (3, G) each."""
    fixed = torch.tensor(
        [[group.fold != 1, group.fold != 1 or group.mirror or group.flip, group.flip] for group in groups],
        device=low.device,
    ).T
    wide = torch.maximum(-low, high)
    return torch.where(fixed, -wide, low), torch.where(fixed, wide, high)


def _candidates(program: Program, points: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The `CLIMBERS` most promising of points (3, G, N) for each of -x -y -z +x +y +z.

    Returns:
        (3, G, 6 * CLIMBERS) points, their unit directions (3, 1, 6 * CLIMBERS), and the extent of the
        surface in each direction (6, G) as these points estimate it.
    """
    distance = program.distance(points)
    outside = torch.where(distance.abs() < cell[:, None], 0.0, 1e6)
    support = torch.cat([-points - distance - outside, points - distance - outside])  # (6, G, N)
    best = support.topk(CLIMBERS, dim=2)
    index = best.indices.permute(1, 0, 2).reshape(points.shape[1], -1)
    eye = torch.eye(3, device=points.device)
    direction = torch.cat([-eye, eye]).repeat_interleave(CLIMBERS, dim=0).T[:, None]
    return points.gather(2, index[None].expand(3, -1, -1)), direction, best.values[:, :, 0]


def _climb(program: Program, points: Tensor, direction: Tensor, cell: Tensor) -> Tensor:
    """Slide along the surface as far as possible in each direction; returns the extents (6, G)."""
    group = points.shape[1]
    best = torch.full((6, group), -1e9, device=points.device)
    step = 0.02 * cell[:, None]
    for turn in range(CLIMBS):
        distance, normal = program.distance_and_normal(points, step)
        # Where the distance is a weak lower bound, the surface is further away.
        reached = (points * direction).sum(dim=0) - 3 * distance.abs()
        best = torch.maximum(best, reached.view(group, 6, -1).amax(dim=2).T)
        points = points - normal * distance
        up = (normal * direction).sum(dim=0)
        # The last iterations only project onto the surface.
        stride = 0.6 * 0.55**turn if turn < CLIMBS - 3 else 0.0
        points = points + (direction - normal * up) * (cell[:, None] * stride)
    return best
