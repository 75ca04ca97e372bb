"""Signed distances of primitives at the origin of their own frame.

Every function takes coordinates x, y, z of shape (G, N) and sizes of shape (G, 1) (G shapes side by side) and
returns (G, N): negative inside, exact or a lower bound of the distance, so that sphere tracing never overshoots
(J. C. Hart, "Sphere tracing", 1996). Lengths are in the unit of the coordinates.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Coordinates = tuple[Tensor, Tensor, Tensor]


def length2(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean length of (a, b); plain arithmetic, which is faster than `hypot` and equal on every device."""
    return torch.sqrt(a * a + b * b)


def azimuth(y: Tensor, x: Tensor) -> Tensor:
    """Angle of (x, y) in (-pi, pi].

    The built-in atan2 rounds differently at the end of a vector, so that a point would depend on its neighbors.
    """
    wide, high = x.abs(), y.abs()
    ratio = torch.minimum(wide, high) / torch.maximum(wide, high).clamp(min=1e-30)
    angle = torch.atan(ratio)
    angle = torch.where(high > wide, math.pi / 2 - angle, angle)
    angle = torch.where(x < 0, math.pi - angle, angle)
    return torch.where(y < 0, -angle, angle)


def _outside_inside(a: Tensor, b: Tensor) -> Tensor:
    """Distance to the corner region {a <= 0, b <= 0} of two orthogonal distances."""
    return length2(a.clamp(min=0), b.clamp(min=0)) + torch.maximum(a, b).clamp(max=0)


def box(point: Coordinates, size: list[Tensor]) -> Tensor:
    """Box with half edges (hx, hy, hz) and rounded edges: size = [hx, hy, hz, round]."""
    x, y, z = point
    hx, hy, hz, rounding = size
    dx, dy, dz = x.abs() - (hx - rounding), y.abs() - (hy - rounding), z.abs() - (hz - rounding)
    px, py, pz = dx.clamp(min=0), dy.clamp(min=0), dz.clamp(min=0)
    outside = torch.sqrt(px * px + py * py + pz * pz)
    return outside + torch.maximum(torch.maximum(dx, dy), dz).clamp(max=0) - rounding


def slab(point: Coordinates, size: list[Tensor]) -> Tensor:
    """Prism over a rounded rectangle: size = [hx, hy, hz, corner radius in xy, round of the rims]."""
    x, y, z = point
    hx, hy, hz, corner, rounding = size
    dx, dy = x.abs() - (hx - corner), y.abs() - (hy - corner)
    flat = _outside_inside(dx, dy) - (corner - rounding)
    return _outside_inside(flat, z.abs() - (hz - rounding)) - rounding


def ellipsoid(point: Coordinates, size: list[Tensor]) -> Tensor:
    """Ellipsoid with half axes size = [rx, ry, rz]; first-order outside, a lower bound inside."""
    x, y, z = point
    rx, ry, rz = size
    ax, ay, az = x / rx, y / ry, z / rz
    bx, by, bz = ax / rx, ay / ry, az / rz
    unit = torch.sqrt(ax * ax + ay * ay + az * az)
    gradient = torch.sqrt(bx * bx + by * by + bz * bz).clamp(min=1e-9)
    smallest = torch.minimum(torch.minimum(rx, ry), rz)
    # Inside a flat ellipsoid the first-order form grows faster than distance; this lower bound does not.
    return torch.where(unit < 1, (unit - 1) * smallest, unit * (unit - 1) / gradient)


def cylinder(point: Coordinates, size: list[Tensor]) -> Tensor:
    """Cylinder about z: size = [radius, half height, round]."""
    x, y, z = point
    radius, half, rounding = size
    return _outside_inside(length2(x, y) - (radius - rounding), z.abs() - (half - rounding)) - rounding


def cone(point: Coordinates, size: list[Tensor]) -> Tensor:
    """Capped cone about z: size = [radius below, radius above, half height, round]; exact."""
    x, y, z = point
    below, above, half, rounding = size
    below, above, half = below - rounding, above - rounding, half - rounding
    r = length2(x, y)
    cap_r = r - torch.minimum(r, torch.where(z < 0, below, above))
    cap_z = z.abs() - half
    kr, kz = above - below, 2 * half
    t = (((above - r) * kr + (half - z) * kz) / (kr * kr + kz * kz)).clamp(0, 1)
    side_r, side_z = r - above + kr * t, z - half + kz * t
    squared = torch.minimum(cap_r * cap_r + cap_z * cap_z, side_r * side_r + side_z * side_z)
    inside = (side_r < 0) & (cap_z < 0)
    return torch.where(inside, -1.0, 1.0) * torch.sqrt(squared) - rounding


