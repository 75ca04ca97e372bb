"""Cartons, pouches, spray bottles. Canonical frames are written at each family.

All lengths in metres.
"""

from __future__ import annotations

from dataclasses import replace

from cupid_core.data.tabletop import labels, palette
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.families.boxes import BOX_RESTS, TWOFOLD, printed, two_fronts
from cupid_core.data.tabletop.shape import (
    Rest,
    Shape,
    about,
    box,
    capsule,
    cone,
    cylinder,
    ellipsoid,
    extrude,
    slab,
)
from cupid_core.data.tabletop.symmetry import SymmetryGroup


def milk_carton(draws: Draws) -> Shape:
    """Gable-top carton. Upright, printed front to +x; the ridge runs along y."""
    high = draws.uniform(0.14, 0.26)
    wide = high * draws.uniform(0.28, 0.42)
    deep = wide if draws.chance(0.4) else wide * draws.uniform(0.6, 0.8)
    wall_high = high * draws.uniform(0.68, 0.8)
    base = draws.choice((palette.gray, palette.bright), (0.5, 0.5))(draws)
    board = printed(palette.cardboard(draws, base), (deep, wide, high), high / 2)
    fin = max(deep * 0.05, high * 0.02)
    ridge = high * 0.93
    outline = [
        (-deep / 2, 0.0),
        (deep / 2, 0.0),
        (deep / 2, wall_high),
        (fin, ridge),
        (-fin, ridge),
        (-deep / 2, wall_high),
    ]
    parts = [
        extrude(outline, wide, turn=about("x", 90), rounding=0.0005),
        box((fin * 2, wide, high - ridge + 0.004), (0, 0, (high + ridge) / 2 - 0.002)),
    ]
    if draws.chance(0.4):
        cap = deep * draws.uniform(0.12, 0.2)
        middle = ((deep / 2 + fin) / 2, 0.0, (wall_high + ridge) / 2)
        slope = (ridge - wall_high, 0.0, deep / 2 - fin)
        start, end = middle, (middle[0] + slope[0] * 0.25, 0.0, middle[2] + slope[2] * 0.25)
        parts.append(capsule(start, end, cap, material=1))
        materials = (board, palette.plastic(draws))
        return Shape(tuple(parts), materials, SymmetryGroup(), BOX_RESTS, labels.package(draws, base))
    same = draws.chance(0.5)
    shape = Shape(tuple(parts), (board, palette.plastic(draws)), TWOFOLD, BOX_RESTS, labels.package(draws, base))
    return two_fronts(draws, shape, same_print=same)


def pouch(draws: Draws) -> Shape:
    """Filled bag of crisps, coffee or soup. Standing, printed front to +x; often lying."""
    high = draws.uniform(0.12, 0.26)
    wide = high * draws.uniform(0.55, 0.85)
    deep = wide * draws.uniform(0.25, 0.6)
    base = draws.choice((palette.bright, palette.gray), (0.75, 0.25))(draws)
    foil = palette.plastic(draws, base, roughness=draws.uniform(0.2, 0.45), reflectance=0.08)
    half = (deep / 2, wide / 2, high / 2)
    foil = replace(foil, mapping="front", map_half=half)
    fin = high * draws.uniform(0.03, 0.07)
    edge = max(high * 0.035, deep * 0.08)
    parts = [
        ellipsoid((deep * 0.5, wide * 0.62, high * 0.58)),
        slab((deep * 2, wide, high), wide * 0.02, op="keep", blend=deep * 0.15),
        box(
            (edge, wide * draws.uniform(0.9, 0.98), fin),
            (0, 0, high / 2 - fin / 2),
            rounding=edge * 0.3,
            blend=edge * 0.8,
        ),
    ]
    if draws.chance(0.6):
        parts.append(
            box((edge, wide * 0.96, fin), (0, 0, -high / 2 + fin / 2), rounding=edge * 0.3, blend=edge * 0.8)
        )
    rests = (Rest(0.45), Rest(0.35, about("y", -90)), Rest(0.2, about("y", 90)))
    tiles = {"front": labels.front(draws, base), "back": labels.back(draws, base)}
    shape = Shape(tuple(parts), (foil,), TWOFOLD, rests, labels.assemble(tiles))
    return two_fronts(draws, shape, same_print=False)


def spray_bottle(draws: Draws) -> Shape:
    """Trigger spray bottle. Upright, nozzle to +x, label on the broad sides."""
    high = draws.uniform(0.18, 0.28)
    wide = high * draws.uniform(0.16, 0.22)
    deep = wide * draws.uniform(0.55, 0.9)
    body = high * draws.uniform(0.55, 0.65)
    neck = wide * 0.3
    paint = printed(palette.plastic(draws, palette.any_color(draws)), (2 * wide, 2 * deep, body), body / 2)
    trim = palette.plastic(draws)
    head = high * 0.1
    parts = (
        slab((2 * wide, 2 * deep, body), deep * 0.9, (0, 0, body / 2), rounding=deep * draws.uniform(0.1, 0.3)),
        cone(wide * 0.8, neck, high * 0.16, (0, 0, body + high * 0.05), blend=wide * 0.3),
        cylinder(neck * 1.2, high * 0.1, (0, 0, body + high * 0.15), material=1),
        box((wide * 2.2, wide * 0.5, head), (wide * 0.4, 0, high - head / 2), rounding=head * 0.25, material=1),
        cylinder(head * 0.3, head * 0.7, (wide * 1.6, 0, high - head * 0.45), turn=about("y", 90), material=2),
        capsule((wide * 0.9, 0, high - head), (wide * 1.25, 0, high - head * 2.4), head * 0.2, material=2),
    )
    sides = {"left": labels.front(draws, palette.bright(draws)), "right": labels.back(draws, palette.gray(draws))}
    rests = (Rest(0.85), Rest(0.15, about("x", 90)))
    return Shape(parts, (paint, trim, palette.plastic(draws)), SymmetryGroup(), rests, labels.assemble(sides))
