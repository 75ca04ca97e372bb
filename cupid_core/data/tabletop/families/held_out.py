"""Families that are not used in training: lamp, chair, wrench, headphones, watering can. Frames at each family.

All lengths in metres.
"""

from __future__ import annotations

from math import cos, radians, sin

from cupid_core.data.tabletop import palette
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.shape import Part, Rest, Shape, about, arc, box, capsule, cone, cylinder, slab
from cupid_core.data.tabletop.symmetry import CONTINUOUS, SymmetryGroup

MIRROR = SymmetryGroup(mirror=True)


def lamp(draws: Draws) -> Shape:
    """Table lamp: foot, stem, shade. Upright."""
    high = draws.uniform(0.2, 0.45)
    shade = high * draws.uniform(0.3, 0.45)
    wide = high * draws.uniform(0.2, 0.32)
    stem = high * draws.uniform(0.022, 0.05)
    foot = wide * draws.uniform(0.5, 0.9)
    parts = (
        cylinder(foot, high * 0.06, (0, 0, high * 0.03), rounding=high * 0.01),
        cylinder(stem, high - shade * 0.5, (0, 0, (high - shade * 0.5) / 2)),
        cone(wide, wide * draws.uniform(0.4, 0.9), shade, (0, 0, high - shade / 2), material=1),
    )
    materials = (draws.choice((palette.metal, palette.ceramic))(draws), palette.cardboard(draws))
    return Shape(parts, materials, SymmetryGroup(fold=CONTINUOUS, mirror=True))


def chair(draws: Draws) -> Shape:
    """Doll's chair. On its legs, the sitter looks to +x."""
    wide = draws.uniform(0.1, 0.3)
    seat, back = wide * draws.uniform(0.8, 1.2), wide * draws.uniform(0.8, 1.3)
    thick, leg = wide * draws.uniform(0.07, 0.12), wide * draws.uniform(0.08, 0.13)
    at = (wide / 2 - leg / 2, wide / 2 - leg / 2, seat / 2)
    parts = (
        box((wide, wide, thick), (0, 0, seat)),
        box((leg, leg, seat), at, mirror="xy", material=1),
        box((thick, wide, back), (-wide / 2 + thick / 2, 0, seat + back / 2)),
    )
    make = draws.choice((palette.plastic, palette.wood))
    return Shape(parts, (make(draws), make(draws)), MIRROR)


def wrench(draws: Draws) -> Shape:
    """Open-ended spanner. Lying flat, open jaw to +x, ring at -x."""
    length = draws.uniform(0.12, 0.26)
    wide, thick = length * draws.uniform(0.05, 0.08), length * draws.uniform(0.04, 0.06)
    head = length * draws.uniform(0.1, 0.14)
    ring = length * draws.uniform(0.07, 0.1)
    jaw = head * draws.uniform(0.7, 1.0)
    end = length / 2 - head
    parts = (
        slab((length * 0.75, wide, thick * 0.8), wide * 0.2, rounding=thick * 0.2),
        cylinder(head, thick, (end, 0, 0), rounding=thick * 0.2),
        cylinder(ring, thick, (-length / 2 + ring, 0, 0), rounding=thick * 0.2),
        box((head * 1.6, jaw, thick * 3), (end + head * 0.85, 0, 0), op="cut"),
        cylinder(ring * 0.6, thick * 3, (-length / 2 + ring, 0, 0), op="cut"),
    )
    return Shape(parts, (palette.metal(draws),), MIRROR)


def headphones(draws: Draws) -> Shape:
    """Headphones. Bow up, ear cups on +y and -y, worn looking to +x; mostly lying."""
    radius = draws.uniform(0.07, 0.09)
    bar = radius * draws.uniform(0.07, 0.12)
    cup, thick = radius * draws.uniform(0.35, 0.5), radius * draws.uniform(0.3, 0.45)
    tilt = radians(draws.uniform(0, 12))
    up = (0.0, 0.0, -1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0)
    parts: tuple[Part, ...] = (
        arc(radius, bar, 100.0, turn=up),
        cylinder(
            cup,
            thick,
            (0, radius * cos(tilt) * 0.93, -radius * 0.25),
            turn=about("x", -90),
            mirror="y",
            rounding=thick * 0.3,
            material=1,
        ),
        cylinder(
            cup * 0.85,
            thick * 0.5,
            (0, radius * 0.7, -radius * (0.25 + 0.1 * sin(tilt))),
            turn=about("x", -90),
            mirror="y",
            rounding=thick * 0.2,
            material=2,
        ),
    )
    materials = (palette.plastic(draws), palette.plastic(draws, palette.gray(draws)), palette.rubber(draws))
    return Shape(parts, materials, SymmetryGroup(fold=2, mirror=True), (Rest(0.3), Rest(0.7, about("y", 90))))


def watering_can(draws: Draws) -> Shape:
    """Watering can. Upright, spout to +x, bow at -x."""
    radius = draws.uniform(0.05, 0.09)
    high = radius * draws.uniform(1.4, 2.2)
    long = radius * draws.uniform(1.3, 2.0)
    bar = radius * draws.uniform(0.09, 0.14)
    rose = (radius * 0.6 + long, 0.0, high * draws.uniform(0.35, 0.6))
    back = (-1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0)
    parts = (
        cone(radius, radius * draws.uniform(0.6, 0.9), high),
        capsule((radius * 0.7, 0, -high * 0.3), rose, bar * 1.3, bar),
        cylinder(bar * 2.2, bar, rose, turn=about("y", 50), rounding=bar * 0.3, material=1),
        arc(high * 0.35, bar, 130.0, (-radius * 0.8, 0, high * 0.1), turn=back, material=1),
        cylinder(radius * 0.5, high * 0.5, (0, 0, high * 0.5), op="cut", material=1),
    )
    body = draws.choice((palette.plastic, palette.metal))(draws)
    return Shape(parts, (body, palette.plastic(draws)), MIRROR)
