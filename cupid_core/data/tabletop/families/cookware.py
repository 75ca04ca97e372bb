"""Pans, pots, teapots, pitchers, buckets. Canonical frames are written at each family.

All lengths in metres.
"""

from __future__ import annotations

from dataclasses import replace

from cupid_core.data.tabletop import palette
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.shape import Part, Shape, about, arc, box, capsule, cone, cylinder, ellipsoid
from cupid_core.data.tabletop.symmetry import SymmetryGroup

MIRROR = SymmetryGroup(mirror=True)
# Thinnest wall, as a share of the longest side: thinner ones fall through a 32^3 grid.
WALL = 0.04


def pan(draws: Draws) -> Shape:
    """Frying pan, sieve or ashtray with handle. Upright, handle to +x."""
    radius = draws.uniform(0.07, 0.14)
    high = radius * draws.uniform(0.25, 0.55)
    wall = WALL * 2.6 * radius
    long = radius * draws.uniform(1.0, 1.8)
    base = cone(radius * draws.uniform(0.75, 0.95), radius, high, (0, 0, high / 2), rounding=wall * 0.3)
    hollow = cone(radius * 0.9 - wall, radius - wall, high, (0, 0, high / 2 + wall), op="cut", material=1)
    lift = high * draws.uniform(0.6, 0.9)
    rise = long * draws.uniform(-0.02, 0.3)
    bar = radius * draws.uniform(0.09, 0.15)
    parts = (
        base,
        capsule(
            (radius * 0.97, 0, lift),
            (radius + long, 0, lift + rise),
            bar * 0.8,
            bar,
            material=2,
            warp="squash",
            amount=0.75,
        ),
        hollow,
    )
    dark = palette.rubber(draws)
    outer = draws.choice((palette.metal(draws), palette.ceramic(draws)))
    inner = draws.choice((outer, dark))
    return Shape(parts, (outer, inner, draws.choice((dark, outer, palette.wood(draws)))), MIRROR)


def pot(draws: Draws) -> Shape:
    """Cooking pot with two ears, perhaps a lid. Upright, ears on +y and -y."""
    radius = draws.uniform(0.06, 0.12)
    high = radius * draws.uniform(0.8, 1.5)
    ear = radius * draws.uniform(0.22, 0.35)
    bar = radius * 0.08
    wall = WALL * 2.2 * radius
    parts: list[Part] = [
        cylinder(radius, high, rounding=wall * 0.4),
        arc(ear, bar, 180.0, (0, radius * 0.98, high * 0.3), mirror="y", material=1),
    ]
    if draws.chance(0.5):
        lid = high * 0.15
        parts.append(ellipsoid((radius * 0.98, radius * 0.98, lid), (0, 0, high / 2), material=2))
        parts.append(
            ellipsoid((radius * 0.14, radius * 0.14, radius * 0.1), (0, 0, high / 2 + lid * 1.5), material=1)
        )
    else:
        parts.append(cylinder(radius - wall, high, (0, 0, wall * 1.3), op="cut", material=2))
    body = draws.choice((palette.metal(draws), palette.ceramic(draws)))
    return Shape(tuple(parts), (body, palette.rubber(draws), body), SymmetryGroup(fold=2, mirror=True))


