"""Shoes, stools, rolls, bulbs, computer mice, dumbbells. Canonical frames are written at each family.

All lengths in metres.
"""

from __future__ import annotations

from cupid_core.data.tabletop import palette
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.shape import (
    ALONG_Y,
    Rest,
    Shape,
    about,
    box,
    cone,
    cylinder,
    ellipsoid,
    extrude,
    slab,
    smooth,
)
from cupid_core.data.tabletop.symmetry import CONTINUOUS, SymmetryGroup

ROUND = SymmetryGroup(fold=CONTINUOUS, mirror=True)
MIRROR = SymmetryGroup(mirror=True)
LYING = (Rest(0.85, about("y", 90)), Rest(0.15))


def shoe(draws: Draws) -> Shape:
    """Shoe, slipper or clog. On its sole, toe to +x."""
    length = draws.uniform(0.14, 0.3)
    wide = length * draws.uniform(0.32, 0.4)
    ankle = length * draws.uniform(0.28, 0.5)
    toe = length * draws.uniform(0.14, 0.22)
    sole_high = length * draws.uniform(0.06, 0.12)
    side = smooth(
        [
            (-length * 0.48, 0.0), (length * 0.46, 0.0), (length * 0.49, toe * 0.5), (length * 0.36, toe * 1.05),
            (length * 0.02, ankle * 0.72), (-length * 0.12, ankle), (-length * 0.46, ankle),
            (-length * 0.5, ankle * 0.4),
        ],
        14,
        closed=True,
    )  # fmt: skip
    print_ = smooth(
        [
            (-length * 0.5, 0.0), (-length * 0.4, -wide * 0.33), (0.0, -wide * 0.36), (length * 0.25, -wide * 0.5),
            (length * 0.46, -wide * 0.28), (length * 0.5, 0.0), (length * 0.46, wide * 0.28),
            (length * 0.25, wide * 0.5),
            (0.0, wide * 0.36), (-length * 0.4, wide * 0.33),
        ],
        16,
        closed=True,
    )  # fmt: skip
    parts = (
        extrude(side, wide, turn=about("x", 90)),
        extrude(print_, 4 * ankle, op="keep", blend=wide * 0.25),
        ellipsoid(
            (length * 0.2, wide * 0.26, ankle * 0.75),
            (-length * 0.28, 0, ankle * 1.1),
            op="cut",
            blend=wide * 0.08,
            material=2,
        ),
        extrude(print_, sole_high, (0, 0, sole_high * 0.2), rounding=length * 0.012, material=1),
    )
    upper = draws.choice((palette.rubber, palette.plastic, palette.cardboard))(draws)
    return Shape(parts, (upper, palette.rubber(draws, palette.gray(draws)), palette.rubber(draws)), MIRROR)


def stool(draws: Draws) -> Shape:
    """Doll's table, stool or stand: a top on four legs, square or oblong. On its legs, long side along y."""
    wide = draws.uniform(0.08, 0.3)
    deep = wide if draws.chance(0.5) else wide * draws.uniform(0.45, 0.78)
    high = wide * draws.uniform(0.4, 1.1)
    top = max(wide, high) * draws.uniform(0.045, 0.1)
    leg = max(wide, high) * draws.uniform(0.05, 0.1)
    inset = leg * draws.uniform(0.5, 1.0)
    at = (deep / 2 - inset, wide / 2 - inset, high / 2)
    parts = [slab((deep, wide, top), leg * draws.uniform(0.0, 2.0), (0, 0, high - top / 2))]
    if draws.chance(0.5):
        parts.append(cylinder(leg / 2, high - top * 0.5, at, mirror="xy", material=1))
    else:
        parts.append(box((leg, leg, high - top * 0.5), at, mirror="xy", material=1))
    make = draws.choice((palette.plastic, palette.metal))
    fold = 4 if deep == wide else 2
    return Shape(tuple(parts), (make(draws), palette.plastic(draws)), SymmetryGroup(fold=fold, mirror=True))


