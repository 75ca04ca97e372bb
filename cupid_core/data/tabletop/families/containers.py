"""Packed food and drink: cans, bottles, squeeze bottles, jars, tubes. Canonical frames are written at each family.

All lengths in metres.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from cupid_core.data.tabletop import labels, palette
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.families.boxes import TWOFOLD, two_fronts
from cupid_core.data.tabletop.material import Material
from cupid_core.data.tabletop.print_marks import Picture
from cupid_core.data.tabletop.shape import Rest, Shape, about, cone, cylinder, revolve, slab, smooth
from cupid_core.data.tabletop.symmetry import CONTINUOUS, SymmetryGroup

ROUND = SymmetryGroup(fold=CONTINUOUS, mirror=True)
STANDING = (Rest(0.85), Rest(0.15, about("y", 90)))


def labelled(material: Material, radius: float, low: float, high: float, mapping: str = "wrap") -> Material:
    """The same material with a label sheet between two heights."""
    center, half = (0.0, 0.0, (low + high) / 2), (radius, radius, (high - low) / 2)
    return replace(material, mapping=mapping, map_center=center, map_half=half)


def dressed(
    draws: Draws, body: Material, radius: float, low: float, high: float, *, chance: float = 0.65
) -> tuple[Material, SymmetryGroup, Picture | None]:
    """Give a round body a label or leave it plain; also says what symmetry the print has."""
    if not draws.chance(chance):
        return palette.patterned(draws, body, about_z=True), ROUND, None
    base = draws.choice((body.color, palette.bright(draws), palette.gray(draws)), (0.3, 0.5, 0.2))
    sheet = labels.wrap(draws, base)
    group = SymmetryGroup(fold=2) if draws.chance(0.25) else SymmetryGroup()
    return labelled(body, radius, low, high), group, sheet


def round_body(draws: Draws, shape: Shape) -> Shape:
    """A round shape whose print faces any way."""
    return replace(shape, print_turn=draws.uniform(-math.pi, math.pi))


def can(draws: Draws) -> Shape:
    """Food or drink can. Upright; the front of the label looks to +x."""
    radius = draws.uniform(0.026, 0.05)
    height = radius * draws.uniform(1.0, 4.2)
    rim = radius * 0.05
    tin = palette.metal(draws)
    paint = palette.plastic(draws, palette.any_color(draws), roughness=draws.uniform(0.2, 0.5))
    edge = height * draws.uniform(0.02, 0.08)
    paint, group, sheet = dressed(draws, paint, radius, -height / 2 + edge, height / 2 - edge, chance=0.8)
    parts = [cylinder(radius, height - 4 * rim, rounding=rim)]
    if draws.chance(0.5):  # drink can: necked ends
        neck = radius * draws.uniform(0.75, 0.9)
        parts += [
            cone(radius, neck, radius * 0.3, (0, 0, height / 2 - 2 * rim), material=1),
            cone(neck, radius, radius * 0.2, (0, 0, -height / 2 + rim), material=1),
            cylinder(
                neck * 0.9, radius * 0.12, (0, 0, height / 2 - 2 * rim + radius * 0.15), op="cut", material=1
            ),
        ]
    else:
        parts += [
            cylinder(radius * 1.02, 3 * rim, (0, 0, height / 2 - rim * 1.5), rounding=rim, material=1),
            cylinder(radius * 1.02, 3 * rim, (0, 0, -height / 2 + rim * 1.5), rounding=rim, material=1),
            cylinder(radius * 0.93, 2 * rim, (0, 0, height / 2), op="cut", material=1),
        ]
    return round_body(draws, Shape(tuple(parts), (paint, tin), ROUND, STANDING, sheet, print_symmetry=group))


def bottle(draws: Draws) -> Shape:
    """Round bottle with shoulder, neck and cap. Upright; the front of the label looks to +x."""
    height = draws.uniform(0.12, 0.32)
    radius = height * draws.uniform(0.11, 0.24)
    neck = radius * draws.uniform(0.3, 0.6)
    shoulder, collar = draws.uniform(0.5, 0.75) * height, draws.uniform(0.78, 0.9) * height
    waist = radius * draws.uniform(0.8, 1.0) if draws.chance(0.4) else radius
    foot = radius * draws.uniform(0.85, 1.0)
    control = [
        (foot, 0.0),
        (radius, 0.06 * height),
        (waist, shoulder * 0.5),
        (radius, shoulder * 0.95),
        (neck * 1.15, collar * 0.97),
        (neck, height * 0.98),
    ]
    profile = [(0.0, 0.0), *smooth(control, 14), (0.0, height * 0.98)]
    cap_height = (height - collar) * draws.uniform(0.6, 1.0)
    paint = palette.plastic(draws, palette.any_color(draws), roughness=draws.uniform(0.1, 0.4))
    low, high = shoulder * draws.uniform(0.1, 0.25), shoulder * draws.uniform(0.75, 0.95)
    paint, group, sheet = dressed(draws, paint, radius, low, high)
    cap = palette.plastic(draws, palette.any_color(draws))
    parts = (
        revolve(profile),
        cylinder(
            neck * draws.uniform(1.1, 1.4),
            cap_height,
            (0, 0, height - cap_height / 2),
            rounding=neck * 0.15,
            material=1,
        ),
    )
    return round_body(draws, Shape(parts, (paint, cap), ROUND, STANDING, sheet, print_symmetry=group))


def squeeze_bottle(draws: Draws) -> Shape:
    """Flat squeeze bottle with spout, as mustard and dish soap have. Upright; broad front looks to +x."""
    height = draws.uniform(0.13, 0.26)
    wide = height * draws.uniform(0.2, 0.29)
    flat = draws.uniform(0.5, 0.78)
    shoulder = draws.uniform(0.55, 0.68) * height
    collar = draws.uniform(0.74, 0.82) * height
    neck = wide * draws.uniform(0.35, 0.55)
    waist = wide * draws.uniform(0.8, 1.0)
    control = [
        (wide * 0.93, 0.0),
        (wide, 0.07 * height),
        (waist, shoulder * 0.45),
        (wide * 1.0, shoulder * 0.88),
        (wide * 0.85, shoulder * 1.06),
        (neck, collar),
    ]
    profile = [(0.0, 0.0), *smooth(control, 14), (0.0, collar)]
    body_color = draws.choice((palette.bright(draws), palette.gray(draws)), (0.75, 0.25))
    paint = palette.plastic(draws, body_color, roughness=draws.uniform(0.2, 0.45))
    half = (wide, wide * 0.92, shoulder * 0.5)
    paint = replace(paint, mapping="front", map_center=(0, 0, shoulder * 0.55), map_half=half)
    if draws.chance(0.35):  # the upper part is paler, as where the filling ends
        pale = palette.near(draws, (0.92, 0.9, 0.82), 0.06)
        change: dict[str, Any] = {
            "pattern": "gradient",
            "second": pale,
            "frequency": 4.0,
            "phase": -1.0,
            "amount": 1.0,
        }
        paint = replace(paint, **change)
    same = draws.chance(0.4)
    cap_color = draws.choice((body_color, palette.any_color(draws)))
    cap = palette.plastic(draws, cap_color)
    tip = neck * draws.uniform(0.25, 0.5)
    top = height - collar
    parts = (
        # The outline is revolved and squashed across y, then turned so that the broad side faces +x.
        revolve(profile, turn=about("z", 90), warp="squash", amount=flat),
        cylinder(
            neck * 1.02,
            top * 0.35,
            (0, 0, collar + top * 0.12),
            rounding=neck * 0.08,
            material=1,
            blend=neck * 0.1,
        ),
        cone(neck * 0.95, tip, top * 0.45, (0, 0, collar + top * 0.5), rounding=tip * 0.2, material=1),
        cylinder(tip, top * 0.35, (0, 0, height - top * 0.175), rounding=tip * 0.3, material=1),
    )
    sheet = labels.sticker(draws, None if draws.chance(0.4) else palette.bright(draws))
    return two_fronts(draws, Shape(parts, (paint, cap), TWOFOLD, STANDING, sheet), same_print=same)


def jar(draws: Draws) -> Shape:
    """Jar with a wide lid. Upright; the front of the label looks to +x."""
    radius = draws.uniform(0.03, 0.06)
    height = radius * draws.uniform(1.4, 3.2)
    lid = height * draws.uniform(0.12, 0.25)
    body_height = height - lid
    glass = palette.plastic(draws, palette.any_color(draws), roughness=draws.uniform(0.08, 0.2))
    glass, group, sheet = dressed(
        draws, glass, radius, -height / 2 + 0.15 * body_height, height / 2 - lid - 0.2 * body_height
    )
    cap = draws.choice((palette.metal(draws), palette.plastic(draws)))
    parts = (
        cylinder(radius, body_height, (0, 0, -lid / 2), rounding=radius * draws.uniform(0.05, 0.3)),
        cylinder(
            radius * draws.uniform(0.8, 1.02), lid, (0, 0, (height - lid) / 2), rounding=lid * 0.15, material=1
        ),
    )
    return round_body(draws, Shape(parts, (glass, cap), ROUND, STANDING, sheet, print_symmetry=group))


def tube(draws: Draws) -> Shape:
    """Toothpaste or cream tube: round at the cap, crimped flat at the other end.

    Canonically standing on its cap, broad side to +x; found lying.
    """
    height = draws.uniform(0.1, 0.19)
    radius = height * draws.uniform(0.1, 0.17)
    cap_height = height * draws.uniform(0.08, 0.18)
    skin = palette.plastic(draws, draws.choice((palette.gray(draws), palette.bright(draws))))
    body = height - cap_height
    half = (radius, radius, body * 0.42)
    skin = replace(skin, mapping="front", map_center=(0, 0, cap_height + body / 2), map_half=half)
    cap = palette.plastic(draws, palette.any_color(draws))
    edge = 0.14 * radius
    # A slab that fans out upwards, cut by planes that close towards the crimp.
    parts = (
        slab((2 * radius, 2 * radius, body), radius * 0.98, (0, 0, cap_height + body / 2), rounding=edge),
        slab(
            (2 * radius, 4 * radius, body * 1.06),
            edge,
            (radius * 1.98, 0, cap_height + body * 0.62),
            mirror="x",
            turn=about("y", -9.0 - 300.0 * radius * 0.02),
            op="cut",
            blend=radius * 0.4,
        ),
        cylinder(
            radius * draws.uniform(0.6, 1.0),
            cap_height * 1.1,
            (0, 0, cap_height * 0.55),
            rounding=edge,
            material=1,
        ),
    )
    rests = (Rest(0.25), Rest(0.75, about("y", 90)))
    same = draws.chance(0.4)
    sheet = labels.sticker(draws, palette.any_color(draws))
    return two_fronts(draws, Shape(parts, (skin, cap), TWOFOLD, rests, sheet), same_print=same)
