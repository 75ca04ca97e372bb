"""Placement of the objects on the table of a scene, and of its camera. Units: metres.

The table frame has its origin on the table, z up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.objects import Objects
from cupid_core.data.tabletop.shape import about

TRIES = 60


@dataclass(frozen=True)
class Placed:
    """T_table_object of one object: rotation (3, 3), translation (3,); ground radius, metres."""

    rotation: Tensor
    translation: Tensor
    radius: float


@dataclass(frozen=True)
class SceneCamera:
    """The camera of a scene: pixel K (3, 3), T_camera_table (4, 4), image size."""

    K: Tensor
    T_camera_table: Tensor
    width: int
    height: int

    def normalized(self) -> Tensor:
        """K for coordinates in [0, 1] over width and height."""
        size = torch.tensor([[self.width], [self.height], [1.0]])
        half = torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.0, 0.5], [0.0, 0.0, 0.0]])
        return (self.K + half) / size


def place_objects(draws: Draws, objects: Objects) -> list[Placed]:
    """Place every object in one of its resting poses at a free place on the table."""
    taken: list[tuple[float, float, float]] = []
    placed = []
    for row, shape in enumerate(objects.shapes):
        rest = draws.choice(shape.rests, [r.weight for r in shape.rests]).turn
        yaw = torch.tensor(about("z", draws.uniform(-180, 180))).view(3, 3)
        rotation = yaw @ torch.tensor(rest, dtype=torch.float32).view(3, 3)
        cloud = objects.surface[row][objects.surface_valid[row]] @ rotation.T * float(objects.scale[row])
        middle = (cloud.amin(dim=0) + cloud.amax(dim=0)) / 2
        radius = float(torch.linalg.norm((cloud - middle)[:, :2], dim=1).max())
        x, y = _free_place(draws, radius, taken)
        taken.append((x, y, radius))
        floor = -float(cloud[:, 2].min())
        translation = torch.tensor([x - float(middle[0]), y - float(middle[1]), floor])
        placed.append(Placed(rotation, translation, radius))
    return placed


def _free_place(draws: Draws, radius: float, taken: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """A place for a disc of this radius that hardly overlaps the others; the search widens until there is one."""
    for attempt in range(TRIES):
        reach = 0.12 + 0.006 * attempt + 0.5 * radius
        x, y = draws.uniform(-reach, reach) * 1.3, draws.uniform(-reach, reach)
        if all(math.hypot(x - a, y - b) > 0.85 * (radius + r) + 0.01 for a, b, r in taken):
            return x, y
    return 1.5 * (len(taken) + 1) * max(radius, 0.1), 0.0


def draw_camera(draws: Draws, width: int, height: int, placed: Sequence[Placed]) -> SceneCamera:
    """A camera with all objects in view: focal length of common RGB-D cameras, 30-65 degrees above the table."""
    focal = width * draws.uniform(0.85, 1.1)
    k = torch.tensor(
        [
            [focal, 0.0, width / 2 - 0.5 + draws.uniform(-0.02, 0.02) * width],
            [0.0, focal, height / 2 - 0.5 + draws.uniform(-0.02, 0.02) * height],
            [0.0, 0.0, 1.0],
        ]
    )
    elevation, roll = math.radians(draws.uniform(30, 65)), math.radians(draws.uniform(-6, 6))
    ce, se, cr, sr = math.cos(elevation), math.sin(elevation), math.cos(roll), math.sin(roll)
    level = torch.tensor([[0.0, 1.0, 0.0], [se, 0.0, -ce], [-ce, 0.0, -se]])
    tilt = torch.tensor([[cr, sr, 0.0], [-sr, cr, 0.0], [0.0, 0.0, 1.0]])
    rotation = tilt @ level
    target = torch.stack([p.translation for p in placed]).mean(dim=0)
    distance = draws.uniform(0.5, 0.7)
    for _ in range(40):
        translation = -rotation @ target + torch.tensor([0.0, 0.0, distance])
        if all(_inside(p, rotation, translation, k=k, size=(width, height)) for p in placed):
            break
        distance *= 1.06
    matrix = torch.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, translation
    return SceneCamera(k, matrix, width, height)


def _inside(placed: Placed, rotation: Tensor, translation: Tensor, *, k: Tensor, size: tuple[int, int]) -> bool:
    """Whether the object's center projects well inside the image."""
    x, y, z = (rotation @ placed.translation + translation).tolist()
    if z < 0.25:
        return False
    reach = 0.7 * placed.radius / z * float(k[0, 0])
    u, v = x / z * float(k[0, 0]) + float(k[0, 2]), y / z * float(k[1, 1]) + float(k[1, 2])
    return bool(reach < u < size[0] - reach and reach < v < size[1] - reach)
