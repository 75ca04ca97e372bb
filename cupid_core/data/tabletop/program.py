"""Many objects of equal structure as one batched signed-distance function on one device.

Objects whose parts have the same kinds, joints and warps differ in numbers only, so they are evaluated in one
batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cupid_core.data.tabletop import primitives
from cupid_core.data.tabletop.primitives import Coordinates
from cupid_core.data.tabletop.shape import IDENTITY, Part, Shape

PRIMITIVES = {
    "box": primitives.box,
    "slab": primitives.slab,
    "ellipsoid": primitives.ellipsoid,
    "cylinder": primitives.cylinder,
    "cone": primitives.cone,
    "capsule": primitives.capsule,
    "arc": primitives.arc,
    "frustum": primitives.frustum,
}
OUTLINES = {"revolve": primitives.revolve, "extrude": primitives.extrude}
# Points evaluated at a time on a CPU: intermediate results then stay in its cache.
CPU_CHUNK = 16384


@dataclass(frozen=True)
class PartTensors:
    """One part of G objects: the structure they share, and their numbers as columns (G, 1)."""

    plan: Part
    turned: bool
    blended: bool
    numbers: Tensor  # (G, P): at, turn, blend, amount, reach, size
    columns: tuple[Tensor, ...]  # the same, P times (G, 1)
    profile: Tensor  # (G, S + 1, 2)

    def select(self, rows: Tensor) -> PartTensors:
        """The part of these objects."""
        numbers = self.numbers[rows]
        columns = numbers[:, :, None].unbind(1)
        return replace(self, numbers=numbers, columns=columns, profile=self.profile[rows])


@dataclass(frozen=True)
class Program:
    """G objects of equal structure.

    Attributes:
        parts: in the order they are joined.
        scale: (G, 1) metres per canonical unit.
        center: (3, G, 1) metres, the point of the metric frame that becomes the canonical origin.
    """

    parts: tuple[PartTensors, ...]
    scale: Tensor
    center: Tensor

    @classmethod
    def build(cls, shapes: Sequence[Shape], device: torch.device | str = "cpu") -> Program:
        """Stack shapes of one signature, in metric coordinates (scale 1, center 0)."""
        parts = []
        for column in zip(*(shape.parts for shape in shapes), strict=True):
            rows = [(*p.at, *p.turn, p.blend, p.amount, p.reach, *p.size) for p in column]
            profile = torch.tensor([p.profile for p in column], dtype=torch.float32, device=device)
            numbers = torch.tensor(rows, dtype=torch.float32, device=device)
            turned, blended = column[0].turn != IDENTITY, column[0].blend > 0
            columns = numbers[:, :, None].unbind(1)
            parts.append(PartTensors(column[0], turned, blended, numbers, columns, profile))
        count = len(shapes)
        scale = torch.ones(count, 1, device=device)
        return cls(tuple(parts), scale, torch.zeros(3, count, 1, device=device))

    def normalized(self, scale: Tensor, center: Tensor) -> Program:
        """The same objects in canonical units: p_metric = scale * p_canonical + center.

        Args:
            scale: (G,) metres per canonical unit.
            center: (3, G) metres.
        """
        return replace(self, scale=scale[:, None], center=center[..., None])

    def select(self, rows: Tensor) -> Program:
        """The objects of these rows (repeats allowed), e.g. one per view."""
        return Program(tuple(part.select(rows) for part in self.parts), self.scale[rows], self.center[:, rows])

    def distance(self, points: Tensor) -> Tensor:
        """Signed distance (G, N) at points (3, G, N), canonical units."""
        return self._chunked(points, with_slot=False)[0]

    def distance_and_slot(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Signed distance (G, N) and the material row (G, N, int64) of the nearest part at points (3, G, N)."""
        return self._chunked(points, with_slot=True)

    def normal(self, points: Tensor, step: float | Tensor) -> Tensor:
        """Unit outward normals (3, G, N), from distances on tetrahedra of half edge `step` (one, or (G, 1))."""
        return self.distance_and_normal(points, step)[1]

    def distance_and_normal(self, points: Tensor, step: float | Tensor) -> tuple[Tensor, Tensor]:
        """Signed distance (G, N) and `normal` (3, G, N) in one evaluation."""
        corners = points.new_tensor([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1], [0, 0, 0]])
        edge = step[..., None] if isinstance(step, Tensor) else step
        around = points[:, :, None] + corners.T[:, None, :, None] * edge  # (3, G, 5, N)
        d = self.distance(around.flatten(2)).view(points.shape[1], 5, -1)
        gradient = torch.stack(
            [
                d[:, 0] - d[:, 1] - d[:, 2] + d[:, 3],
                d[:, 2] - d[:, 0] - d[:, 1] + d[:, 3],
                d[:, 1] - d[:, 0] - d[:, 2] + d[:, 3],
            ]
        )
        norm = torch.sqrt(gradient[0] ** 2 + gradient[1] ** 2 + gradient[2] ** 2).clamp(min=1e-12)
        return d[:, 4], gradient / norm

    def metric(self, points: Tensor) -> Tensor:
        """Canonical points (3, G, N) in the family's own metric frame, metres."""
        return points * self.scale + self.center

    def _chunked(self, points: Tensor, *, with_slot: bool) -> tuple[Tensor, Tensor]:
        group, count = points.shape[1:]
        width = max(CPU_CHUNK // max(group, 1), 512)
        if points.device.type != "cpu" or count <= width:
            return self._evaluate(points, with_slot)
        starts = range(0, count, width)
        pieces = [self._evaluate(points[:, :, start : start + width], with_slot) for start in starts]
        return torch.cat([d for d, _ in pieces], dim=1), torch.cat([s for _, s in pieces], dim=1)

    def _evaluate(self, points: Tensor, with_slot: bool) -> tuple[Tensor, Tensor]:
        metric = points * self.scale + self.center
        here = (metric[0], metric[1], metric[2])
        total = _part_distance(self.parts[0], here)
        slot = torch.empty(0, dtype=torch.int64, device=points.device)
        if with_slot:
            slot = torch.full(total.shape, self.parts[0].plan.material, device=points.device)
        for part in self.parts[1:]:
            distance = _part_distance(part, here)
            if part.plan.op == "cut":
                distance = -distance
            if with_slot:
                nearer = distance < total if part.plan.op == "union" else distance > total
                slot = torch.where(nearer, torch.full_like(slot, part.plan.material), slot)
            total = _join(part, total, distance)
        return total / self.scale, slot


def _join(part: PartTensors, total: Tensor, distance: Tensor) -> Tensor:
    """Union or intersection, with the quadratic smooth minimum where the part is blended."""
    sign = 1.0 if part.plan.op == "union" else -1.0
    if not part.blended:
        return torch.minimum(total, distance) if sign > 0 else torch.maximum(total, distance)
    blend = part.columns[12]
    overlap = (blend - (total - distance).abs()).clamp(min=0)
    nearest = torch.minimum(total, distance) if sign > 0 else torch.maximum(total, distance)
    return nearest - sign * overlap * overlap / (4 * blend)


def _part_distance(part: PartTensors, point: Coordinates) -> Tensor:
    plan, column = part.plan, part.columns
    x, y, z = point
    if "x" in plan.mirror:
        x = x.abs()
    if "y" in plan.mirror:
        y = y.abs()
    if plan.repeat > 1:
        sector = 2 * math.pi / plan.repeat
        turn = torch.round(primitives.azimuth(y, x) / sector) * sector
        cos, sin = torch.cos(turn), torch.sin(turn)
        x, y = cos * x + sin * y, cos * y - sin * x
    x, y, z = x - column[0], y - column[1], z - column[2]
    if part.turned:
        r = column[3:12]  # part -> object, so its transpose goes from object to part
        x, y, z = (
            r[0] * x + r[3] * y + r[6] * z,
            r[1] * x + r[4] * y + r[7] * z,
            r[2] * x + r[5] * y + r[8] * z,
        )
    shrink: Tensor | None = None
    floor: Tensor | None = None
    if plan.warp == "bend":
        (x, y, z), shrink, floor = _straighten((x, y, z), column[13], column[14])
    elif plan.warp:
        (x, y, z), shrink = _warp(plan.warp, (x, y, z), column[13], column[14])
    size = list(column[15:])
    if plan.kind in PRIMITIVES:
        distance = PRIMITIVES[plan.kind]((x, y, z), size)
    else:
        distance = OUTLINES[plan.kind]((x, y, z), size, part.profile)
    distance = distance if shrink is None else distance * shrink
    return distance if floor is None else torch.maximum(distance, floor)


def _straighten(point: Coordinates, curvature: Tensor, reach: Tensor) -> tuple[Coordinates, Tensor, Tensor]:
    """Undo a bend about z; returns straight coordinates, a factor for distances, and a floor under them.

    Straightening stretches the inside of the bend, and makes arcs of what are chords far from the spine's
    middle; the factor undoes both. The bent part lies in a ring of half width `reach`, whose distance is the
    floor.
    """
    x, y, z = point
    radius = 1 / curvature
    arm = primitives.length2(x, radius - y).clamp(min=1e-6)
    angle = primitives.azimuth(x, radius - y)
    half = (angle / 2).abs().clamp(min=1e-4)
    shrink = (arm / radius).clamp(min=0.05, max=1.0) * torch.sin(half) / half
    return (angle * radius, radius - arm, z), shrink, (arm - radius).abs() - reach


def _warp(name: str, point: Coordinates, amount: Tensor, reach: Tensor) -> tuple[Coordinates, Tensor]:
    """Undo a deformation; returns the straight coordinates and the factor that keeps distances a lower bound."""
    x, y, z = point
    if name == "squash":
        return (x, y / amount, z), amount.clamp(max=1.0)
    if name == "twist":
        angle = amount * z
        cos, sin = torch.cos(angle), torch.sin(angle)
        rate = amount * reach
        return (cos * x + sin * y, cos * y - sin * x, z), 1 / torch.sqrt(1 + rate * rate)
    growth = (1 + amount * z).clamp(min=0.15, max=4.0)
    slant = amount * reach / growth
    return (x / growth, y / growth, z), growth.clamp(max=1.0) / torch.sqrt(1 + slant * slant)