def mouse(draws: Draws) -> Shape:
    """Computer mouse, iron or stapler: a humped body. Lying on its belly, front to +x."""
    length = draws.uniform(0.08, 0.16)
    wide, high = length * draws.uniform(0.45, 0.62), length * draws.uniform(0.25, 0.45)
    body = palette.plastic(draws, palette.any_color(draws))
    parts = (
        ellipsoid((length / 2, wide / 2, high)),
        box((length * 2, wide * 2, high * 2), (0, 0, -high), op="cut", blend=high * 0.1),
        cylinder(
            length * 0.06,
            wide * 0.12,
            (length * 0.25, 0, high * 0.85),
            turn=ALONG_Y,
            rounding=length * 0.01,
            material=1,
        ),
        box((length * 0.4, wide * 0.03, high), (length * 0.32, 0, high * 0.9), op="cut", material=1),
    )
    return Shape(parts, (body, palette.rubber(draws)), MIRROR)


def dumbbell(draws: Draws) -> Shape:
    """Dumbbell, bone, spool or barbell. Axis upright; found lying. Both ends are alike."""
    length = draws.uniform(0.1, 0.25)
    radius = length * draws.uniform(0.14, 0.28)
    head, bar = length * draws.uniform(0.18, 0.32), length * draws.uniform(0.04, 0.08)
    iron = draws.choice((palette.rubber, palette.plastic, palette.metal))(draws)
    handle = draws.choice((palette.metal(draws), iron))
    parts = [cylinder(bar, length * 0.9, material=1)]
    group = SymmetryGroup(fold=CONTINUOUS, mirror=True, flip=True)
    discs = draws.chance(0.6)
    for end in (1, -1):
        at = (0.0, 0.0, end * (length - head) / 2)
        if discs:
            parts.append(cylinder(radius, head, at, rounding=head * 0.15))
        else:
            parts.append(ellipsoid((radius * 0.8, radius * 0.8, head * 0.6), at))
    return Shape(tuple(parts), (iron, handle), group, (Rest(0.9, about("y", 90)), Rest(0.1)))


def spool(draws: Draws) -> Shape:
    """Roll of tape, thread, wire or paper. Axis upright; lying or standing on its rim."""
    radius = draws.uniform(0.03, 0.07)
    high = radius * draws.uniform(0.3, 2.4)
    hole = radius * draws.uniform(0.3, 0.8)
    core = palette.cardboard(draws, palette.hsv(0.09, 0.4, 0.6))
    outer = palette.plastic(draws, palette.any_color(draws))
    parts = [cylinder(radius, high, rounding=radius * 0.02)]
    if draws.chance(0.4):
        parts.append(cylinder(radius * 1.15, high * 0.12, (0, 0, high * 0.47), material=1))
        parts.append(cylinder(radius * 1.15, high * 0.12, (0, 0, -high * 0.47), material=1))
    parts.append(cylinder(hole, high * 1.5, op="cut", material=1))
    group = SymmetryGroup(fold=CONTINUOUS, mirror=True, flip=True)
    return Shape(tuple(parts), (outer, core), group, (Rest(0.6), Rest(0.4, about("y", 90))))


def bulb(draws: Draws) -> Shape:
    """Light bulb, bowling pin or shuttle: round head on a thinner foot. Axis upright; mostly lying."""
    radius = draws.uniform(0.025, 0.045)
    length = radius * draws.uniform(1.6, 3.2)
    foot = radius * draws.uniform(0.3, 0.5)
    parts = (
        ellipsoid((radius, radius, radius * draws.uniform(0.9, 1.2)), (0, 0, length)),
        cone(foot, radius * 0.75, length * 0.7, (0, 0, length * 0.5), blend=radius * 0.4),
        cylinder(foot, length * 0.35, (0, 0, length * 0.05), rounding=foot * 0.2, material=1),
    )
    return Shape(parts, (palette.ceramic(draws), palette.metal(draws)), ROUND, LYING)
