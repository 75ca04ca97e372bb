"""Hammers, screwdrivers, markers, drills, brushes. Canonical frames are written at each family.

All lengths in metres.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cupid_core.data.tabletop import palette
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.material import Material
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
    extrude,
    slab,
    smooth,
)
from cupid_core.data.tabletop.symmetry import CONTINUOUS, SymmetryGroup

ROUND = SymmetryGroup(fold=CONTINUOUS, mirror=True)
MIRROR = SymmetryGroup(mirror=True)
LYING = (Rest(0.85, about("y", 90)), Rest(0.15))


def grip(draws: Draws) -> Material:
    """Handle material: wood, rubber or plastic."""
    return draws.choice((palette.wood, palette.rubber, palette.plastic))(draws)


def hammer(draws: Draws) -> Shape:
    """Hammer. Lying on its cheek: handle along -x, head at +x, striking face to +y."""
    length = draws.uniform(0.22, 0.36)
    head = length * draws.uniform(0.3, 0.42)
    thick = length * draws.uniform(0.06, 0.1)
    bar = length * draws.uniform(0.035, 0.055)
    at = length * 0.5 - thick * 0.5
    parts = [
        capsule(
            (-length / 2, 0, 0), (at, 0, 0), bar * draws.uniform(1.0, 1.4), bar * 0.8, warp="squash", amount=0.8
        ),
        box((thick * 1.3, head * 0.4, thick), (at, 0, 0), rounding=thick * 0.15, material=1),
        cylinder(thick * 0.62, head * 0.3, (at, head * 0.33, 0), turn=ALONG_Y, rounding=thick * 0.1, material=1),
    ]
    kind = draws.integer(0, 2)
    if kind == 0:  # claw: a wedge that bends back
        outline = smooth([(thick * 0.6, 0), (thick * 0.3, -head * 0.35), (-thick * 0.6, -head * 0.58)], 5)
        outline += smooth([(-thick * 0.9, -head * 0.5), (-thick * 0.4, -head * 0.3), (-thick * 0.6, 0)], 5)
        parts.append(extrude(outline, thick * 0.9, (at, -head * 0.15, 0), rounding=thick * 0.08, material=1))
    elif kind == 1:  # peen
        parts.append(capsule((at, 0, 0), (at, -head * 0.42, 0), thick * 0.55, thick * 0.3, material=1))
    else:  # mallet
        parts.append(
            cylinder(
                thick * 0.62, head * 0.3, (at, -head * 0.33, 0), turn=ALONG_Y, rounding=thick * 0.1, material=1
            )
        )
    materials = (grip(draws), draws.choice((palette.metal, palette.rubber), (0.75, 0.25))(draws))
    group = MIRROR if kind == 2 else SymmetryGroup()
    return Shape(tuple(parts), materials, group, (Rest(0.85), Rest(0.15, about("y", 90))))


def screwdriver(draws: Draws) -> Shape:
    """Screwdriver, file or awl. Axis upright, tip up; found lying."""
    length = draws.uniform(0.14, 0.28)
    handle = length * draws.uniform(0.3, 0.5)
    radius = length * draws.uniform(0.045, 0.075)
    shaft = max(length * draws.uniform(0.017, 0.025), 0.002)
    color = palette.bright(draws)
    end = palette.plastic(draws, draws.choice((color, palette.gray(draws))))
    parts = (
        capsule((0, 0, radius), (0, 0, handle - radius * 0.7), radius, radius * draws.uniform(0.65, 0.95)),
        cylinder(
            radius * 1.04,
            handle * 0.14,
            (0, 0, handle * draws.uniform(0.1, 0.3)),
            rounding=radius * 0.1,
            material=2,
        ),
        cylinder(
            shaft,
            length - handle * 0.5,
            (0, 0, handle * 0.5 + (length - handle * 0.5) / 2),
            rounding=shaft * 0.3,
            material=1,
        ),
    )
    return Shape(parts, (palette.plastic(draws, color), palette.metal(draws), end), ROUND, LYING)


def marker(draws: Draws) -> Shape:
    """Marker, pen, pencil, glue stick, battery or lipstick. Axis upright, cap or point up; found lying."""
    length = draws.uniform(0.08, 0.17)
    radius = length * draws.uniform(0.045, 0.12)
    cap = length * draws.uniform(0.2, 0.45)
    body_color = draws.choice((palette.bright, palette.gray))(draws)
    body = palette.patterned(draws, palette.plastic(draws, body_color), about_z=True)
    top = palette.plastic(draws, palette.bright(draws))
    parts: list[Part] = [cylinder(radius * 0.95, length - cap, (0, 0, (length - cap) / 2), rounding=radius * 0.2)]
    group = ROUND
    if draws.chance(0.3):  # pencil: six flats and a point
        flats = 1.1547 * radius
        corners = [
            (flats, 0.0),
            (flats / 2, radius),
            (-flats / 2, radius),
            (-flats, 0.0),
            (-flats / 2, -radius),
            (flats / 2, -radius),
        ]
        parts = [
            extrude(corners, length - cap, (0, 0, (length - cap) / 2)),
            cone(radius * 1.05, radius * 0.25, cap * 0.7, (0, 0, length - cap * 0.65), material=1),
        ]
        top = palette.wood(draws, (0.0, 0.0, 1.0), pattern="plain")
        group = SymmetryGroup(fold=6, mirror=True)
    else:
        parts.append(
            cylinder(radius, cap, (0, 0, length - cap / 2), rounding=radius * draws.uniform(0.1, 0.5), material=1)
        )
        if draws.chance(0.4):
            parts.append(cone(radius * 0.9, radius * 0.6, cap * 0.25, (0, 0, length), material=1))
        if draws.chance(0.3):
            parts.append(
                box((radius * 0.35, radius * 0.5, cap * 0.8), (radius * 1.15, 0, length - cap * 0.5), material=1)
            )
            group = MIRROR
    return Shape(tuple(parts), (body, top), group, LYING)


def drill(draws: Draws) -> Shape:
    """Power drill, hair dryer or glue gun. Upright on its foot, muzzle to +x; often lying on its side."""
    length = draws.uniform(0.14, 0.22)
    radius = length * draws.uniform(0.13, 0.19)
    high = length * draws.uniform(0.7, 1.0)
    thick = radius * draws.uniform(1.1, 1.5)
    color, dark = palette.bright(draws), palette.rubber(draws, palette.hsv(0.6, 0.1, draws.uniform(0.05, 0.2)))
    back = -length * 0.25
    grip_outline = [
        (back - radius * 0.4, -high * 0.75),
        (back + radius * 1.0, -high * 0.75),
        (back + radius * 1.5, 0.0),
        (back - radius * 0.3, 0.0),
    ]
    parts = [
        cylinder(radius, length * 0.55, (-length * 0.15, 0, 0), turn=ALONG_X, rounding=radius * 0.35),
        cone(
            radius * 0.85,
            radius * 0.5,
            length * 0.22,
            (length * 0.2, 0, 0),
            turn=ALONG_X,
            material=1,
            rounding=radius * 0.1,
        ),
        extrude(
            grip_outline,
            thick * 0.8,
            turn=about("x", 90),
            rounding=thick * 0.2,
            material=draws.integer(0, 1),
            blend=radius * 0.2,
        ),
        capsule(
            (back + radius * 1.3, 0, -radius * 1.3),
            (back + radius * 1.25, 0, -radius * 1.9),
            thick * 0.22,
            material=1,
        ),
    ]
    if draws.chance(0.75):
        foot = (radius * 3.0, thick * 1.6, high * 0.22)
        parts.append(box(foot, (back + radius * 0.5, 0, -high * 0.82), rounding=thick * 0.15, material=1))
    if draws.chance(0.7):
        parts.append(
            cylinder(
                max(radius * 0.16, length * 0.02), length * 0.35, (length * 0.4, 0, 0), turn=ALONG_X, material=2
            )
        )
    rests = (Rest(0.45), Rest(0.275, about("x", 90)), Rest(0.275, about("x", -90)))
    return Shape(tuple(parts), (palette.plastic(draws, color), dark, palette.metal(draws)), MIRROR, rests)


def brush(draws: Draws) -> Shape:
    """Paint brush, tooth brush, hair brush or dish brush. Lying flat, head to +x; stiff bristles point to +z."""
    length = draws.uniform(0.14, 0.28)
    bar = length * draws.uniform(0.025, 0.045)
    handle = grip(draws)
    hair = palette.rubber(
        draws, palette.any_color(draws), pattern="stripes", second=palette.any_color(draws), amount=0.4
    )
    fine: dict[str, Any] = {"frequency": draws.uniform(12, 30), "direction": (0.0, 1.0, 0.0)}
    hair = replace(hair, **fine)
    if draws.chance(0.45):  # paint brush
        wide = length * draws.uniform(0.1, 0.35)
        head = length * draws.uniform(0.18, 0.3)
        parts: tuple[Part, ...] = (
            capsule((-length / 2, 0, 0), (length * 0.5 - head * 1.6, 0, 0), bar * 0.8, bar * 1.1),
            box((head * 0.7, wide, bar * 1.6), (length / 2 - head * 1.2, 0, 0), rounding=bar * 0.2, material=2),
            box((head, wide * 0.96, bar * 1.4), (length / 2 - head / 2, 0, 0), rounding=bar * 0.5, material=1),
        )
        return Shape(parts, (handle, hair, palette.metal(draws)), MIRROR)
    head, wide = length * draws.uniform(0.2, 0.4), length * draws.uniform(0.05, 0.2)
    wide = max(wide, bar * 2)
    tall = length * draws.uniform(0.05, 0.12)
    at = length / 2 - head / 2
    parts = (
        capsule((-length / 2, 0, 0), (at, 0, 0), bar, bar * 0.8, warp="squash", amount=0.85),
        slab((head, wide, bar * 1.6), wide * 0.45, (at, 0, 0), rounding=bar * 0.4, blend=bar),
        slab((head * 0.9, wide * 0.86, tall), wide * 0.35, (at, 0, bar * 0.6 + tall / 2), material=1),
    )
    rests = (Rest(0.4), Rest(0.3, about("x", 180)), Rest(0.3, about("x", 90)))
    return Shape(parts, (handle, hair), MIRROR, rests)