def capsule(point: Coordinates, size: list[Tensor]) -> Tensor:
    """Hull of two spheres on z at -h and +h: size = [radius below, radius above, h]; needs |difference| < 2h."""
    x, y, z = point
    below, above, half = size
    r, z = length2(x, y), z + half
    slope = (below - above) / (2 * half)
    flank = torch.sqrt(1 - slope * slope)
    k = flank * z - slope * r
    at_below = length2(r, z) - below
    at_above = length2(r, z - 2 * half) - above
    at_side = r * flank + z * slope - below
    return torch.where(k < 0, at_below, torch.where(k > flank * 2 * half, at_above, at_side))


def arc(point: Coordinates, size: list[Tensor]) -> Tensor:
    """Bent round bar in the xy plane, centered on +x: size = [arc radius, bar radius, sin, cos of half angle]."""
    x, y, z = point
    ring, bar, sin, cos = size
    y = y.abs()
    beyond = cos * y > sin * x
    along = torch.where(beyond, sin * y + cos * x, length2(x, y))
    squared = x * x + y * y + z * z + ring * ring - 2 * ring * along
    return torch.sqrt(squared.clamp(min=0)) - bar


def frustum(point: Coordinates, size: list[Tensor]) -> Tensor:
    """Pyramid stump about z: size = [hx below, hy below, hx above, hy above, half height]; a lower bound."""
    x, y, z = point
    bx, by, ax, ay, half = size
    lx = torch.sqrt(4 * half * half + (bx - ax) ** 2)
    ly = torch.sqrt(4 * half * half + (by - ay) ** 2)
    up = z + half
    side_x = ((x.abs() - bx) * 2 * half + (bx - ax) * up) / lx
    side_y = ((y.abs() - by) * 2 * half + (by - ay) * up) / ly
    return torch.maximum(torch.maximum(side_x, side_y), z.abs() - half)


def polyline(a: Tensor, b: Tensor, vertices: Tensor) -> Tensor:
    """Signed distance in a plane to a chain of segments; inside is where a ray towards +a crosses it oddly often.

    Args:
        a: (G, N) first coordinate.
        b: (G, N) second coordinate.
        vertices: (G, S + 1, 2) the chain; repeat the first vertex at the end for a closed polygon.

    Returns:
        (G, N).
    """
    v = vertices.permute(1, 2, 0)[..., None]  # (S + 1, 2, G, 1)
    va, vb = v[:-1, 0], v[:-1, 1]
    ea, eb = v[1:, 0] - va, v[1:, 1] - vb
    norm = ea * ea + eb * eb
    wa, wb = a[None] - va, b[None] - vb
    t = ((wa * ea + wb * eb) / norm.clamp(min=1e-20)).clamp(0, 1)
    da, db = wa - ea * t, wb - eb * t
    squared = (da * da + db * db).amin(dim=0)
    slope = ea / torch.where(eb == 0, torch.full_like(eb, 1e-20), eb)
    spans = (v[:-1, 1] > b[None]) != (v[1:, 1] > b[None])
    crossed = spans & (wa < wb * slope)
    odd = crossed.sum(dim=0) % 2 == 1
    return torch.where(odd, -1.0, 1.0) * torch.sqrt(squared)


def revolve(point: Coordinates, size: list[Tensor], profile: Tensor) -> Tensor:
    """Solid of revolution about z: size = [round]; profile (G, S + 1, 2) of (r, z), open at the axis."""
    x, y, z = point
    return polyline(length2(x, y), z, profile) - size[0]


def extrude(point: Coordinates, size: list[Tensor], profile: Tensor) -> Tensor:
    """Prism over a polygon in xy: size = [half height, round]; profile (G, S + 1, 2), first vertex repeated.

    The outline grows by `round`, so that thin tools do not vanish.
    """
    x, y, z = point
    half, rounding = size
    return _outside_inside(polyline(x, y, profile), z.abs() - (half - rounding)) - rounding
