"""Symmetry groups of objects that stand on tables, and their fundamental domain.

A pose is only defined up to the symmetry of the object, texture included. So cameras are sampled in the
fundamental domain of the group, and textures are evaluated at points folded into it, which makes the stated
symmetry exact by construction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cupid_core.data.tabletop.primitives import azimuth

CONTINUOUS = 0


@dataclass(frozen=True)
class SymmetryGroup:
    """The transforms that map an object onto itself, about its canonical axes.

    Attributes:
        fold: rotations by 360/fold degrees about z; 1: none; 0 (`CONTINUOUS`): every angle.
        mirror: the plane y = 0 is a mirror plane (with `fold`, so are its rotated copies).
        flip: the half turn about x, (x, y, z) -> (x, -y, -z), which turns the object upside down.
    """

    fold: int = 1
    mirror: bool = False
    flip: bool = False

    def as_tuple(self) -> tuple[int, int, int]:
        """(fold, mirror, flip), as stored in a batch."""
        return self.fold, int(self.mirror), int(self.flip)


def to_fundamental_domain(points: Tensor, groups: Tensor, *, with_mirror: bool) -> tuple[Tensor, Tensor]:
    """Find for every point the group element that maps it into the fundamental domain.

    Args:
        points: (3, N) points in the object frame.
        groups: (N, 3) integer rows (fold, mirror, flip), one per point.
        with_mirror: also use the mirror plane; not for cameras, because a reflection is no rigid motion.

    Returns:
        (3, N) the points moved into the domain (azimuth within +-180/fold degrees, z >= 0 where flip holds, y >= 0
        where a mirror is used), and (3, 3, N) the orthogonal matrices that moved them.
    """
    fold, mirror, flip = groups[:, 0], groups[:, 1] > 0, groups[:, 2] > 0
    x, y, z = points[0], points[1], points[2]
    one = torch.ones_like(x)
    upside = torch.where(flip & (z < 0), -one, one)
    y, z = y * upside, z * upside
    angle = azimuth(y, x)
    sector = 2 * math.pi / fold.clamp(min=1).to(points.dtype)
    turn = torch.where(fold == CONTINUOUS, angle, torch.round(angle / sector) * sector)
    turn = torch.where(fold == 1, torch.zeros_like(turn), turn)
    cos, sin = torch.cos(turn), torch.sin(turn)
    x, y = cos * x + sin * y, cos * y - sin * x
    y = torch.where(fold == CONTINUOUS, torch.zeros_like(y), y)
    side = torch.where(mirror & (y < 0), -one, one) if with_mirror else one
    zero = torch.zeros_like(x)
    matrix = torch.stack(
        [
            torch.stack([cos, sin * upside, zero]),
            torch.stack([-sin * side, cos * upside * side, zero]),
            torch.stack([zero, zero, upside]),
        ]
    )
    return torch.stack([x, y * side, z]), matrix


def rotations_about_z(angle: Tensor) -> Tensor:
    """Rotations (3, 3, N) by angles (N,) in radians about z."""
    cos, sin = torch.cos(angle), torch.sin(angle)
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack(
        [torch.stack([cos, -sin, zero]), torch.stack([sin, cos, zero]), torch.stack([zero, zero, one])]
    )


def elements(group: SymmetryGroup, steps: int = 12) -> Tensor:
    """All rotations of the group as (M, 3, 3) matrices; a continuous group is sampled in `steps` angles.

    Mirrors are left out: they are no rigid motions. Use it for symmetry-aware rotation errors.
    """
    count = steps if group.fold == CONTINUOUS else group.fold
    rotations = []
    for i in range(count):
        c, s = math.cos(2 * math.pi * i / count), math.sin(2 * math.pi * i / count)
        about_z = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        rotations.append(about_z)
        if group.flip:
            rotations.append(about_z @ torch.diag(torch.tensor([1.0, -1.0, -1.0])))
    return torch.stack(rotations)
