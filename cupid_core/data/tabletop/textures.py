"""Albedo of surface points: solid patterns in object coordinates and the printed label sheet over them.

Points are folded into the fundamental domain of the object's symmetry first, so a texture has exactly the symmetry
that is stated for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cupid_core.data.tabletop import material as m
from cupid_core.data.tabletop.primitives import azimuth
from cupid_core.data.tabletop.symmetry import rotations_about_z, to_fundamental_domain

NOISE_CELLS = 32
# Atlas tiles (row, column) of the six faces +x -x +y -y +z -z in a sheet of 2 x 3 tiles; a wrap uses the upper
# row.
TILE_ROW = (0, 0, 0, 1, 1, 1)
TILE_COLUMN = (0, 1, 2, 0, 1, 2)
TOP_FACE = 4


@dataclass(frozen=True)
class SurfacePoints:
    """N surface points of any objects, flat.

    Attributes:
        canonical: (3, N) canonical coordinates.
        metric: (3, N) the family's own coordinates, metres.
        normal: (3, N) unit outward normals.
        owner: (N,) int64 object number, row of `Surfaces`.
        slot: (N,) int64 material row of the object.
    """

    canonical: Tensor
    metric: Tensor
    normal: Tensor
    owner: Tensor
    slot: Tensor


@dataclass(frozen=True)
class Surfaces:
    """Appearance of O objects.

    Attributes:
        materials: (O, M, COLUMNS) rows of `Material.row`, padded.
        sheets: (L, 2T, 3T, 4) uint8 RGBA label atlases.
        sheet_of: (O,) int64 row of `sheets`, -1 without a label.
        groups: (O, 3) int64 symmetry rows (fold, mirror, flip) of the geometry.
        print_groups: the same of the texture, whose groups may be smaller.
        print_turn: (O,) radians about z by which the texture is rotated.
        noise: (NOISE_CELLS,)*3 smooth periodic noise in [-1, 1].
    """

    materials: Tensor
    sheets: Tensor
    sheet_of: Tensor
    groups: Tensor
    print_groups: Tensor
    print_turn: Tensor
    noise: Tensor

    def rows(self, points: SurfacePoints) -> Tensor:
        """Material row (N, COLUMNS) of every point."""
        return self.materials[points.owner, points.slot]

    def albedo(self, points: SurfacePoints) -> Tensor:
        """Unlit color (3, N), sRGB in [0, 1]."""
        rows = self.rows(points)
        back = rotations_about_z(-self.print_turn[points.owner])
        groups = self.print_groups[points.owner]
        canonical, fold = to_fundamental_domain(_rotate(back, points.canonical), groups, with_mirror=True)
        turn = (fold[:, :, None] * back[None]).sum(dim=1)
        normal = _rotate(turn, points.normal)
        color = solid_color(rows, canonical, self.noise)
        sheet = self.sheet_of[points.owner]
        labelled = torch.nonzero((rows[:, m.MAPPING] > 0) & (sheet >= 0))[:, 0]
        if labelled.numel():
            metric = _rotate(turn[:, :, labelled], points.metric[:, labelled])
            ink = self._ink(rows[labelled], metric, normal[:, labelled], sheet[labelled])
            covered = color[:, labelled] * (1 - ink[3]) + ink[:3] * ink[3]
            color = color.index_copy(1, labelled, covered)
        return color.clamp(0, 1)

    def _ink(self, rows: Tensor, metric: Tensor, normal: Tensor, sheet: Tensor) -> Tensor:
        """Label color and opacity (4, N) by the material's mapping."""
        local = (metric - rows[:, m.MAP_CENTER].T) / rows[:, m.MAP_HALF].T
        mapping = rows[:, m.MAPPING].long()
        face = _face(mapping, local, normal)
        x, y, z = local[0], local[1], local[2]
        across = torch.stack([y, -y, -x, x, y, y])
        upward = torch.stack([z, z, z, z, -x, x])
        u = across.gather(0, face[None])[0] * 0.5 + 0.5
        v = 0.5 - upward.gather(0, face[None])[0] * 0.5
        wraps = (mapping == m.MAPPINGS.index("wrap")) & (face < TOP_FACE)
        strip = azimuth(metric[1] - rows[:, 19], metric[0] - rows[:, 18]) / (2 * math.pi) + 0.5
        inside = (u > 0) & (u < 1) & (v > 0) & (v < 1)
        column = u.new_tensor(TILE_COLUMN)[face] + u.clamp(0.005, 0.995)
        column = torch.where(wraps, strip * 3, column) / 3
        row = torch.where(wraps, torch.zeros_like(v), v.new_tensor(TILE_ROW)[face])
        row = (row + v.clamp(0.005, 0.995)) / 2
        ink = _bilinear(self.sheets, sheet, row, column)
        shown = torch.where(wraps, (v > 0) & (v < 1), inside)
        return torch.cat([ink[:3], ink[3:] * shown])


def smooth_noise() -> Tensor:
    """Periodic smooth noise (NOISE_CELLS,)*3 in about [-1, 1], the same on every machine."""
    generator = np.random.Generator(np.random.PCG64(20251020))
    return torch.from_numpy(generator.uniform(-1, 1, size=(NOISE_CELLS,) * 3).astype(np.float32))


