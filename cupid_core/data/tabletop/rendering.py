"""Renders single objects: ray tracing, surface colors, lighting, and the table in the background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.color_space import srgb_to_linear
from cupid_core.data.tabletop import grids
from cupid_core.data.tabletop.backdrop import TableDraw, backdrop
from cupid_core.data.tabletop.cameras import Views
from cupid_core.data.tabletop.lighting import LightDraw, build_lights, shade
from cupid_core.data.tabletop.material import METALLIC, REFLECTANCE
from cupid_core.data.tabletop.objects import Objects
from cupid_core.data.tabletop.program import Program
from cupid_core.data.tabletop.textures import SurfacePoints, Surfaces
from cupid_core.data.tabletop.trace import Hits, rays_of, trace

# Pixels traced together: few on a CPU, so that they stay in its cache. An accelerator needs long vectors.
CPU_PIXELS = 4 * 128 * 128
ACCELERATOR_VIEWS = 256


@dataclass(frozen=True)
class Surroundings:
    """Light and table of one view."""

    light: LightDraw
    table: TableDraw


@dataclass(frozen=True)
class Rendered:
    """Images of B views: (B, C, S, S) linear colors and geometry."""

    lit: Tensor
    behind: Tensor
    mask: Tensor
    depth: Tensor
    normal: Tensor
    xyz: Tensor


def render(objects: Objects, owner: Tensor, views: Views, settings: Sequence[Surroundings], size: int) -> Rendered:
    """Render B views, those of objects of equal structure together."""
    device, count = owner.device, len(owner)
    chunk = max(1, CPU_PIXELS // size**2) if device.type == "cpu" else ACCELERATOR_VIEWS
    out = {
        name: torch.zeros(count, channels, size * size, device=device)
        for name, channels in (("lit", 3), ("behind", 3), ("mask", 1), ("depth", 1), ("normal", 3), ("xyz", 3))
    }
    for rows, program in objects.programs:
        position = torch.full((len(objects.shapes),), -1, device=device)
        position[rows] = torch.arange(len(rows), device=device)
        of_group = torch.nonzero(position[owner] >= 0)[:, 0]
        for start in range(0, len(of_group), chunk):
            chosen = of_group[start : start + chunk]
            local = program.select(position[owner[chosen]])
            drawn = [settings[i] for i in chosen.tolist()]
            seen = Views(
                *(getattr(views, f)[chosen] for f in ("rotation", "translation", "intrinsics", "up", "table"))
            )
            _render_chunk(objects, local, owner[chosen], seen, drawn=drawn, target=(size, chosen, out))
    return Rendered(**{name: value.view(count, -1, size, size) for name, value in out.items()})


def _render_chunk(
    objects: Objects,
    program: Program,
    owner: Tensor,
    views: Views,
    *,
    drawn: Sequence[Surroundings],
    target: tuple[int, Tensor, dict[str, Tensor]],
) -> None:
    size, chosen, out = target
    rays = rays_of(views, size, size)
    grid = objects.sdf[owner][:, None]
    hits = trace(program, objects.half[owner], rays, grid, width=size, height=size)
    lights = build_lights([d.light for d in drawn], views.rotation, views.up)

    def field(points: Tensor) -> Tensor:
        return grids.sample_distance(grid, points)

    normal = program.normal(hits.points, 0.004)
    albedo, gloss = surface_colors(objects.surfaces, program, hits, normal, owner)
    lit = shade(hits.points, normal, -hits.rays.direction, (srgb_to_linear(albedo), gloss), lights, field=field)
    where = chosen[:, None].expand_as(hits.index)[hits.valid], hits.index[hits.valid]
    out["mask"][where[0], 0, where[1]] = 1.0
    out["depth"][where[0], 0, where[1]] = hits.depth[hits.valid]
    for name, value in (("lit", lit), ("normal", normal), ("xyz", hits.points)):
        out[name][where[0], :, where[1]] = value[:, hits.valid].T
    coarse = rays_of(views, size // 2, size // 2)
    behind = backdrop(coarse, [d.table for d in drawn], views.table, lights, field)
    behind = behind.permute(1, 0, 2).reshape(len(chosen), 3, size // 2, size // 2)
    large = F.interpolate(behind, scale_factor=2, mode="bilinear", align_corners=False)
    out["behind"][chosen] = large.reshape(len(chosen), 3, -1)


def surface_colors(
    surfaces: Surfaces, program: Program, hits: Hits, normal: Tensor, owner: Tensor
) -> tuple[Tensor, Tensor]:
    """Albedo, sRGB, and (reflectance, roughness, metallic) at hits, (3, V, M) each; zero where padded."""
    _, slot = program.distance_and_slot(hits.points)
    owners = owner[:, None].expand_as(slot)
    valid = hits.valid
    found = SurfacePoints(
        hits.points[:, valid], program.metric(hits.points)[:, valid], normal[:, valid], owners[valid], slot[valid]
    )
    albedo, gloss = torch.zeros_like(hits.points), torch.zeros_like(hits.points)
    albedo[:, valid] = surfaces.albedo(found)
    gloss[:, valid] = surfaces.rows(found)[:, REFLECTANCE : METALLIC + 1].T
    return albedo, gloss


def normalize_brightness(rendered: Rendered) -> Tensor:
    """Linear color of the object scaled to a medium brightness, (B, 3, S, S)."""
    area = rendered.mask.sum(dim=(1, 2, 3)).clamp(min=1)
    # Sums in double precision do not depend on how a batch splits them.
    level = (rendered.lit * rendered.mask).double().sum(dim=(1, 2, 3)).float() / (3 * area)
    return rendered.lit * (0.25 / level.clamp(min=0.02))[:, None, None, None].clamp(0.3, 1.2)
