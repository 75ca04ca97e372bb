"""One object as plain numbers: parts, materials, label sheet, symmetry, resting poses.

An object is a list of parts joined in order. A part is a primitive in its own frame, optionally folded (mirrored
or repeated about z), rotated, warped, and combined with the parts before it. Families write these lists in
metres; `program` converts many of them to tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cupid_core.data.tabletop.material import Material
from cupid_core.data.tabletop.symmetry import SymmetryGroup

Vector = tuple[float, float, float]
Array = NDArray[np.float64]
IDENTITY: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Part:
    """One primitive of an object.

    Attributes:
        kind: name of the function in `primitives`.
        size: its sizes, metres.
        at: center in the object frame, metres.
        turn: rotation part -> object, row-major 3x3.
        op: "union", "cut" (removed from the parts before) or "keep" (intersection with it).
        blend: radius of the smooth transition, metres; 0 is a sharp edge.
        material: row in the object's list of materials.
        mirror: "", "x", "y" or "xy": the part appears on both sides of these planes.
        repeat: number of copies about the object's z axis; 1 is none.
        warp: "" or "bend" (curvature 1/m about z, spine along x), "taper" (growth of xy per metre of z), "twist"
            (radians per metre of z), "squash" (factor on y), in the part frame.
        amount: strength of the warp.
        reach: largest distance from the part's axis, metres; bounds the stretch of a warp.
        profile: vertices of an extruded or revolved outline, (S + 1, 2) metres.
    """

    kind: str
    size: tuple[float, ...]
    at: Vector = (0.0, 0.0, 0.0)
    turn: tuple[float, ...] = IDENTITY
    op: str = "union"
    blend: float = 0.0
    material: int = 0
    mirror: str = ""
    repeat: int = 1
    warp: str = ""
    amount: float = 0.0
    reach: float = 0.0
    profile: tuple[tuple[float, float], ...] = ()

    def signature(self) -> tuple[object, ...]:
        """What must be equal for two parts to be evaluated in one batch."""
        turned = self.turn != IDENTITY
        return (self.kind, turned, self.op, self.blend > 0, self.mirror, self.repeat, self.warp, len(self.profile))

    def cut(self, blend: float = 0.0) -> Part:
        """The same part, removed from the parts before it."""
        return replace(self, op="cut", blend=blend)

    def keep(self, blend: float = 0.0) -> Part:
        """The same part, intersected with the parts before it."""
        return replace(self, op="keep", blend=blend)


@dataclass(frozen=True)
class Rest:
    """A way the object lies on a table: relative weight and rotation world <- object, row-major 3x3."""

    weight: float
    turn: tuple[float, ...] = IDENTITY


UPRIGHT: tuple[Rest, ...] = (Rest(1.0),)
NONE = SymmetryGroup()


@dataclass(frozen=True)
class Shape:
    """One object, complete.

    Attributes:
        parts: in the order they are joined, metres, z up in the family's canonical orientation.
        materials: rows that `Part.material` points to.
        symmetry: transforms that map the geometry onto itself. Poses are defined up to it, so of all equal
            azimuths the one nearest to the camera is the canonical one.
        rests: resting poses with weights; the canonical orientation itself is the identity.
        sheet: printed label atlas (2 T, 3 T, 4) uint8 RGBA, or None.
        family: name of the family, filled in by the registry.
        print_symmetry: transforms that map the texture onto itself, a subgroup of `symmetry`; None: all of it.
        print_turn: radians about z by which the texture is rotated, an element of `symmetry`: on a symmetric body
            a label may face any of the equivalent directions.
    """

    parts: tuple[Part, ...]
    materials: tuple[Material, ...]
    symmetry: SymmetryGroup = NONE
    rests: tuple[Rest, ...] = UPRIGHT
    sheet: NDArray[np.uint8] | None = field(default=None, compare=False)
    family: str = ""
    print_symmetry: SymmetryGroup | None = None
    print_turn: float = 0.0


def about(axis: str, degrees: float) -> tuple[float, ...]:
    """Rotation about one axis ("x", "y" or "z"), row-major 3x3."""
    c, s = float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))
    if abs(c) < 1e-12:
        c = 0.0
    if abs(s) < 1e-12:
        s = 0.0
    if axis == "x":
        return (1.0, 0.0, 0.0, 0.0, c, -s, 0.0, s, c)
    if axis == "y":
        return (c, 0.0, s, 0.0, 1.0, 0.0, -s, 0.0, c)
    return (c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0)


def chain(*turns: tuple[float, ...]) -> tuple[float, ...]:
    """Product of rotations, the last one applied first."""
    matrix = np.eye(3)
    for turn in turns:
        matrix = matrix @ np.asarray(turn).reshape(3, 3)
    return tuple(float(value) for value in matrix.reshape(-1))


def towards(direction: Sequence[float]) -> tuple[float, ...]:
    """A rotation that maps the part's z axis onto `direction`."""
    z = np.asarray(direction, dtype=np.float64) / np.linalg.norm(direction)
    helper = np.array([1.0, 0.0, 0.0]) if abs(z[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    y = np.cross(z, helper)
    y /= np.linalg.norm(y)
    return tuple(float(value) for value in np.stack([np.cross(y, z), y, z], axis=1).reshape(-1))


ALONG_X = about("y", 90.0)
ALONG_Y = about("x", -90.0)


def box(size: Vector, at: Vector = (0.0, 0.0, 0.0), *, rounding: float = 0.0, **more: object) -> Part:
    """Box with full edges `size`."""
    half = tuple(edge / 2 for edge in size)
    return Part("box", (*half, min(rounding, *half)), at, **more)  # type: ignore[arg-type]


def slab(
    size: Vector, corner: float, at: Vector = (0.0, 0.0, 0.0), *, rounding: float = 0.0, **more: object
) -> Part:
    """Upright prism over a rounded rectangle with full edges `size`."""
    hx, hy, hz = (edge / 2 for edge in size)
    corner = min(corner, hx, hy)
    return Part("slab", (hx, hy, hz, corner, min(rounding, corner, hz)), at, **more)  # type: ignore[arg-type]


def ellipsoid(radii: Vector, at: Vector = (0.0, 0.0, 0.0), **more: object) -> Part:
    """Ellipsoid with the given half axes."""
    return Part("ellipsoid", radii, at, **more)  # type: ignore[arg-type]


def cylinder(
    radius: float, height: float, at: Vector = (0.0, 0.0, 0.0), *, rounding: float = 0.0, **more: object
) -> Part:
    """Cylinder about its z axis."""
    return Part("cylinder", (radius, height / 2, min(rounding, radius, height / 2)), at, **more)  # type: ignore[arg-type]


def cone(
    below: float,
    above: float,
    height: float,
    at: Vector = (0.0, 0.0, 0.0),
    *,
    rounding: float = 0.0,
    **more: object,
) -> Part:
    """Capped cone about its z axis with the given end radii."""
    rounding = min(rounding, below * 0.9, above * 0.9, height / 2)
    return Part("cone", (below, above, height / 2, max(rounding, 0.0)), at, **more)  # type: ignore[arg-type]


def capsule(start: Vector, end: Vector, below: float, above: float | None = None, **more: object) -> Part:
    """Round bar from `start` to `end`, with a radius at either end."""
    a, b = np.asarray(start), np.asarray(end)
    half = float(np.linalg.norm(b - a)) / 2
    above = below if above is None else above
    limit = 1.9 * half
    above = float(np.clip(above, below - limit, below + limit))
    middle = (a + b) / 2
    at = (float(middle[0]), float(middle[1]), float(middle[2]))
    return Part("capsule", (below, above, half), at, towards(b - a), **more)  # type: ignore[arg-type]


def arc(ring: float, bar: float, half_angle_deg: float, at: Vector = (0.0, 0.0, 0.0), **more: object) -> Part:
    """Bent bar in the part's xy plane, centered on +x, from -half_angle to +half_angle."""
    angle = np.radians(half_angle_deg)
    return Part("arc", (ring, bar, float(np.sin(angle)), float(np.cos(angle))), at, **more)  # type: ignore[arg-type]


def frustum(
    below: tuple[float, float],
    above: tuple[float, float],
    height: float,
    at: Vector = (0.0, 0.0, 0.0),
    **more: object,
) -> Part:
    """Pyramid stump about z with full edges below and above."""
    size = (below[0] / 2, below[1] / 2, above[0] / 2, above[1] / 2, height / 2)
    return Part("frustum", size, at, **more)  # type: ignore[arg-type]


def revolve(
    profile: Sequence[tuple[float, float]], at: Vector = (0.0, 0.0, 0.0), *, rounding: float = 0.0, **more: object
) -> Part:
    """Solid of revolution about z from (r, z) vertices that start and end on the axis, bottom first."""
    vertices = tuple((float(r), float(z)) for r, z in profile)
    return Part("revolve", (rounding,), at, profile=vertices, **more)  # type: ignore[arg-type]


def extrude(
    outline: Sequence[tuple[float, float]],
    height: float,
    at: Vector = (0.0, 0.0, 0.0),
    *,
    rounding: float = 0.0,
    **more: object,
) -> Part:
    """Prism over a closed polygon in the part's xy plane; the outline grows by `rounding`."""
    vertices = tuple((float(a), float(b)) for a, b in outline)
    size = (height / 2, min(rounding, height / 2))
    return Part("extrude", size, at, profile=(*vertices, vertices[0]), **more)  # type: ignore[arg-type]


def smooth(
    points: Sequence[tuple[float, float]], count: int, *, closed: bool = False
) -> list[tuple[float, float]]:
    """Resample control points to `count` vertices on a Catmull-Rom curve, evenly along it."""
    control = np.asarray(points, dtype=np.float64)
    if closed:
        padded = np.vstack([control[-1], control, control[0], control[1]])
    else:
        padded = np.vstack([2 * control[0] - control[1], control, 2 * control[-1] - control[-2]])
    fine = []
    for p0, p1, p2, p3 in zip(padded[:-3], padded[1:-2], padded[2:-1], padded[3:], strict=True):
        t = np.linspace(0, 1, 16, endpoint=False)[:, None]
        fine.append(
            0.5
            * (
                2 * p1
                + (p2 - p0) * t
                + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
                + (3 * p1 - p0 - 3 * p2 + p3) * t**3
            )
        )
    curve = np.vstack([*fine, control[:1] if closed else control[-1:]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    stops = np.linspace(0, along[-1], count + 1 if closed else count)
    sampled = np.stack([np.interp(stops, along, curve[:, 0]), np.interp(stops, along, curve[:, 1])], axis=1)
    return [(float(a), float(b)) for a, b in (sampled[:-1] if closed else sampled)]
