"""Toy cars, ducks, houses, planes, pyramids, balls. Canonical frames are written at each family.

All lengths in metres.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cupid_core.data.tabletop import palette
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.shape import (
    ALONG_X,
    ALONG_Y,
    Part,
    Rest,
    Shape,
    about,
    box,
    capsule,
    cone,
    cylinder,
    ellipsoid,
    extrude,
    frustum,
    slab,
)
from cupid_core.data.tabletop.symmetry import CONTINUOUS, SymmetryGroup

ROUND = SymmetryGroup(fold=CONTINUOUS, mirror=True)
MIRROR = SymmetryGroup(mirror=True)


def toy_car(draws: Draws) -> Shape:
    """Toy car, truck or bus. On its wheels, front to +x."""
    length = draws.uniform(0.06, 0.18)
    wide, high = length * draws.uniform(0.38, 0.5), length * draws.uniform(0.14, 0.22)
    wheel = length * draws.uniform(0.08, 0.12)
    cabin = (length * draws.uniform(0.3, 0.6), wide * 0.88, high * draws.uniform(0.8, 1.3))
    back = -length * draws.uniform(0.0, 0.15)
    edge = high * draws.uniform(0.1, 0.4)
    axle = length * draws.uniform(0.26, 0.33)
    top = (cabin[0] * draws.uniform(0.5, 0.9), cabin[1] * 0.85)
    parts = (
        box((length, wide, high), (0, 0, wheel + high * 0.4), rounding=edge),
        frustum(
            cabin[:2], top, cabin[2], (back, 0, wheel + high * 0.8 + cabin[2] / 2), material=draws.integer(0, 1)
        ),
        cylinder(
            wheel,
            wide * 0.22,
            (axle, wide * 0.46, wheel),
            turn=ALONG_Y,
            mirror="xy",
            rounding=wheel * 0.15,
            material=2,
        ),
        cylinder(wheel * 0.5, wide * 0.24, (axle, wide * 0.47, wheel), turn=ALONG_Y, mirror="xy", material=3),
        ellipsoid(
            (length * 0.02, wide * 0.09, high * 0.16),
            (length / 2, wide * 0.3, wheel + high * 0.5),
            mirror="y",
            material=3,
        ),
    )
    paint = palette.plastic(draws)
    glass = palette.plastic(draws, draws.choice(((0.1, 0.12, 0.15), palette.bright(draws))), roughness=0.15)
    materials = (paint, glass, palette.rubber(draws), draws.choice((palette.metal, palette.plastic))(draws))
    return Shape(parts, materials, MIRROR, (Rest(0.93), Rest(0.07, about("x", 90))))


def toy_duck(draws: Draws) -> Shape:
    """Bird, duck or other animal on a round body. Upright, beak to +x."""
    length = draws.uniform(0.05, 0.12)
    wide, high = length * draws.uniform(0.33, 0.42), length * draws.uniform(0.26, 0.36)
    head = length * draws.uniform(0.18, 0.25)
    at = (length * draws.uniform(0.15, 0.35), 0.0, high + head * draws.uniform(0.3, 0.9))
    skin = palette.plastic(draws)
    parts: list[Part] = [
        ellipsoid((length * 0.5, wide, high)),
        ellipsoid((head, head, head), at, blend=head * 0.4),
        cone(
            head * 0.4,
            head * 0.12,
            head * 0.8,
            (at[0] + head * 1.2, 0, at[2] - head * 0.1),
            turn=ALONG_X,
            material=1,
        ),
        capsule(
            (-length * 0.35, 0, high * 0.4),
            (-length * 0.62, 0, high * draws.uniform(0.5, 1.3)),
            head * 0.4,
            head * 0.12,
            blend=head * 0.4,
        ),
        ellipsoid(
            (head * 0.13, head * 0.13, head * 0.16),
            (at[0] + head * 0.7, head * 0.62, at[2] + head * 0.25),
            mirror="y",
            material=2,
        ),
    ]
    if draws.chance(0.4):
        parts.append(
            ellipsoid(
                (length * 0.25, wide * 0.2, high * 0.45), (-length * 0.05, wide * 0.9, high * 0.1), mirror="y"
            )
        )
    if draws.chance(0.4):  # ears
        parts.append(
            ellipsoid(
                (head * 0.2, head * 0.3, head * 0.6),
                (at[0], head * 0.5, at[2] + head * 0.9),
                mirror="y",
                material=1,
            )
        )
    materials = (skin, palette.plastic(draws), palette.plastic(draws, (0.03, 0.03, 0.03)))
    return Shape(tuple(parts), materials, MIRROR)


def house(draws: Draws) -> Shape:
    """House, barn or bird box. Upright, door to +x, ridge along y."""
    wide, deep = draws.uniform(0.06, 0.14), draws.uniform(0.05, 0.12)
    wall = draws.uniform(0.04, 0.1)
    roof = deep * draws.uniform(0.3, 0.7)
    over = draws.uniform(1.0, 1.15)
    gable = [(-deep / 2 * over, wall * 0.98), (deep / 2 * over, wall * 0.98), (0.0, wall + roof)]
    door = (deep * 0.06, wide * 0.2, wall * 0.55)
    parts: list[Part] = [
        box((deep, wide, wall), (0, 0, wall / 2)),
        extrude(gable, wide * over, turn=about("x", 90), material=1),
        box(door, (deep / 2, 0, door[2] / 2), material=2),
    ]
    if draws.chance(0.6):
        parts.append(
            box(
                (deep * 0.05, wide * 0.16, wall * 0.22), (deep / 2, wide * 0.3, wall * 0.6), mirror="y", material=3
            )
        )
    if draws.chance(0.5):
        parts.append(box((deep * 0.14, wide * 0.1, roof), (-deep * 0.2, 0, wall + roof * 0.7), material=2))
    make = palette.wood if draws.chance(0.4) else palette.plastic
    return Shape(tuple(parts), tuple(make(draws) for _ in range(4)), MIRROR)


def toy_plane(draws: Draws) -> Shape:
    """Aeroplane or rocket lying. On its belly, nose to +x."""
    length = draws.uniform(0.08, 0.25)
    radius = length * draws.uniform(0.06, 0.1)
    span = length * draws.uniform(0.35, 0.55)
    chord, thick = length * draws.uniform(0.14, 0.24), length * 0.042
    sweep = length * draws.uniform(0.0, 0.2)
    wing = [(chord / 2, 0.0), (chord * 0.2 - sweep, span), (-chord * 0.3 - sweep, span), (-chord / 2, 0.0)]
    tail = [(a * 0.5, b * 0.4) for a, b in wing]
    fin = [(chord * 0.3, 0.0), (-chord * 0.1, length * 0.15), (-chord * 0.4, length * 0.15), (-chord * 0.4, 0.0)]
    parts = (
        capsule((-length / 2, 0, 0), (length * 0.42, 0, 0), radius * 0.5, radius),
        extrude(wing, thick, (length * 0.05, 0, 0), mirror="y", material=1),
        extrude(tail, thick * 0.9, (-length * 0.45, 0, 0), mirror="y", material=1),
        extrude(fin, thick * 0.9, (-length * 0.42, 0, radius * 0.3), turn=about("x", 90), material=1),
        cylinder(
            radius * 0.5,
            length * 0.16,
            (length * 0.1, span * 0.45, -radius * 0.5),
            turn=ALONG_X,
            mirror="y",
            material=2,
        ),
    )
    return Shape(parts, tuple(palette.plastic(draws) for _ in range(3)), MIRROR)


def pyramid(draws: Draws) -> Shape:
    """Cone, pyramid, funnel or traffic cone. Upright."""
    wide = draws.uniform(0.04, 0.12)
    high = wide * draws.uniform(0.7, 2.0)
    base = palette.plastic(draws)
    if draws.chance(0.5):
        tip = draws.uniform(0.02, 0.4)
        parts: list[Part] = [frustum((wide, wide), (wide * tip, wide * tip), high)]
        group = SymmetryGroup(fold=4, mirror=True)
    else:
        parts = [cone(wide / 2, wide / 2 * draws.uniform(0.05, 0.4), high)]
        group = ROUND
    if draws.chance(0.4):
        foot = wide * draws.uniform(1.1, 1.4)
        parts.append(slab((foot, foot, high * 0.08), foot * 0.1, (0, 0, -high / 2), material=1))
        group = SymmetryGroup(fold=4, mirror=True)
    material = palette.patterned(draws, base, about_z=True)
    return Shape(tuple(parts), (material, palette.plastic(draws)), group)


def ball(draws: Draws) -> Shape:
    """Ball, bead, Christmas ball or round bottle with rings about its axis. Axis upright; any way round."""
    radius = draws.uniform(0.02, 0.1)
    base = palette.plastic(draws)
    change: dict[str, Any] = {
        "pattern": "stripes",
        "second": palette.contrast(draws, base.color),
        "frequency": draws.uniform(1, 3),
    }
    material = replace(base, **change, amount=draws.uniform(0.3, 0.6), phase=draws.uniform(0.1, 0.4))
    flat = draws.uniform(0.75, 1.1)
    knob = radius * draws.uniform(0.15, 0.3)
    parts = (
        ellipsoid((radius, radius, radius * flat)),
        cylinder(knob, radius * 0.25, (0, 0, radius * flat), rounding=knob * 0.2, material=1),
    )
    rests = (Rest(0.3), Rest(0.4, about("y", 90)), Rest(0.3, about("y", 130)))
    return Shape(parts, (material, palette.metal(draws)), ROUND, rests)
