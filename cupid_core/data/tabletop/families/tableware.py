"""Mugs, cups, bowls, plates, goblets, vases. Canonical frames are written at each family.

All lengths in metres.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cupid_core.data.tabletop import labels, palette
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.families.containers import dressed, labelled
from cupid_core.data.tabletop.material import Color
from cupid_core.data.tabletop.shape import Part, Rest, Shape, about, arc, cone, cylinder, revolve, smooth
from cupid_core.data.tabletop.symmetry import CONTINUOUS, SymmetryGroup

ROUND = SymmetryGroup(fold=CONTINUOUS, mirror=True)
STANDING = (Rest(0.85), Rest(0.15, about("y", 90)))
# Thinnest wall, as a share of the longest side: thinner ones fall through a 32^3 grid.
WALL = 0.04


def _handle(draws: Draws, radius: float, height: float, material: int) -> Part:
    """Ring handle on +x."""
    reach = height * draws.uniform(0.24, 0.36)
    bar = max(radius * draws.uniform(0.09, 0.16), height * 0.035)
    return arc(reach, bar, 180.0, (radius * 0.96, 0, 0), turn=about("x", 90), material=material)


def mug(draws: Draws) -> Shape:
    """Mug. Upright, handle at +x."""
    radius = draws.uniform(0.035, 0.05)
    height = radius * draws.uniform(1.6, 2.6)
    wall = max(draws.uniform(0.003, 0.005), WALL * height)
    taper = draws.uniform(0.8, 1.0)
    outside: Color = palette.any_color(draws)
    glaze = palette.ceramic(draws, outside)
    printed, sheet, group = draws.chance(0.4), None, SymmetryGroup(mirror=True)
    if printed:
        glaze = labelled(glaze, radius * 0.8, -height * 0.3, height * 0.35, "faces")
        sheet = labels.cheeks(draws, draws.choice((None, outside)))
        group = SymmetryGroup()
    else:
        glaze = palette.patterned(draws, glaze, about_z=True)
    inside = palette.ceramic(draws, draws.choice((outside, (0.93, 0.92, 0.9))))
    floor = -height / 2 + wall * 1.5
    parts = (
        cone(radius * taper, radius, height, rounding=wall * 0.4),
        _handle(draws, radius * (1 + taper) / 2, height, 1),
        cone(radius * taper - wall, radius - wall, height, (0, 0, floor + height / 2), op="cut", material=1),
    )
    rests = (Rest(0.8), Rest(0.1, about("y", 90)), Rest(0.1, about("x", 180)))
    return Shape(parts, (glaze, inside), group, rests, sheet)


def cup(draws: Draws) -> Shape:
    """Paper or plastic cup, sometimes with a lid. Upright; the front of the print looks to +x."""
    radius = draws.uniform(0.032, 0.05)
    height = radius * draws.uniform(1.7, 3.6)
    foot = radius * draws.uniform(0.6, 0.95)
    wall = max(0.002, WALL * height)
    paint = palette.plastic(draws, palette.any_color(draws))
    paint, group, sheet = dressed(draws, paint, radius, -height * 0.35, height * 0.3, chance=0.5)
    second = palette.plastic(draws, draws.choice((paint.color, palette.gray(draws))))
    body = cone(foot, radius, height, rounding=wall * 0.3)
    if draws.chance(0.4):
        lid = height * draws.uniform(0.05, 0.1)
        parts: tuple[Part, ...] = (
            body,
            cylinder(radius * 1.06, lid, (0, 0, height / 2), rounding=lid * 0.3, material=1),
            cone(radius * 0.97, radius * 0.9, lid, (0, 0, height / 2 + lid), rounding=lid * 0.2, material=1),
            cylinder(radius * 0.75, lid, (0, 0, height / 2 + lid * 1.6), op="cut", material=1),
        )
        rests: tuple[Rest, ...] = STANDING
    else:
        hollow = cone(foot - wall, radius - wall, height, (0, 0, wall * 1.5), op="cut", material=1)
        parts = (body, hollow)
        rests = (Rest(0.7), Rest(0.15, about("y", 90)), Rest(0.15, about("x", 180)))
    return Shape(parts, (paint, second), group, rests, sheet)


def _dish(radius: float, foot: float, height: float, wall: float, belly: float) -> tuple[Part, Part]:
    """An open dish: its outside (material 0), and the hollow cut out of it (material 1)."""
    middle = foot + (radius - foot) * belly
    outer = smooth([(foot, 0.0), (middle, height * 0.45), (radius, height)], 8)
    inner = smooth(
        [
            (max(foot - wall * 0.5, 0.01), wall),
            (middle - wall * 0.9, height * 0.45 + wall * 0.4),
            (radius - wall, height),
            (radius - wall * 0.9, height + wall),
        ],
        8,
    )
    body = revolve([(0.0, 0.0), *outer, (0.0, height)], rounding=wall * 0.1)
    hollow = [(0.0, wall), *inner, (0.0, height + wall)]
    return body, revolve(hollow, op="cut", blend=wall * 0.25, material=1)


def bowl(draws: Draws) -> Shape:
    """Bowl. Upright."""
    radius = draws.uniform(0.05, 0.12)
    height = radius * draws.uniform(0.5, 1.1)
    foot = radius * draws.uniform(0.35, 0.7)
    wall = max(draws.uniform(0.025, 0.04), WALL * 0.9) * 2 * radius
    color = palette.any_color(draws)
    glaze = palette.ceramic(draws, color)
    print_symmetry = ROUND
    if draws.chance(0.35):  # speckled enamel: the specks repeat in sectors, so the claimed symmetry holds
        change: dict[str, Any] = {
            "pattern": "speckle",
            "second": palette.contrast(draws, color),
            "frequency": 5.0,
        }
        glaze = replace(glaze, **change, amount=draws.uniform(0.1, 0.3))
        print_symmetry = SymmetryGroup(fold=10)
    else:
        glaze = palette.patterned(draws, glaze, about_z=True)
    belly = draws.uniform(0.6, 0.9)
    parts = list(_dish(radius, foot, height, wall, belly))
    if draws.chance(0.4):
        parts.append(cylinder(foot * 0.9, wall, (0, 0, -wall * 0.4), rounding=wall * 0.2))
    inside = replace(glaze, color=palette.any_color(draws)) if draws.chance(0.35) else glaze
    rests = (Rest(0.88), Rest(0.12, about("x", 180)))
    return Shape(tuple(parts), (glaze, inside), ROUND, rests, print_symmetry=print_symmetry)


def plate(draws: Draws) -> Shape:
    """Plate or saucer. Upright."""
    radius = draws.uniform(0.06, 0.14)
    height = radius * draws.uniform(0.12, 0.28)
    foot = radius * draws.uniform(0.5, 0.75)
    wall = WALL * 2 * radius
    glaze = palette.patterned(draws, palette.ceramic(draws), about_z=True)
    inside = replace(glaze, color=palette.any_color(draws)) if draws.chance(0.2) else glaze
    parts = _dish(radius, foot, height + wall, wall, draws.uniform(0.3, 0.7))
    return Shape(parts, (glaze, inside), ROUND, (Rest(0.95), Rest(0.05, about("x", 180))))


def goblet(draws: Draws) -> Shape:
    """Goblet, egg cup, trophy or vase. Upright."""
    high = draws.uniform(0.08, 0.25)
    wide = high * draws.uniform(0.2, 0.4)
    stem = max(high * draws.uniform(0.04, 0.15), wide * 0.15)
    foot = wide * draws.uniform(0.6, 1.0)
    waist = draws.uniform(0.2, 0.5) * high
    wall = WALL * high
    outer = smooth(
        [
            (foot, wall * 0.6),
            (stem, waist * 0.6),
            (stem * 1.1, waist),
            (wide, high * 0.75),
            (wide * draws.uniform(0.7, 1.05), high),
        ],
        9,
    )
    rim = outer[-1][0]
    inner = smooth(
        [(rim - wall, high), (wide - wall, high * 0.76), (max(stem - wall, wide * 0.2), waist + wall * 1.8)], 6
    )
    profile = [(0.0, 0.0), (foot, 0.0), *outer, *inner, (0.0, waist + wall * 1.5)]
    material = palette.patterned(
        draws, draws.choice((palette.ceramic, palette.metal, palette.plastic))(draws), about_z=True
    )
    return Shape(
        (revolve(profile, rounding=wall * 0.15),), (material,), ROUND, (Rest(0.85), Rest(0.15, about("y", 90)))
    )


def vase(draws: Draws) -> Shape:
    """Closed round thing with a wavy outline: vase, chess piece, salt shaker, spinning top. Upright."""
    high = draws.uniform(0.06, 0.25)
    radii = [high * draws.uniform(0.08, 0.38) for _ in range(draws.integer(4, 6))]
    curve = smooth([(r, high * i / (len(radii) - 1)) for i, r in enumerate(radii)], 14)
    make = draws.choice((palette.ceramic, palette.wood, palette.plastic, palette.metal))
    base = make(draws)
    if make is palette.wood:
        base = replace(base, pattern="gradient", frequency=1.0)
    parts = [revolve([(0.0, 0.0), *curve, (0.0, high)])]
    mouth = radii[-1] * 0.75
    if draws.chance(0.5):
        parts.append(cylinder(mouth, high * 0.4, (0, 0, high), op="cut", rounding=mouth * 0.2))
    material = palette.patterned(draws, base, about_z=True)
    return Shape(tuple(parts), (material,), ROUND, (Rest(0.85), Rest(0.15, about("y", 90))))
