"""Fruit: apple, pear, lemon, banana. Canonical frames are written at each family.

All lengths in metres.
"""

from __future__ import annotations

from math import cos, sin
from typing import Any

from cupid_core.data.tabletop import palette
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.material import Color, Material
from cupid_core.data.tabletop.shape import Rest, Shape, about, arc, capsule, ellipsoid
from cupid_core.data.tabletop.symmetry import CONTINUOUS, SymmetryGroup

ROUND = SymmetryGroup(fold=CONTINUOUS, mirror=True)
SECTORS = SymmetryGroup(fold=8, mirror=True)
TUMBLED = (Rest(0.75), Rest(0.1, about("y", 70)), Rest(0.08, about("y", 125)), Rest(0.07, about("x", 40)))
STALK: Color = (0.3, 0.2, 0.1)


def skin(draws: Draws, color: Color, second: Color) -> Material:
    """Fruit skin: blotches of a second color, some gloss."""
    return Material(
        color=color,
        second=second,
        pattern=draws.choice(("mottle", "gradient", "speckle"), (0.5, 0.3, 0.2)),
        frequency=draws.uniform(2.0, 6.0),
        amount=draws.uniform(0.15, 0.7),
        phase=draws.uniform(),
        grain=draws.uniform(0.03, 0.1),
        roughness=draws.uniform(0.2, 0.6),
    )


def apple(draws: Draws) -> Shape:
    """Apple, orange or tomato: a spindle torus with stalk. Upright, stalk up."""
    radius = draws.uniform(0.028, 0.042)
    ring = radius * draws.uniform(0.2, 0.5)
    hue = draws.choice((draws.uniform(-0.03, 0.05), draws.uniform(0.05, 0.17), draws.uniform(0.17, 0.3)))
    color = palette.hsv(hue, draws.uniform(0.55, 0.95), draws.uniform(0.5, 0.9))
    second = palette.hsv(hue + draws.uniform(-0.1, 0.1), draws.uniform(0.5, 0.9), draws.uniform(0.5, 0.95))
    materials = (skin(draws, color, second), Material(color=STALK, grain=0.2, roughness=0.8))
    body = radius - ring
    parts = [
        arc(ring, body + ring * 0.35, 180.0, warp="taper", amount=draws.uniform(0.0, 5.0), reach=radius),
    ]
    if draws.chance(0.8):
        parts.append(
            capsule((0, 0, body * 0.5), (0, 0, body * draws.uniform(1.15, 1.5)), 0.0022, 0.0028, material=1)
        )
    return Shape(tuple(parts), materials, ROUND, TUMBLED, print_symmetry=SECTORS)


def pear(draws: Draws) -> Shape:
    """Pear, avocado, aubergine or bulb. Upright, stalk up."""
    radius = draws.uniform(0.028, 0.042)
    top = radius * draws.uniform(0.4, 0.7)
    high = radius * draws.uniform(1.0, 2.0)
    hue = draws.choice((draws.uniform(0.12, 0.28), draws.uniform(-0.1, 0.12)), (0.7, 0.3))
    color = palette.hsv(hue, draws.uniform(0.4, 0.9), draws.uniform(0.35, 0.85))
    materials = (
        skin(draws, color, palette.near(draws, color, 0.25)),
        Material(color=STALK, grain=0.2, roughness=0.8),
    )
    parts = (
        ellipsoid((radius, radius, radius * draws.uniform(0.85, 1.1))),
        ellipsoid((top, top, top * draws.uniform(0.9, 1.3)), (0, 0, high), blend=radius * draws.uniform(0.8, 1.6)),
        capsule((0, 0, high), (0, 0, high + top * draws.uniform(1.3, 1.8)), 0.002, 0.003, material=1),
    )
    rests = (Rest(0.4), Rest(0.6, about("y", 80)))
    return Shape(parts, materials, ROUND, rests, print_symmetry=SECTORS)


def lemon(draws: Draws) -> Shape:
    """Lemon, lime, potato, kiwi or egg. Axis upright; found lying."""
    long = draws.uniform(0.035, 0.055)
    radius = long * draws.uniform(0.6, 0.85)
    color = palette.hsv(
        draws.choice((0.14, 0.2, 0.08)) + draws.uniform(-0.03, 0.03), draws.uniform(0.3, 0.95), 0.85
    )
    tip = radius * draws.uniform(0.15, 0.35)
    parts = (
        ellipsoid((radius, radius, long)),
        ellipsoid((tip, tip, tip * 1.2), (0, 0, long * 0.95), blend=radius * 0.35),
    )
    rests = (Rest(0.2), Rest(0.8, about("y", 90)))
    return Shape(
        parts, (skin(draws, color, palette.near(draws, color, 0.15)),), ROUND, rests, print_symmetry=SECTORS
    )


def banana(draws: Draws) -> Shape:
    """Banana, cucumber or bent pepper. Lying flat, the outside of the bend looks to +x, the stalk to +y."""
    length = draws.uniform(0.15, 0.22)
    radius = length * draws.uniform(0.075, 0.12)
    ring = length * draws.uniform(0.45, 0.8)
    hue = draws.choice((0.145, 0.12, 0.27, 0.0), (0.6, 0.15, 0.15, 0.1))
    color = palette.hsv(hue + draws.uniform(-0.02, 0.02), draws.uniform(0.6, 0.95), draws.uniform(0.6, 0.95))
    peel = skin(draws, color, palette.hsv(0.09, 0.6, draws.uniform(0.3, 0.7)))
    end = Material(color=(0.25, 0.18, 0.08), grain=0.2, roughness=0.8)
    # The bend's spine runs along the part's x; turned so that it runs along y and bulges to +x.
    bend: dict[str, Any] = {"warp": "bend", "amount": 1 / ring, "reach": radius * 1.01, "turn": about("z", 90)}
    body = ellipsoid((length * 0.56, radius, radius * draws.uniform(0.9, 1.05)), **bend)
    cut = max(0.004, radius * 0.28)
    stalk_at, tip_at = length * 0.5, -length * 0.52
    parts = (
        body,
        ellipsoid(
            (length * 0.09, cut, cut),
            _on_arc(stalk_at, ring),
            turn=about("z", 90 + _degrees(stalk_at, ring)),
            material=1,
            blend=radius * 0.5,
        ),
        ellipsoid((cut, cut * 0.8, cut * 0.8), _on_arc(tip_at, ring), material=1, blend=radius * 0.2),
    )
    return Shape(parts, (peel, end), SymmetryGroup(), (Rest(1.0),))


def _degrees(along: float, ring: float) -> float:
    return along / ring * 57.29578


def _on_arc(along: float, ring: float) -> tuple[float, float, float]:
    """Point at arc length `along` on the bend of `banana`, which curls towards -x."""
    angle = along / ring
    return (-(ring - ring * cos(angle)), ring * sin(angle), 0.0)
