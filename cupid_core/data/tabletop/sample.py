"""Generates tabletop samples: objects, their truth, views, lighting and image degradation.

`sample_tabletop` gives the samples of any list of indices; each depends on (seed, index) alone, not on what else
is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cupid_core.color_space import linear_to_srgb, srgb_to_linear
from cupid_core.data.tabletop import grids
from cupid_core.data.tabletop.backdrop import draw_table
from cupid_core.data.tabletop.batch import TabletopBatch
from cupid_core.data.tabletop.cameras import ViewDraw, Views, build_views, crop, draw_view, project
from cupid_core.data.tabletop.degrade import DegradationDraw, degrade, draw_degradation
from cupid_core.data.tabletop.draws import VIEW_STREAM, Draws
from cupid_core.data.tabletop.lighting import draw_light
from cupid_core.data.tabletop.objects import Objects, build_objects
from cupid_core.data.tabletop.occlusion import OccluderDraw, Occluders, draw_occluder, place_occluders
from cupid_core.data.tabletop.rendering import Surroundings, normalize_brightness, render
from cupid_core.data.tabletop.settings import TabletopSettings
from cupid_core.data.tabletop.shape import Shape
from cupid_core.data.tabletop.splits import draw_shape, family_id
from cupid_core.errors import InputError

__all__ = ["Objects", "build_objects", "draw_view_numbers", "sample_tabletop"]


@dataclass(frozen=True)
class ViewNumbers:
    """All random numbers of one view."""

    view: ViewDraw
    setting: Surroundings
    occluder: OccluderDraw
    degrade: DegradationDraw


def sample_tabletop(
    indices: Sequence[int],
    settings: TabletopSettings | None = None,
    *,
    seed: int = 0,
    split: str = "train",
    family: str | None = None,
    device: torch.device | str = "cpu",
) -> TabletopBatch:
    """Make the samples of these indices.

    Args:
        indices: object numbers >= 0; object i of seed s is always the same.
        settings: sizes and shares; defaults where None.
        seed: data set.
        split: "train", or "held_out" for the families that are not used in training.
        family: only this family.
        device: where everything is computed; random numbers are drawn on the CPU.

    Raises:
        InputError: no indices, a negative one, an unknown split or family.
    """
    settings = settings or TabletopSettings()
    if not len(indices) or min(indices) < 0 or seed < 0:
        raise InputError("A batch needs indices >= 0 and a seed >= 0.", hint="Give at least one object number.")
    shapes = [draw_shape(seed, index, split=split, family=family) for index in indices]
    objects = build_objects(shapes, settings.resolution, device)
    numbers = [
        draw_view_numbers(seed, index, view, shape, settings)
        for index, shape in zip(indices, shapes, strict=True)
        for view in range(settings.views_per_object)
    ]
    owner = torch.arange(len(shapes), device=device).repeat_interleave(settings.views_per_object)
    points, valid = objects.surface[owner], objects.surface_valid[owner]
    views = build_views([p.view for p in numbers], objects.surfaces.groups[owner], points, valid)
    first = views.intrinsics
    views, blocked = occlude(views, numbers, points, valid)
    rendered = render(objects, owner, views, [p.setting for p in numbers], settings.image_size)
    occlusion_mask = blocked.mask(first, views.intrinsics, settings.image_size)
    visible = rendered.mask * (1 - occlusion_mask)
    colors = torch.tensor([p.occluder.color for p in numbers], dtype=torch.float32, device=device)
    photo = torch.where(rendered.mask > 0, rendered.lit, rendered.behind)
    photo = torch.where(occlusion_mask > 0, srgb_to_linear(colors)[..., None, None] * 0.8, photo)
    picture, given = degrade(photo, visible, [p.degrade for p in numbers])
    clean = linear_to_srgb(normalize_brightness(rendered)) * rendered.mask
    r = settings.resolution
    uv, _ = project(grids.centers(r, device)[None], views)
    return TabletopBatch(
        image=torch.cat([picture * given, given], dim=1),
        image_clean=torch.cat([clean, rendered.mask], dim=1),
        photo=picture,
        mask_full=rendered.mask,
        mask_visible=visible,
        occluder=occlusion_mask,
        depth=rendered.depth,
        normal=rendered.normal,
        xyz=rendered.xyz,
        uv=uv.view(-1, r, r, r, 2),
        intrinsics=views.intrinsics,
        T_camera_object=views.matrix(),
        up=views.up,
        view_object=owner,
        sdf=objects.sdf,
        shell=objects.shell,
        solid=objects.solid,
        color=objects.color,
        symmetry=objects.surfaces.groups,
        family=torch.tensor([family_id(s.family) for s in shapes], device=device),
        half_extents=objects.half,
        scale_m=objects.scale,
        index=torch.tensor(list(indices), device=device),
    )


def occlude(
    views: Views, numbers: Sequence[ViewNumbers], points: Tensor, valid: Tensor
) -> tuple[Views, Occluders]:
    """Place occluders over B views and crop most of the occluded ones around the visible part of the object.

    Args:
        views: B views, cropped around whole objects.
        numbers: their random numbers.
        points: (B, N, 3) canonical surface points.
        valid: (B, N) which of them are.
    """
    uv, _ = project(points, views)
    blocked = place_occluders([p.occluder for p in numbers], uv, valid)
    visible = valid & ~blocked.covers(uv[..., 0], uv[..., 1])
    recropped = crop(views, [p.view for p in numbers], points, visible)
    wanted = torch.tensor([p.occluder.recrop for p in numbers], device=valid.device) & (blocked.size > 0)
    chosen = torch.where(wanted[:, None, None], recropped.intrinsics, views.intrinsics)
    return replace(views, intrinsics=chosen), blocked


def draw_view_numbers(seed: int, index: int, view: int, shape: Shape, settings: TabletopSettings) -> ViewNumbers:
    """All random numbers of one view."""
    draws = Draws(VIEW_STREAM, seed, index, view)
    return ViewNumbers(
        draw_view(draws, shape.rests, settings),
        Surroundings(draw_light(draws), draw_table(draws)),
        draw_occluder(draws, settings.occluded, settings.occluded_up_to),
        draw_degradation(draws, settings.image_size, settings.degradation),
    )
