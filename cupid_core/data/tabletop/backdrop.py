"""The background of an object: a textured table with contact shadow, and a wall beyond its edge.

It is visible only where a mask includes background, and in whole scenes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cupid_core.color_space import srgb_to_linear
from cupid_core.data.tabletop import palette, textures
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.lighting import Field, Lights, dot, soft_shadow
from cupid_core.data.tabletop.material import Material
from cupid_core.data.tabletop.trace import Rays

# Distance of the table's edge from the object, canonical units.
TABLE_REACH = 12.0


@dataclass(frozen=True)
class TableDraw:
    """Surface of the table and sRGB color of the wall behind it."""

    material: Material
    wall: tuple[float, float, float]


def draw_table(draws: Draws) -> TableDraw:
    """Draw wood, laminate, cloth, stone or something colored."""
    kind = draws.integer(0, 5)
    if kind <= 2:
        across = draws.choice(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))
        material = palette.wood(draws, across)
    elif kind == 3:
        material = palette.cardboard(draws, palette.gray(draws))
    elif kind == 4:
        color = palette.muted(draws)
        material = palette.cardboard(
            draws, color, pattern="mottle", second=palette.near(draws, color, 0.25), amount=0.7
        )
    else:
        color = palette.any_color(draws)
        pattern = draws.choice(("checker", "stripes", "speckle"))
        material = palette.cardboard(draws, color, pattern=pattern, second=palette.any_color(draws), amount=0.5)
    return TableDraw(material, palette.muted(draws) if draws.chance(0.6) else palette.gray(draws))


def backdrop(rays: Rays, tables: Sequence[TableDraw], level: Tensor, lights: Lights, field: Field) -> Tensor:
    """Linear color (3, V, N) of table and wall along rays that miss the object.

    Args:
        rays: N rays of V views, object frame.
        tables: V tables.
        level: (V,) height of the table along `lights.up`.
        lights: of V views.
        field: distance (V, N) to the object at points (3, V, N).
    """
    device = level.device
    up = lights.up.T[..., None]
    slope = dot(rays.direction, up)
    climb = level[:, None] - dot(rays.origin, up)
    travel = climb / torch.where(slope.abs() < 1e-4, torch.full_like(slope, 1e-4), slope)
    on_table = (travel > 0) & (travel < TABLE_REACH)
    points = rays.at(travel.clamp(0, TABLE_REACH))
    rows = torch.tensor([t.material.row() for t in tables], dtype=torch.float32, device=device)
    group, count = slope.shape
    spread = rows[:, None].expand(group, count, -1).reshape(group * count, -1)
    flat = _in_plane(points, lights.up).reshape(3, -1)
    albedo = srgb_to_linear(textures.solid_color(spread, flat, textures.smooth_noise().to(device)).clamp(0, 1))
    albedo = albedo.view(3, group, count)
    distance = field(points)
    contact = 0.35 + 0.65 * (distance / 0.22).clamp(0, 1)
    lamp = lights.lamps[:, 0].T[..., None]
    normal = up.expand_as(points)
    lit = soft_shadow(points, normal, lamp, lights.softness, field)
    light = lights.sky.T[..., None] * contact
    for number in range(lights.lamps.shape[1]):
        cosine = dot(up, lights.lamps[:, number].T[..., None]).clamp(min=0)
        light = light + lights.colors[:, number].T[..., None] * cosine * (lit if number == 0 else 1.0)
    wall = srgb_to_linear(torch.tensor([t.wall for t in tables], dtype=torch.float32, device=device)).T[..., None]
    wall = wall * lights.sky.T[..., None] * (0.8 + 0.2 * slope)
    return torch.where(on_table, albedo * light, wall.expand_as(albedo))


def _in_plane(points: Tensor, up: Tensor) -> Tensor:
    """Coordinates (3, V, N) of points along two axes of the table and its normal."""
    helper = torch.where(up[:, :1].abs() < 0.9, up.new_tensor([[1.0, 0.0, 0.0]]), up.new_tensor([[0.0, 1.0, 0.0]]))
    side = torch.linalg.cross(up, helper.expand_as(up))
    side = side / torch.linalg.norm(side, dim=1, keepdim=True)
    front = torch.linalg.cross(up, side)
    axes = [a.T[..., None] for a in (side, front, up)]
    return torch.stack([dot(points, axis.expand_as(points)) for axis in axes])
