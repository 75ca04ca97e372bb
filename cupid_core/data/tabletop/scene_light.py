"""Lights a whole scene: the nearest object of each pixel, common light, shadows between objects.

Works in the table frame, in units of `UNIT_M`, so that the constants of `lighting` (made for objects of size 1)
fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cupid_core.color_space import srgb_to_linear
from cupid_core.data.tabletop import grids
from cupid_core.data.tabletop.backdrop import backdrop, draw_table
from cupid_core.data.tabletop.cameras import Views
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.layout import Placed, SceneCamera
from cupid_core.data.tabletop.lighting import build_lights, draw_light, shade
from cupid_core.data.tabletop.objects import Objects
from cupid_core.data.tabletop.program import Program
from cupid_core.data.tabletop.rendering import surface_colors
from cupid_core.data.tabletop.trace import Hits, Rays, rays_of

UNIT_M = 0.2


@dataclass(frozen=True)
class TracedObject:
    """One object as traced by the scene's camera: its program (one row), its view in canonical units, its hits."""

    program: Program
    view: Views
    hits: Hits


@dataclass(frozen=True)
class LitScene:
    """A lit scene.

    Attributes:
        linear: (3, H, W) linear color.
        depth: (H, W) metres; 0 where nothing is hit.
        labels: (H, W) uint8.
        cosine: (H, W) |cosine| between normal and ray, 1 off everything.
        gloss: (H, W) 0 matt .. 1 mirror.
    """

    linear: Tensor
    depth: Tensor
    labels: Tensor
    cosine: Tensor
    gloss: Tensor


def light_scene(
    draws: Draws, objects: Objects, traced: Sequence[TracedObject], placed: Sequence[Placed], camera: SceneCamera
) -> LitScene:
    """Compose and light a scene."""
    width, height = camera.width, camera.height
    world = _world_view(camera)
    rays = rays_of(world, width, height)
    pixels = width * height
    depth = torch.full((pixels,), 1e9)
    labels = torch.zeros(pixels, dtype=torch.uint8)
    layers = {name: torch.zeros(3, 1, pixels) for name in ("points", "normal", "albedo", "gloss")}
    for row, item in enumerate(traced):
        scale = float(objects.scale[row])
        hits = item.hits
        pixel, metres = hits.index[hits.valid], hits.depth[hits.valid] * scale
        normal = item.program.normal(hits.points, 0.004)
        albedo, gloss = surface_colors(objects.surfaces, item.program, hits, normal, torch.tensor([row]))
        front = metres < depth[pixel]
        where = pixel[front]
        depth[where], labels[where] = metres[front], row + 1
        turn, shift = placed[row].rotation, placed[row].translation
        points = (turn @ hits.points[:, hits.valid][:, front] * scale + shift[:, None]) / UNIT_M
        layers["points"][:, 0, where] = points
        layers["normal"][:, 0, where] = turn @ normal[:, hits.valid][:, front]
        layers["albedo"][:, 0, where] = albedo[:, hits.valid][:, front]
        layers["gloss"][:, 0, where] = gloss[:, hits.valid][:, front]
    lights = build_lights([draw_light(draws)], world.rotation, world.up)
    field = _Field(objects, placed)
    table = draw_table(draws)
    linear = backdrop(rays, [table], torch.zeros(1), lights, field)
    on = labels > 0
    lit = shade(
        layers["points"][:, :, on],
        layers["normal"][:, :, on],
        -rays.direction[:, :, on],
        (srgb_to_linear(layers["albedo"][:, :, on]), layers["gloss"][:, :, on]),
        lights,
        field=field,
    )
    linear[:, :, on] = lit
    flat_depth, cosine = _table_depth(rays, depth, on)
    facing = -(layers["normal"] * rays.direction).sum(dim=0)[0]
    cosine = torch.where(on, facing.abs(), cosine)
    shine = layers["gloss"][2, 0] * (1 - layers["gloss"][1, 0]) + (layers["gloss"][1, 0] < 0.2).float() * 0.6
    shape = (height, width)
    return LitScene(
        linear[:, 0].view(3, *shape),
        flat_depth.view(shape),
        labels.view(shape),
        cosine.view(shape),
        torch.where(on, shine, torch.zeros_like(shine)).view(shape),
    )


class _Field:
    """Distance to the nearest object of the scene, in units of `UNIT_M`, at points of the table frame."""

    def __init__(self, objects: Objects, placed: Sequence[Placed]) -> None:
        self.objects, self.placed = objects, placed

    def __call__(self, points: Tensor) -> Tensor:
        nearest = torch.full(points.shape[1:], 10.0)
        flat = points.reshape(3, -1) * UNIT_M
        for row, item in enumerate(self.placed):
            scale = float(self.objects.scale[row])
            local = item.rotation.T @ (flat - item.translation[:, None]) / scale
            found = grids.sample_distance(self.objects.sdf[row : row + 1, None], local[:, None])
            nearest = torch.minimum(nearest, found.view_as(nearest) * scale / UNIT_M)
        return nearest


def _world_view(camera: SceneCamera) -> Views:
    matrix = camera.T_camera_table
    return Views(
        matrix[None, :3, :3],
        matrix[None, :3, 3] / UNIT_M,
        camera.normalized()[None],
        torch.tensor([[0.0, 0.0, 1.0]]),
        torch.zeros(1),
    )


def _table_depth(rays: Rays, depth: Tensor, on: Tensor) -> tuple[Tensor, Tensor]:
    """Depth of objects or table (N,), metres, 0 beyond, and |cosine| between the table and the rays (N,)."""
    slope = rays.direction[2, 0]
    travel = -rays.origin[2, 0] / torch.where(slope.abs() < 1e-4, torch.full_like(slope, 1e-4), slope)
    table = torch.where((travel > 0) & (travel < 40), travel * rays.forward[0] * UNIT_M, torch.zeros_like(travel))
    return torch.where(on, depth, table), slope.abs()