def teapot(draws: Draws) -> Shape:
    """Teapot or kettle. Upright, spout to +x, handle at -x."""
    radius = draws.uniform(0.05, 0.09)
    high = radius * draws.uniform(0.7, 1.1)
    ring = high * draws.uniform(0.5, 0.75)
    bar = radius * draws.uniform(0.08, 0.13)
    tip = (radius * draws.uniform(1.45, 1.8), 0.0, high * draws.uniform(0.4, 0.9))
    parts: list[Part] = [
        ellipsoid((radius, radius, high)),
        box((3 * radius, 3 * radius, high), (0, 0, -high * 1.3), op="cut", blend=radius * 0.1),
        capsule((radius * 0.7, 0, -high * 0.2), tip, radius * 0.25, radius * 0.11, blend=radius * 0.2),
    ]
    if draws.chance(0.7):
        parts.append(arc(ring, bar, 110.0, (-radius * 0.85, 0, 0), turn=_standing_back(), material=1))
    else:
        parts.append(arc(radius * 0.9, bar, 80.0, (0, 0, high * 0.55), turn=_standing_up(), material=1))
    knob = radius * draws.uniform(0.1, 0.18)
    parts.append(cylinder(radius * 0.45, high * 0.12, (0, 0, high * 0.96), rounding=high * 0.03, material=2))
    parts.append(ellipsoid((knob, knob, knob), (0, 0, high * 1.02 + knob), material=1))
    glaze = palette.ceramic(draws)
    trim = palette.ceramic(draws, draws.choice((glaze.color, palette.any_color(draws))))
    return Shape(tuple(parts), (palette.patterned(draws, glaze, about_z=True), trim, trim), MIRROR)


def _standing_back() -> tuple[float, ...]:
    """An arc in its xy plane centered on +x becomes one in the xz plane centered on -x."""
    return (-1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0)


def _standing_up() -> tuple[float, ...]:
    """An arc in its xy plane centered on +x becomes one in the xz plane centered on +z."""
    return (0.0, -1.0, 0.0, 0.0, 0.0, -1.0, 1.0, 0.0, 0.0)


def pitcher(draws: Draws) -> Shape:
    """Pitcher, jug or measuring cup. Upright, handle at +x, lip at -x."""
    radius = draws.uniform(0.05, 0.08)
    high = radius * draws.uniform(1.8, 3.2)
    wall = WALL * high
    foot = radius * draws.uniform(0.75, 1.1)
    bar = radius * draws.uniform(0.1, 0.17)
    ring = high * draws.uniform(0.22, 0.32)
    parts = (
        cone(foot, radius, high, rounding=wall * 0.3),
        capsule(
            (-radius * 0.8, 0, high * 0.25),
            (-radius * 1.15, 0, high * 0.47),
            radius * 0.15,
            radius * 0.28,
            blend=radius * 0.2,
        ),
        box((4 * radius, 4 * radius, high), (0, 0, high * 0.995), op="cut"),
        arc(
            ring,
            bar,
            120.0,
            ((foot + radius) * 0.46, 0, high * 0.05),
            turn=about("x", 90),
            material=1,
            warp="squash",
            amount=1.0,
        ),
        cone(foot - wall, radius - wall, high, (0, 0, wall * 1.3), op="cut", material=2),
        capsule(
            (-radius * 0.8, 0, high * 0.35),
            (-radius * 1.15, 0, high * 0.5),
            radius * 0.1,
            radius * 0.18,
            op="cut",
            material=2,
        ),
    )
    body = draws.choice((palette.plastic, palette.ceramic, palette.metal))(draws)
    inside = replace(body, color=palette.near(draws, body.color, 0.1))
    return Shape(parts, (body, draws.choice((body, palette.plastic(draws))), inside), MIRROR)


def bucket(draws: Draws) -> Shape:
    """Bucket or basket with a bow. Upright, bow over y."""
    radius = draws.uniform(0.05, 0.12)
    high = radius * draws.uniform(1.2, 2.0)
    foot = radius * draws.uniform(0.65, 0.95)
    wall = high * 0.05
    bar = radius * 0.07
    up = (0.0, 0.0, -1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0)
    parts = (
        cone(foot, radius, high),
        cone(foot - wall, radius - wall, high, (0, 0, wall * 1.2), op="cut", material=1),
        arc(radius * 0.97, bar, 90.0, (0, 0, high * 0.45), turn=up, material=2),
    )
    body = palette.plastic(draws)
    inside = replace(body, color=palette.near(draws, body.color, 0.1))
    return Shape(parts, (body, inside, palette.metal(draws)), SymmetryGroup(fold=2, mirror=True))
