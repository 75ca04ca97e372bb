"""Generated objects and their truth on grids; objects of equal structure are evaluated in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cupid_core.data.tabletop import grids
from cupid_core.data.tabletop.bounds import canonical_frame
from cupid_core.data.tabletop.program import Program
from cupid_core.data.tabletop.shape import Shape
from cupid_core.data.tabletop.textures import Surfaces, smooth_noise


@dataclass(frozen=True)
class Objects:
    """O generated objects with their truth.

    Attributes:
        shapes: their descriptions.
        programs: (rows, program) of those of equal structure.
        surfaces: their appearance.
        half: (O, 3) canonical half extents.
        scale: (O,) metres per canonical unit.
        sdf, shell, solid, color: grids as in `TabletopBatch`.
        surface: (O, N, 3) canonical points all over the surface, padded.
        surface_valid: (O, N) which of them are.
    """

    shapes: list[Shape]
    programs: list[tuple[Tensor, Program]]
    surfaces: Surfaces
    half: Tensor
    scale: Tensor
    sdf: Tensor
    shell: Tensor
    solid: Tensor
    color: Tensor
    surface: Tensor
    surface_valid: Tensor


def build_objects(shapes: list[Shape], resolution: int, device: torch.device | str) -> Objects:
    """Evaluate the truth of many objects, those of equal structure together."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for row, shape in enumerate(shapes):
        groups.setdefault(tuple(part.signature() for part in shape.parts), []).append(row)
    surfaces = build_surfaces(shapes, device)
    count, r = len(shapes), resolution
    half, scale = torch.zeros(count, 3, device=device), torch.zeros(count, device=device)
    sdf = torch.zeros(count, r + 1, r + 1, r + 1, device=device)
    shell = torch.zeros(count, r, r, r, dtype=torch.bool, device=device)
    solid, color = torch.zeros_like(shell), torch.zeros(count, 3, r, r, r, device=device)
    programs, pieces = [], []
    for members in groups.values():
        rows = torch.tensor(members, device=device)
        same = [shapes[m] for m in members]
        program, half[rows] = canonical_frame(Program.build(same, device), same)
        scale[rows] = program.scale[:, 0]
        sdf[rows] = grids.corner_distances(program, r)
        shell[rows], solid[rows] = grids.occupancy(program, sdf[rows])
        found = grids.surface_points(program, shell[rows])
        color[rows] = grids.shell_colors(program, surfaces, rows, found, r)
        programs.append((rows, program))
        pieces.append((rows, found[2].permute(1, 2, 0), found[1]))
    return Objects(shapes, programs, surfaces, half, scale, sdf, shell, solid, color, *padded(pieces, count))


def build_surfaces(shapes: Sequence[Shape], device: torch.device | str) -> Surfaces:
    """Stack materials, sheets and symmetry groups of many objects."""
    widest = max(len(shape.materials) for shape in shapes)
    rows = [[m.row() for m in s.materials] + [s.materials[-1].row()] * (widest - len(s.materials)) for s in shapes]
    sheets = [shape.sheet for shape in shapes if shape.sheet is not None]
    numbers = np.cumsum([shape.sheet is not None for shape in shapes]) - 1
    sheet_of = [int(n) if s.sheet is not None else -1 for n, s in zip(numbers, shapes, strict=True)]
    stacked = np.stack(sheets) if sheets else np.zeros((1, 2, 3, 4), np.uint8)
    return Surfaces(
        torch.tensor(rows, dtype=torch.float32, device=device),
        torch.from_numpy(stacked).to(device),
        torch.tensor(sheet_of, device=device),
        torch.tensor([s.symmetry.as_tuple() for s in shapes], device=device),
        torch.tensor([(s.print_symmetry or s.symmetry).as_tuple() for s in shapes], device=device),
        torch.tensor([s.print_turn for s in shapes], dtype=torch.float32, device=device),
        smooth_noise().to(device),
    )


def padded(pieces: Sequence[tuple[Tensor, Tensor, Tensor]], count: int) -> tuple[Tensor, Tensor]:
    """Put (rows, points (G, N, 3), valid (G, N)) of groups of different N into one (O, N, 3) and (O, N)."""
    widest = max(points.shape[1] for _, points, _ in pieces)
    points = pieces[0][1].new_zeros(count, widest, 3)
    valid = pieces[0][2].new_zeros(count, widest)
    for rows, some, known in pieces:
        points[rows, : some.shape[1]], valid[rows, : some.shape[1]] = some, known
    return points, valid
