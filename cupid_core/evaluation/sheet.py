"""The contact sheet: for some objects the input, the rendering at the estimated pose, and two novel views."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from cupid_core.evaluation.records import CaseRecord, Picture
from cupid_core.evaluation.tabletop_cases import TabletopCase
from cupid_core.geometry import Camera
from cupid_core.reconstruct.results import Hypothesis
from cupid_core.render.cameras import turntable
from cupid_core.render.raycast import Rendering, render_mesh

COLUMNS = ("input", "mask", "truth", "re-rendered", "novel view", "novel view")
_NOVEL_EDGE_PX = 128
# Two views from above, independent of the view of the photograph.
_NOVEL_CAMERAS, _NOVEL_CHOSEN = 4, (0, 2)
_PITCH_RAD = math.radians(25.0)
_TITLE_PX = 14
_GAP_PX = 2
_PLAIN = 0.7
_AMBIENT = 0.55
_BACKGROUND = 0.12


def pictures_of(case: TabletopCase, hypothesis: Hypothesis) -> tuple[Picture, ...]:
    """The pictures of one row, in the order of `COLUMNS`."""
    mesh = hypothesis.mesh()
    rows, columns = slice(case.top, case.top + case.size), slice(case.left, case.left + case.size)
    given = case.mask[rows, columns, None]
    pose, camera = hypothesis.pose.T_camera_object, case.view_camera(hypothesis.pose.camera)
    ring = turntable(_NOVEL_CAMERAS, _PITCH_RAD)
    lens = Camera.from_normalized(ring.K_normalized, _NOVEL_EDGE_PX, _NOVEL_EDGE_PX)
    novel = [shaded(render_mesh(mesh, ring.T_camera_object[number], lens)) for number in _NOVEL_CHOSEN]
    true = torch.where(case.silhouette[..., None], case.colors, _BACKGROUND)
    return (
        case.image[rows, columns],
        np.where(given, case.image[rows, columns], np.uint8(0)),
        _eight_bit(true),
        shaded(render_mesh(mesh, pose, camera), light=False),
        *novel,
    )


def shaded(rendering: Rendering, *, light: bool = True) -> Picture:
    """(H, W, 3) uint8 image of a rendering; with `light`, surfaces that face the camera are brighter."""
    mask = torch.as_tensor(rendering.mask)
    colors = (
        torch.full((*mask.shape, 3), _PLAIN)
        if rendering.colors is None
        else torch.as_tensor(rendering.colors).float()
    )
    if light:
        facing = torch.as_tensor(rendering.normals).float()[..., 2:].neg().clamp(0, 1).nan_to_num()
        colors = colors * (_AMBIENT + (1 - _AMBIENT) * facing)
    return _eight_bit(torch.where(mask[..., None], colors, _BACKGROUND))


def contact_sheet(records: Sequence[CaseRecord]) -> Image.Image | None:
    """All kept pictures, one row per object with its name and figures; None where there is none."""
    shown = [record for record in records if record.pictures]
    if not shown:
        return None
    edge = max(picture.shape[0] for record in shown for picture in record.pictures)
    width = len(COLUMNS) * (edge + _GAP_PX)
    height = _TITLE_PX + len(shown) * (edge + _TITLE_PX)
    sheet = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(COLUMNS):
        draw.text((column * (edge + _GAP_PX) + 2, 1), title, fill=(0, 0, 0))
    for number, record in enumerate(shown):
        top = _TITLE_PX + number * (edge + _TITLE_PX)
        for column, picture in enumerate(record.pictures):
            sheet.paste(Image.fromarray(picture).resize((edge, edge)), (column * (edge + _GAP_PX), top))
        draw.text((2, top + edge + 1), _caption(record), fill=(0, 0, 0))
    return sheet


def _caption(record: CaseRecord) -> str:
    parts = [f"{record.family} ({record.split} {record.index})"]
    for name, text in (("iou", "IoU {:.2f}"), ("rotation_deg", "rotation {:.0f} deg"), ("psnr", "PSNR {:.1f} dB")):
        value = record.figures.get(name, math.nan)
        if not math.isnan(value):
            parts.append(text.format(value))
    return "   ".join(parts)


def _eight_bit(values: Tensor) -> Picture:
    picture: Picture = (values.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return picture