def value_noise(noise: Tensor, points: Tensor) -> Tensor:
    """Periodic value noise (N,) at points (3, N) given in lattice cells."""
    base = torch.floor(points)
    t = points - base
    t = t * t * (3 - 2 * t)
    low = base.long() % NOISE_CELLS
    high = (low + 1) % NOISE_CELLS
    flat = noise.reshape(-1)

    def corner(i: Tensor, j: Tensor, k: Tensor) -> Tensor:
        return flat[(i * NOISE_CELLS + j) * NOISE_CELLS + k]

    c00 = corner(low[0], low[1], low[2]) * (1 - t[2]) + corner(low[0], low[1], high[2]) * t[2]
    c01 = corner(low[0], high[1], low[2]) * (1 - t[2]) + corner(low[0], high[1], high[2]) * t[2]
    c10 = corner(high[0], low[1], low[2]) * (1 - t[2]) + corner(high[0], low[1], high[2]) * t[2]
    c11 = corner(high[0], high[1], low[2]) * (1 - t[2]) + corner(high[0], high[1], high[2]) * t[2]
    return (c00 * (1 - t[1]) + c01 * t[1]) * (1 - t[0]) + (c10 * (1 - t[1]) + c11 * t[1]) * t[0]


def _rotate(matrix: Tensor, vector: Tensor) -> Tensor:
    """Apply (3, 3, N) matrices to (3, N) vectors, element by element."""
    return matrix[:, 0] * vector[0] + matrix[:, 1] * vector[1] + matrix[:, 2] * vector[2]


def _face(mapping: Tensor, local: Tensor, normal: Tensor) -> Tensor:
    """Face number 0..5 (+x -x +y -y +z -z) that a point belongs to under its mapping."""
    largest = normal.abs().argmax(dim=0)
    negative = (normal.gather(0, largest[None])[0] < 0).long()
    face = 2 * largest + negative
    face = torch.where(mapping == m.MAPPINGS.index("front"), (local[0] < 0).long(), face)
    return torch.where(mapping == m.MAPPINGS.index("top"), TOP_FACE + (local[2] < 0).long(), face)


def _bilinear(sheets: Tensor, sheet: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Sample (L, H, W, 4) uint8 atlases at rows and columns in [0, 1]; (4, N) in [0, 1]."""
    height, width = sheets.shape[1:3]
    y = (row * height - 0.5).clamp(0, height - 1.001)
    x = (column * width - 0.5).clamp(0, width - 1.001)
    y0, x0 = y.long(), x.long()
    ty, tx = (y - y0)[:, None], (x - x0)[:, None]
    flat = sheets.reshape(-1, 4)
    start = (sheet * height + y0) * width + x0
    upper = flat[start] * (1 - tx) + flat[start + 1] * tx
    lower = flat[start + width] * (1 - tx) + flat[start + width + 1] * tx
    return ((upper * (1 - ty) + lower * ty) / 255.0).T


def solid_color(rows: Tensor, point: Tensor, noise: Tensor) -> Tensor:
    """The material's own pattern (3, N)."""
    kind = rows[:, m.KIND].long()
    frequency, amount, phase = rows[:, m.FREQUENCY], rows[:, m.AMOUNT], rows[:, m.PHASE]
    axis = rows[:, m.DIRECTION]
    along = point[0] * axis[:, 0] + point[1] * axis[:, 1] + point[2] * axis[:, 2]
    wave = along * frequency + phase
    shifted = point + phase * 7.3
    rough = value_noise(noise, shifted * 6.0 + 11.0)
    fine = value_noise(noise, shifted * 31.0)
    mix = torch.zeros_like(wave)
    for number in torch.unique(kind).tolist():
        name = m.PATTERNS[number]
        if name == "plain":
            continue
        chosen = kind == number
        share = _pattern(
            name, (along, wave, axis), point, (frequency, amount, phase), noise=noise, extra=(rough, fine)
        )
        mix = torch.where(chosen, share, mix)
    color = rows[:, m.COLOR_A].T * (1 - mix) + rows[:, m.COLOR_B].T * mix
    return color * (1 + rows[:, m.GRAIN] * (0.6 * rough + 0.6 * fine))


def _pattern(
    name: str,
    waves: tuple[Tensor, Tensor, Tensor],
    point: Tensor,
    numbers: tuple[Tensor, Tensor, Tensor],
    *,
    noise: Tensor,
    extra: tuple[Tensor, Tensor],
) -> Tensor:
    """Share of the second color (N,) in one pattern.

    Args:
        name: one of `PATTERNS`.
        waves: coordinate along the pattern's axis, the same in periods, and the axis (N, 3).
        point: (3, N).
        numbers: frequency, amount, phase.
        noise: lattice of `smooth_noise`.
        extra: rough and fine noise at the points.
    """
    along, wave, axis = waves
    frequency, amount, phase = numbers
    rough, fine = extra
    if name == "gradient":
        return amount * (wave + 0.5).clamp(0, 1)
    if name == "stripes":
        return (((wave % 1.0) - amount) * -40.0).clamp(0, 1)
    if name == "checker":
        cells = torch.floor(point * frequency + phase + 100.0).sum(dim=0)
        return amount * (cells % 2)
    if name == "mottle":
        blotch = value_noise(noise, point * frequency + phase * 5.1)
        return (amount * (0.5 + 0.7 * blotch + 0.3 * rough)).clamp(0, 1)
    if name == "speckle":
        dots = value_noise(noise, point * frequency * 8.0 + phase * 3.7)
        return ((dots - (1 - amount)) * 12.0).clamp(0, 1)
    if name == "rings":
        radius = torch.sqrt(point[0] ** 2 + point[1] ** 2)
        return ((((radius * frequency + phase) % 1.0) - amount) * -40.0).clamp(0, 1)
    # Wood: noise stretched along the grain, in two scales, slightly wavy, plus pores.
    waver = along + 0.03 * rough
    streaks = torch.zeros_like(wave)
    for scale, weight in ((0.5, 0.6), (2.2, 0.5)):
        across = scale * frequency * waver * axis.T
        streaks = streaks + weight * value_noise(noise, 0.1 * frequency * point + across + phase * 9.0)
    return (amount * (0.5 + 0.75 * streaks + 0.12 * fine)).clamp(0, 1)
