"""Things of two arms or limbs: clamps, scissors, pliers, brackets. Canonical frames are written at each family.

All lengths in metres.
"""

from __future__ import annotations

from math import cos, radians, sin

from cupid_core.data.tabletop import palette
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.shape import (
    ALONG_Y,
    Part,
    Rest,
    Shape,
    about,
    arc,
    box,
    capsule,
    cylinder,
    extrude,
    slab,
)
from cupid_core.data.tabletop.symmetry import SymmetryGroup

MIRROR = SymmetryGroup(mirror=True)


def clamp(draws: Draws) -> Shape:
    """C-clamp or spring clamp. Lying flat, jaws open to +x."""
    size = draws.uniform(0.08, 0.2)
    bar = size * draws.uniform(0.09, 0.14)
    if draws.chance(0.5):  # spring clamp: two levers about a pivot
        spread = draws.uniform(8, 22)
        jaw = [
            (-bar, -bar * 0.5),
            (size * 0.4, -bar * 0.4),
            (size * 0.5, bar * 0.1),
            (size * 0.4, bar * 0.7),
            (-bar, bar),
        ]
        lever = [(-size * 0.5, -bar * 0.2), (bar, -bar * 0.5), (bar, bar * 0.8), (-size * 0.5, bar * 0.6)]
        c, s = size * 0.46 * cos(radians(spread)), size * 0.46 * sin(radians(spread))
        parts: tuple[Part, ...] = (
            extrude(jaw, bar * 1.4, turn=about("z", spread), rounding=bar * 0.25, mirror="y"),
            extrude(lever, bar * 1.4, turn=about("z", -spread * 1.3), rounding=bar * 0.25, mirror="y"),
            cylinder(bar * 0.9, bar * 2.0, rounding=bar * 0.2, material=1),
            slab(
                (bar * 1.6, bar, bar * 1.3),
                bar * 0.3,
                (c, s - bar * 0.4, 0),
                mirror="y",
                rounding=bar * 0.2,
                material=2,
            ),
        )
        return Shape(parts, (palette.plastic(draws), palette.metal(draws), palette.rubber(draws)), MIRROR)
    gap, depth = size * draws.uniform(0.45, 0.7), size * draws.uniform(0.45, 0.7)
    left, right = -depth / 2, depth / 2
    up, down = gap / 2, -gap / 2
    frame = [
        (left, down - bar), (right, down - bar), (right, down), (left + bar, down),
        (left + bar, up), (right, up), (right, up + bar), (left, up + bar),
    ]  # fmt: skip
    screw = right - bar * 0.6
    parts = (
        extrude(frame, bar * 1.2, rounding=bar * 0.15),
        cylinder(bar * 0.32, gap * 1.1, (screw, -gap * 0.55, 0), turn=ALONG_Y, material=1),
        cylinder(bar * 0.6, bar * 0.4, (screw, -gap * 0.02, 0), turn=ALONG_Y, material=1),
        capsule((screw - bar * 1.2, -gap * 1.05, 0), (screw + bar * 1.2, -gap * 1.05, 0), bar * 0.28, material=1),
    )
    return Shape(
        parts, (draws.choice((palette.metal, palette.plastic))(draws), palette.metal(draws)), SymmetryGroup()
    )


def scissors(draws: Draws) -> Shape:
    """Scissors or pliers. Lying flat, blades to +x."""
    length = draws.uniform(0.12, 0.24)
    thick = length * 0.022
    pivot = length * draws.uniform(-0.05, 0.1)
    spread = draws.uniform(3.0, 16.0)
    wide = length * draws.uniform(0.035, 0.055)
    tip = length * 0.5
    blade = [(pivot - wide, -wide), (tip - length * 0.1, -wide * 0.6), (tip, wide * 0.2), (pivot - wide, wide)]
    ring = length * draws.uniform(0.09, 0.12)
    bar = length * draws.uniform(0.022, 0.032)
    handle = -length * 0.5 + ring + bar
    parts = [
        extrude(blade, thick * 2, (0, 0, 0), turn=about("z", spread), rounding=thick * 0.5, mirror="y"),
        cylinder(wide * 0.6, thick * 4.0, (pivot, 0, 0), rounding=thick, material=2),
    ]
    if draws.chance(0.7):
        parts.append(
            arc(
                ring,
                bar,
                180.0,
                (handle, ring * 1.15, 0),
                mirror="y",
                material=1,
                warp="squash",
                amount=draws.uniform(0.7, 1.0),
            )
        )
        parts.append(
            capsule(
                (handle + ring, ring * 0.9, 0),
                (pivot, 0, 0),
                bar * 1.2,
                wide * 0.7,
                mirror="y",
                material=1,
                blend=bar,
            )
        )
    else:  # pliers: two thick bent grips, short jaws
        parts.append(
            capsule(
                (-length * 0.48, length * 0.13, 0),
                (pivot - wide, length * 0.05, 0),
                bar * 1.2,
                bar,
                mirror="y",
                material=1,
            )
        )
        parts.append(
            capsule((pivot - wide, length * 0.05, 0), (pivot, 0, 0), bar, wide * 0.8, mirror="y", material=2)
        )
    return Shape(tuple(parts), (palette.metal(draws), palette.plastic(draws), palette.metal(draws)), MIRROR)


def bracket(draws: Draws) -> Shape:
    """L, T or U profile. Canonically its long limb lies on the table along x, the others stand."""
    size = draws.uniform(0.05, 0.15)
    thick, wide = size * draws.uniform(0.08, 0.25), size * draws.uniform(0.2, 0.8)
    tall = size * draws.uniform(0.5, 1.2)
    kind = draws.integer(0, 2)
    material = draws.choice((palette.metal, palette.plastic, palette.wood))(draws)
    edge = thick * draws.uniform(0.02, 0.2)
    parts = [box((size, wide, thick), (0, 0, thick / 2), rounding=edge)]
    group = SymmetryGroup(mirror=True)
    if kind == 0:
        parts.append(box((thick, wide, tall), (size / 2 - thick / 2, 0, tall / 2), rounding=edge))
    elif kind == 1:
        parts.append(box((thick, wide, tall), (0, 0, tall / 2), rounding=edge))
        group = SymmetryGroup(fold=2, mirror=True)
    else:
        parts.append(box((thick, wide, tall), (size / 2 - thick / 2, 0, tall / 2), rounding=edge, mirror="x"))
        group = SymmetryGroup(fold=2, mirror=True)
    if draws.chance(0.5):
        parts.append(cylinder(wide * 0.18, thick * 3, (size * 0.22, 0, thick / 2), mirror="x", op="cut"))
    rests = (Rest(0.7), Rest(0.15, about("x", 90)), Rest(0.15, about("x", 180)))
    return Shape(tuple(parts), (material,), group, rests)
