"""Spoons, forks, knives. Canonical frames are written at each family.

All lengths in metres.
"""

from __future__ import annotations

from cupid_core.data.tabletop import palette
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.material import Material
from cupid_core.data.tabletop.shape import Part, Rest, Shape, about, box, ellipsoid, extrude, slab, smooth
from cupid_core.data.tabletop.symmetry import SymmetryGroup

MIRROR = SymmetryGroup(mirror=True)


def _steel_or_plastic(draws: Draws) -> Material:
    return draws.choice((palette.metal, palette.plastic, palette.wood), (0.6, 0.25, 0.15))(draws)


def _handle(draws: Draws, length: float, end: float) -> Part:
    """Flat handle along -x that ends at x = `end`."""
    narrow, wide = length * draws.uniform(0.02, 0.03), length * draws.uniform(0.03, 0.055)
    outline = smooth([(-length / 2, -wide * 0.6), (-length * 0.4, -wide), (end, -narrow)], 6)
    outline += smooth([(end, narrow), (-length * 0.4, wide), (-length / 2, wide * 0.6)], 6)
    return extrude(outline, length * draws.uniform(0.034, 0.045), rounding=length * 0.008)


def spoon(draws: Draws) -> Shape:
    """Spoon, ladle or scoop. Lying flat, hollow side up, bowl to +x."""
    length = draws.uniform(0.13, 0.3)
    bowl, wide = length * draws.uniform(0.13, 0.2), length * draws.uniform(0.08, 0.13)
    deep = length * draws.uniform(0.05, 0.1)
    at = length / 2 - bowl
    wall = length * 0.022
    parts = (
        ellipsoid((bowl, wide, deep), (at, 0, 0)),
        box((bowl * 3, wide * 3, deep * 2), (at, 0, deep * 1.2), op="cut"),
        ellipsoid((bowl - wall, wide - wall, deep - wall * 0.8), (at, 0, deep * 0.2), op="cut", blend=wall * 0.5),
        _handle(draws, length, at - bowl * 0.85),
    )
    return Shape(parts, (_steel_or_plastic(draws),), MIRROR, (Rest(0.8), Rest(0.2, about("x", 180))))


def fork(draws: Draws) -> Shape:
    """Fork. Lying flat, tines to +x."""
    length = draws.uniform(0.15, 0.25)
    head, wide = length * draws.uniform(0.26, 0.36), length * draws.uniform(0.1, 0.15)
    start = length / 2 - head
    high = length * 0.042
    outline = [(start - head * 0.25, -wide * 0.12), (start, -wide * 0.5), (length / 2, -wide * 0.5)]
    outline += [(length / 2, wide * 0.5), (start, wide * 0.5), (start - head * 0.25, wide * 0.12)]
    slot = wide * 0.13
    depth = head * draws.uniform(0.5, 0.75)
    cut = box((depth * 2, slot, high * 3), (length / 2, 0, 0), op="cut")
    parts = [extrude(outline, high, rounding=length * 0.004), _handle(draws, length, start - head * 0.2)]
    if draws.chance(0.5):  # four tines: three slots
        parts += [cut, box((depth * 2, slot, high * 3), (length / 2, wide * 0.27, 0), mirror="y", op="cut")]
    else:
        parts.append(box((depth * 2, slot * 1.3, high * 3), (length / 2, wide * 0.18, 0), mirror="y", op="cut"))
    return Shape(tuple(parts), (_steel_or_plastic(draws),), MIRROR)


def knife(draws: Draws) -> Shape:
    """Knife, spatula or saw. Lying flat, blade to +x, edge to -y."""
    length = draws.uniform(0.16, 0.32)
    blade = length * draws.uniform(0.45, 0.65)
    wide = length * draws.uniform(0.05, 0.11)
    start = length / 2 - blade
    tip = draws.uniform(-0.4, 0.9)
    outline = [(start, -wide * 0.5), (length * 0.4, -wide * 0.5), (length / 2, wide * 0.5 * tip)]
    outline += [(length * draws.uniform(0.42, 0.49), wide * 0.5), (start, wide * 0.5)]
    grip = draws.choice((palette.wood, palette.plastic, palette.rubber))(draws)
    thick = length * 0.034
    parts = (
        extrude(outline, thick, rounding=length * 0.003, material=1),
        slab((length - blade, wide * 0.8, thick * 1.5), wide * 0.3, (-blade / 2, 0, 0), rounding=thick * 0.5),
    )
    return Shape(parts, (grip, palette.metal(draws)), SymmetryGroup())
