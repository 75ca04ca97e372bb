"""Box-like families: packages, books, phones, bricks, soap, sponges. Canonical frames are written at each family.

All lengths in metres.
"""

from __future__ import annotations

import math
from dataclasses import replace

from cupid_core.data.tabletop import labels, palette
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.material import Material
from cupid_core.data.tabletop.shape import Rest, Shape, about, box, cylinder, slab
from cupid_core.data.tabletop.symmetry import SymmetryGroup

# Labelled boxes are sometimes found lying on their back or side; the print still says what is up.
TWOFOLD = SymmetryGroup(fold=2)
BOX_RESTS = (Rest(0.86), Rest(0.08, about("y", -90)), Rest(0.06, about("x", 90)))


def printed(
    material: Material, size: tuple[float, float, float], height: float, mapping: str = "faces"
) -> Material:
    """The same material carrying a label sheet on a box of full edges `size` centered at z = `height`."""
    half = (size[0] / 2, size[1] / 2, size[2] / 2)
    return replace(material, mapping=mapping, map_center=(0.0, 0.0, height), map_half=half)


def two_fronts(draws: Draws, shape: Shape, *, same_print: bool) -> Shape:
    """A twofold body whose print is the same on both sides, or whose front print is on either of them."""
    if same_print:
        return shape
    return replace(shape, print_symmetry=SymmetryGroup(), print_turn=draws.choice((0.0, math.pi)))


def _package(draws: Draws, size: tuple[float, float, float]) -> Shape:
    base = draws.choice((palette.bright, palette.gray), (0.75, 0.25))(draws)
    board = printed(palette.cardboard(draws, base), size, 0.0)
    rounding = draws.uniform(0.0005, 0.004)
    parts = [box(size, rounding=rounding, material=0)]
    # Half of all packages show the same print on front and back, and on both sides.
    same = draws.chance(0.5)
    sheet = labels.package(draws, base)
    return two_fronts(draws, Shape(tuple(parts), (board,), TWOFOLD, BOX_RESTS, sheet), same_print=same)


def cracker_box(draws: Draws) -> Shape:
    """Tall printed carton. Upright as on a shelf, the large front looks to +x, so x is the short edge."""
    height = draws.uniform(0.16, 0.30)
    return _package(draws, (height * draws.uniform(0.18, 0.38), height * draws.uniform(0.58, 0.78), height))


def sugar_box(draws: Draws) -> Shape:
    """Small printed carton or bag-like brick of food. Upright, the wider front looks to +x."""
    height = draws.uniform(0.10, 0.20)
    width = height * draws.uniform(0.45, 0.72)
    return _package(draws, (width * draws.uniform(0.35, 0.78), width, height))


def plain_box(draws: Draws) -> Shape:
    """Unprinted box or block. Upright; the wider side looks to +x, or the footprint is exactly square."""
    width = draws.uniform(0.05, 0.2)
    square = draws.chance(0.35)
    size = (width if square else width * draws.uniform(0.3, 0.8), width, width * draws.uniform(0.35, 1.6))
    make = draws.choice((palette.cardboard, palette.plastic, palette.wood), (0.4, 0.3, 0.3))
    material = palette.patterned(draws, make(draws), about_z=False) if make is not palette.wood else make(draws)
    group = SymmetryGroup(fold=4 if square else 2, mirror=True)
    return Shape((box(size, rounding=draws.uniform(0.0, 0.006)),), (material,), group)


def book(draws: Draws) -> Shape:
    """Book. Lying flat, cover up, spine on -y; its print reads from the +x side."""
    tall = draws.uniform(0.16, 0.28)
    wide, thick = tall * draws.uniform(0.62, 0.78), max(draws.uniform(0.012, 0.05), tall * 0.045)
    cover_color = palette.any_color(draws)
    size = (tall, wide, thick)
    cover = printed(palette.cardboard(draws, cover_color), size, 0.0, "top")
    paper = palette.cardboard(
        draws, (0.93, 0.91, 0.85), pattern="stripes", second=(0.8, 0.78, 0.7), frequency=60.0, amount=0.4
    )
    board = max(0.003, thick * 0.12)
    parts = (
        box((tall - 0.008, wide - 0.006, thick - board), (0, 0, 0), material=1),
        box((tall, wide, board), (0, 0, (thick - board) / 2), material=0),
        box((tall, wide, board), (0, 0, -(thick - board) / 2), material=0),
        box((tall, board, thick), (0, -(wide - board) / 2, 0), material=0),
    )
    front, rear = labels.front(draws, cover_color), labels.back(draws, cover_color)
    sheet = labels.assemble({"top": front, "bottom": rear})
    rests = (Rest(0.85), Rest(0.15, about("y", 90)))
    return Shape(parts, (cover, paper), SymmetryGroup(), rests, sheet)


def phone(draws: Draws) -> Shape:
    """Phone, tablet or remote control. Lying flat, screen up, its upper end at -x."""
    tall = draws.uniform(0.12, 0.24)
    wide, thick = tall * draws.uniform(0.25, 0.7), tall * draws.uniform(0.045, 0.09)
    corner = wide * draws.uniform(0.05, 0.2)
    body = palette.plastic(draws, palette.gray(draws), roughness=draws.uniform(0.1, 0.4))
    screen = palette.plastic(draws, draws.choice(((0.02, 0.02, 0.03), palette.muted(draws))), roughness=0.08)
    border = draws.uniform(0.004, 0.012)
    sheet = None
    if draws.chance(0.5):
        screen = printed(screen, (tall, wide, thick), 0.0, "top")
        sheet = labels.assemble({"top": labels.front(draws, palette.any_color(draws))})
    lens = max(0.004, wide * 0.06)
    parts = (
        slab((tall, wide, thick), corner, rounding=thick * draws.uniform(0.1, 0.45)),
        slab((tall - 2 * border, wide - 2 * border, thick * 0.3), corner, (0, 0, thick * 0.36), material=1),
        cylinder(lens, thick * 0.3, (-tall / 2 + 3 * lens, wide / 2 - 3 * lens, -thick * 0.45), material=1),
        cylinder(lens, thick * 0.3, (tall / 2 - border - lens * 1.3, 0, thick * 0.42), material=0),
    )
    return Shape(parts, (body, screen), SymmetryGroup(), (Rest(1.0),), sheet)


