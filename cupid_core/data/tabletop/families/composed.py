"""Random unions, cuts, bends, tapers and twists of primitives, so that training covers more than named families.

All lengths in metres.
"""

from __future__ import annotations

from math import cos, sin
from typing import Any

from cupid_core.data.tabletop import labels, palette
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.families.boxes import printed
from cupid_core.data.tabletop.material import Material
from cupid_core.data.tabletop.shape import (
    ALONG_X,
    ALONG_Y,
    IDENTITY,
    Part,
    Rest,
    Shape,
    arc,
    box,
    capsule,
    cone,
    cylinder,
    ellipsoid,
    extrude,
    frustum,
    revolve,
    slab,
    smooth,
)
from cupid_core.data.tabletop.symmetry import SymmetryGroup


def material(draws: Draws) -> Material:
    """Any material of the palette."""
    make = draws.choice(
        (palette.plastic, palette.ceramic, palette.metal, palette.wood, palette.cardboard, palette.rubber),
        (0.35, 0.1, 0.15, 0.15, 0.15, 0.1),
    )
    made = make(draws)
    return made if make is palette.wood else palette.patterned(draws, made, about_z=False)


def _warp(draws: Draws, reach: float, length: float) -> dict[str, Any]:
    kind = draws.choice(("", "bend", "taper", "twist", "squash"), (0.5, 0.15, 0.15, 0.08, 0.12))
    if kind == "bend":
        return {"warp": kind, "amount": draws.uniform(0.3, 1.0) / length, "reach": reach}
    if kind == "taper":
        return {"warp": kind, "amount": draws.uniform(-0.6, 0.6) / length * 2, "reach": reach}
    if kind == "twist":
        return {"warp": kind, "amount": draws.uniform(-1.2, 1.2) / length, "reach": reach}
    if kind == "squash":
        return {"warp": kind, "amount": draws.uniform(0.45, 0.9)}
    return {}


def piece(draws: Draws, size: float, **more: Any) -> Part:
    """One random primitive of about `size` metres, warped now and then."""
    a, b, c = (size * draws.uniform(0.25, 1.0) for _ in range(3))
    warp = {**_warp(draws, 0.55 * size, size), **more}
    kind = draws.integer(0, 9)
    at = warp.pop("at", (0.0, 0.0, 0.0))
    if kind in (0, 1):
        return box((a, b, c), at, rounding=draws.uniform(0, 0.3) * min(a, b, c), **warp)
    if kind == 2:
        return slab((a, b, c), min(a, b) * draws.uniform(0.1, 0.5), at, rounding=min(a, b, c) * 0.05, **warp)
    if kind == 3:
        return ellipsoid((a / 2, b / 2, c / 2), at, **warp)
    if kind == 4:
        return cylinder(a / 2, c, at, rounding=draws.uniform(0, 0.2) * min(a, c), **warp)
    if kind == 5:
        return cone(a / 2, max(b / 2, a * 0.1), c, at, **warp)
    if kind == 6:
        bar = max(min(a, c) * 0.25, size * 0.05)
        return arc(max(a / 2, bar * 1.3), bar, draws.uniform(60, 180), at, **warp)
    if kind == 7:
        return frustum((a, b), (a * draws.uniform(0.1, 1), b * draws.uniform(0.1, 1)), c, at, **warp)
    if kind == 8:
        radii = [size * draws.uniform(0.12, 0.5) for _ in range(4)]
        curve = smooth([(r, c * i / 3) for i, r in enumerate(radii)], 9)
        return revolve([(0.0, 0.0), *curve, (0.0, c)], (at[0], at[1], at[2] - c / 2), **warp)
    corners = draws.integer(3, 7)
    ring = [
        (size * draws.uniform(0.2, 0.5), 6.2832 * (i + draws.uniform(-0.3, 0.3)) / corners) for i in range(corners)
    ]
    return extrude([(r * cos(t), r * sin(t)) for r, t in ring], c, at, rounding=size * 0.02, **warp)


def composition(draws: Draws) -> Shape:
    """A body with two to five things joined to it or cut out of it.

    Its own frame, with a mark on +x; only the identity maps it onto itself.
    """
    size = draws.uniform(0.05, 0.2)
    parts = [piece(draws, size)]
    for _ in range(draws.integer(1, 4)):
        off = draws.direction() * size * draws.uniform(0.2, 0.55)
        at = (float(off[0]), float(off[1]), float(off[2]))
        turn = draws.choice(
            (IDENTITY, ALONG_X, ALONG_Y, tuple(draws.rotation().reshape(-1).tolist())), (0.4, 0.2, 0.2, 0.2)
        )
        op = draws.choice(("union", "cut"), (0.75, 0.25))
        mirror = draws.choice(("", "y", "x"), (0.6, 0.3, 0.1))
        blend = size * draws.uniform(0.02, 0.2) if draws.chance(0.35) else 0.0
        scale = size * draws.uniform(0.3, 0.9) * (0.6 if op == "cut" else 1.0)
        part = piece(
            draws, scale, at=at, turn=turn, op=op, mirror=mirror, blend=blend, material=draws.integer(0, 2)
        )
        parts.append(part)
    # Something that fixes the azimuth, on +x.
    mark = size * draws.uniform(0.1, 0.25)
    parts.append(
        capsule(
            (0, 0, 0),
            (size * draws.uniform(0.5, 0.8), 0, size * draws.uniform(-0.3, 0.3)),
            mark,
            mark * 0.6,
            material=1,
        )
    )
    materials = [material(draws) for _ in range(3)]
    sheet = None
    if draws.chance(0.3):
        materials[0] = printed(materials[0], (size * 0.8, size * 0.8, size * 0.8), 0.0)
        sheet = labels.package(draws, materials[0].color)
    rests = (Rest(0.6), Rest(0.4, tuple(draws.rotation().reshape(-1).tolist())))
    return Shape(tuple(parts), tuple(materials), SymmetryGroup(), rests, sheet)


def stack(draws: Draws) -> Shape:
    """Blocks or discs piled up, turned by quarter turns. Upright; the widest edge of the lowest along y."""
    size = draws.uniform(0.05, 0.15)
    parts, z = [], 0.0
    round_ones = draws.chance(0.3)
    count = draws.integer(2, 4)
    width = 1.0
    for i in range(count):
        high = size * draws.uniform(0.15, 0.5)
        edges = (size * width * draws.uniform(0.4, 0.78), size * width, high)
        at = (0.0, 0.0, z + high / 2)
        if round_ones:
            parts.append(cylinder(size * width / 2, high, at, rounding=high * 0.05, material=i % 3))
        else:
            parts.append(box(edges, at, rounding=high * 0.05, material=i % 3))
        z += high
        width *= draws.uniform(0.55, 1.0)
    group = SymmetryGroup(fold=0, mirror=True) if round_ones else SymmetryGroup(fold=2, mirror=True)
    materials = tuple(palette.patterned(draws, palette.plastic(draws), about_z=round_ones) for _ in range(3))
    return Shape(tuple(parts), materials, group)