def brick(draws: Draws) -> Shape:
    """Brick with holes through it. Lying on its large side, holes upright, long edge along y."""
    long = draws.uniform(0.07, 0.22)
    size = (long * draws.uniform(0.4, 0.68), long, long * draws.uniform(0.3, 0.7))
    clay = palette.hsv(draws.uniform(0.99, 1.06), draws.uniform(0.45, 0.8), draws.uniform(0.35, 0.7))
    color = draws.choice((clay, palette.any_color(draws)), (0.6, 0.4))
    material = palette.rubber(draws, color, pattern="mottle", second=palette.near(draws, color, 0.1), amount=0.5)
    count = draws.choice((1, 2, 3), (0.15, 0.25, 0.6))
    radius = min(size[0] * draws.uniform(0.1, 0.24), size[1] / (2.6 * count))
    pitch = size[1] / (count + draws.uniform(0.0, 0.6))
    through = draws.chance(0.6)
    depth = size[2] * 1.1 if through else size[2] * draws.uniform(0.3, 0.8)
    lift = 0.0 if through else (size[2] - depth) / 2 + 0.002
    rounding = draws.uniform(0.0, 0.06) * size[0]
    inner = replace(material, color=palette.near(draws, color, 0.12))
    parts = [box(size, rounding=rounding)]
    if count == 2:
        parts.append(cylinder(radius, depth, (0, pitch / 2, lift), mirror="y", op="cut", material=1))
    else:
        parts.append(cylinder(radius, depth, (0, 0, lift), op="cut", material=1))
        if count == 3:
            parts.append(cylinder(radius, depth, (0, pitch, lift), mirror="y", op="cut", material=1))
    rests = (Rest(0.8), Rest(0.2, about("y", 90))) if not through else (Rest(1.0),)
    return Shape(tuple(parts), (material, inner), SymmetryGroup(fold=2, mirror=True), rests)


def toy_brick(draws: Draws) -> Shape:
    """Building brick with studs. Lying on its base, studs up, long edge along y."""
    columns, rows = draws.choice(((1, 2), (1, 3), (1, 4), (2, 2), (2, 3), (2, 4), (2, 6)))
    pitch = draws.choice((0.008, 0.016, 0.032))
    high = pitch * draws.choice((0.4, 1.2), (0.25, 0.75))
    size = (columns * pitch, rows * pitch, high)
    material = palette.plastic(draws, roughness=draws.uniform(0.15, 0.35))
    parts = [box(size, rounding=pitch * 0.03)]
    for i in range((rows + 1) // 2):
        y = (rows - 1) / 2 * pitch - i * pitch
        mirror = ("x" if columns == 2 else "") + ("y" if y > 1e-6 else "")
        at = (pitch / 2 if columns == 2 else 0.0, y, high / 2 + pitch * 0.1)
        parts.append(cylinder(pitch * 0.3, pitch * 0.2, at, rounding=pitch * 0.02, mirror=mirror))
    fold = 4 if columns == rows else 2
    rests = (Rest(0.85), Rest(0.15, about("y", 90)))
    return Shape(tuple(parts), (material,), SymmetryGroup(fold=fold, mirror=True), rests)


def soap(draws: Draws) -> Shape:
    """Bar of soap or eraser. Lying flat, long side along y."""
    long = draws.uniform(0.05, 0.1)
    size = (long * draws.uniform(0.5, 0.75), long, long * draws.uniform(0.2, 0.42))
    material = palette.plastic(draws, palette.any_color(draws), roughness=draws.uniform(0.3, 0.7))
    parts = [slab(size, size[0] * draws.uniform(0.2, 0.5), rounding=size[2] * draws.uniform(0.25, 0.49))]
    if draws.chance(0.5):
        mark = (size[0] * 0.6, size[1] * 0.6, size[2] * 0.2)
        parts.append(slab(mark, size[0] * 0.3, (0, 0, size[2] * 0.48), op="cut", blend=size[2] * 0.1))
    return Shape(tuple(parts), (material,), SymmetryGroup(fold=2, mirror=True))


def sponge(draws: Draws) -> Shape:
    """Kitchen sponge: foam with a scouring layer on top. Lying flat, long side along y."""
    long = draws.uniform(0.08, 0.13)
    size = (long * draws.uniform(0.55, 0.75), long, long * draws.uniform(0.22, 0.4))
    foam_color = palette.bright(draws)
    foam = palette.rubber(draws, foam_color, pattern="speckle", amount=0.35, frequency=3.0)
    foam = replace(foam, second=(foam_color[0] * 0.6, foam_color[1] * 0.6, foam_color[2] * 0.6))
    pad = palette.rubber(draws, palette.any_color(draws), grain=0.25)
    layer = size[2] * draws.uniform(0.15, 0.35)
    corner = size[0] * draws.uniform(0.02, 0.2)
    parts = (
        slab(size, corner, rounding=0.002),
        slab(
            (size[0], size[1], layer), corner, (0, 0, (size[2] - layer) / 2 + 0.0005), rounding=0.001, material=1
        ),
    )
    return Shape(parts, (foam, pad), SymmetryGroup(fold=2, mirror=True))
