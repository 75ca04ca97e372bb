"""`report.html`: one file that shows a reconstruction to people, without the network and without other files.

Knows pictures and numbers; the layout, the style and the 3D viewer are files in `assets/`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import lru_cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from cupid_core.config.report import ReportConfig
from cupid_core.reconstruct.results import PlacedObject, SceneReconstruction
from cupid_core.report.overlay import axes_length
from cupid_core.report.pictures import (
    Picture,
    SceneViews,
    cut,
    difference,
    masked,
    object_color,
    shaded,
    square_around,
)
from cupid_core.report.tables import failures_html, objects_table, run_html, single_table
from cupid_core.report.turntable import turntable
from cupid_core.report.upright import upward

_SCRIPTS = ("geometry.js", "viewer.js", "page.js")


def report_html(
    scene: SceneReconstruction,
    views: SceneViews,
    overlay: Picture,
    record: Mapping[str, Any],
    config: ReportConfig,
) -> str:
    """The whole page.

    Args:
        scene: what was reconstructed.
        views: of the scene.
        overlay: the photo with outlines, axes and names.
        record: the content of `objects.json`.
        config: sizes of the pictures.

    Returns:
        HTML; every picture, the style, the script and the meshes are inside it.
    """
    count = len(scene.objects)
    known = "a known camera" if scene.camera_known else "an estimated camera"
    summary = (
        f"{count} object{'' if count == 1 else 's'} reconstructed"
        + (f", {len(scene.failures)} failed" if scene.failures else "")
        + f"; {scene.image.shape[1]} x {scene.image.shape[0]} pixels, {known}."
    )
    return Template(asset("report.html")).substitute(
        title=escape(f"Reconstruction of {record['image']['file']}"),
        style=asset("report.css"),
        summary=escape(summary),
        table=objects_table(record["objects"]),
        failures=failures_html(record["failures"]),
        photos=_photos(views, overlay, config),
        view=_view_html() if scene.objects else "",
        objects="\n".join(
            _section(item, numbers, views, config)
            for item, numbers in zip(scene.objects, record["objects"], strict=True)
        ),
        run=run_html(record),
        scripts=_scripts(scene) if scene.objects else "",
    )


@lru_cache
def asset(name: str) -> str:
    """A file of `assets/` as text."""
    return files("cupid_core.report").joinpath("assets", name).read_text(encoding="utf-8")


def viewer_data(scene: SceneReconstruction) -> dict[str, Any]:
    """What the viewer shows: meshes as base64 of little-endian buffers in their own frames, and their poses."""
    K, up = scene.camera.K, upward(scene.objects)
    return {
        "camera": {
            "fx": float(K[0, 0]), "fy": float(K[1, 1]), "cx": float(K[0, 2]), "cy": float(K[1, 2]),
            "width": scene.camera.width, "height": scene.camera.height,
        },
        "up": [0.0, -1.0, 0.0] if up is None else up.tolist(),
        "objects": [
            {
                "id": item.id,
                "label": item.label,
                "T_camera_object": item.T_camera_object.matrix().double().tolist(),
                "axes_length": axes_length(item),
                "vertices": _base64(item.mesh.vertices, "<f4"),
                "colors": _base64(_bytes_of(item), "u1"),
                "faces": _base64(item.mesh.faces, "<u4"),
            }
            for item in scene.objects
        ],
    }  # fmt: skip


def _bytes_of(item: PlacedObject) -> Tensor:
    colors = item.mesh.colors
    if colors is None:
        return torch.tensor(object_color(item.id)).expand(len(item.mesh.vertices), 3)
    return (colors.clamp(0, 1) * 255).round()


def _base64(tensor: Tensor, kind: str) -> str:
    array = np.ascontiguousarray(tensor.detach().cpu().numpy().astype(kind))
    return base64.b64encode(array.tobytes()).decode("ascii")


def _scripts(scene: SceneReconstruction) -> str:
    # "<" could end the script element from within a label.
    data = json.dumps(viewer_data(scene), allow_nan=False).replace("<", "\\u003c")
    code = "\n".join(asset(name) for name in _SCRIPTS)
    return f'<script type="application/json" id="scene-data">{data}</script>\n<script>\n{code}\n</script>'


def _view_html() -> str:
    return (
        '<h2>In three dimensions</h2>\n<canvas id="view" tabindex="0" '
        'aria-label="Interactive view of the reconstructed objects"></canvas>\n'
        '<div id="view-controls"></div>\n<p class="note">Drag to turn, shift-drag or right-drag to move, wheel or '
        "pinch to zoom, double click for the view of the photo. Axes: x red, y green, z blue.</p>"
    )


def _photos(views: SceneViews, overlay: Picture, config: ReportConfig) -> str:
    legend = "Meshes outlined, with the axes of their frames."
    pictures = [
        _figure(_jpeg(views.image, config), "Input."),
        _figure(_jpeg(overlay, config), legend),
        _figure(_png(_label_picture(views)), "Masks, one color per object."),
    ]
    if views.together is not None:
        pictures.append(_figure(_jpeg(shaded(views.together), config), "The reconstruction, same camera."))
    return "\n".join(pictures)


def _label_picture(views: SceneViews) -> Picture:
    picture = masked(views.image, np.zeros(views.labels.shape, bool))
    for number in np.unique(views.labels[views.labels > 0]):
        picture[views.labels == number] = object_color(int(number))
    return picture


def _section(item: PlacedObject, numbers: Mapping[str, Any], views: SceneViews, config: ReportConfig) -> str:
    """One object: what was seen, what came out, how they differ, all around, and the numbers."""
    mask, rendering = views.labels == item.id, views.single[item.id]
    name = escape(f"{item.id} {item.label}".strip())
    swatch = "#{:02x}{:02x}{:02x}".format(*object_color(item.id))
    title = f'<h2><span class="swatch" style="background:{swatch}"></span>{name}</h2>'
    square = square_around(mask | rendering.mask)
    pictures = []
    if square is not None:
        steps = (
            (views.image, "Input."),
            (masked(views.image, mask), "Mask."),
            (shaded(rendering), "Re-rendered."),
            (
                difference(views.image, rendering, mask),
                "Difference: orange mask only, blue mesh only, gray color.",
            ),
        )
        pictures = [
            _figure(_jpeg(cut(picture, square, config.crop_px), config), words) for picture, words in steps
        ]
    pictures.append(_turning(item, config))
    return f'{title}\n<div class="pictures">\n{"".join(pictures)}\n</div>\n{single_table(numbers)}'


def _turning(item: PlacedObject, config: ReportConfig) -> str:
    """The turntable: all frames side by side in one picture, moved by the style sheet alone."""
    count = config.turntable_frames
    frames = turntable(item.mesh, count, config.turntable_px, config.turntable_elevation_rad)
    strip = _jpeg(np.concatenate(frames, axis=1), config)
    name = f"turn{item.id}"
    move = f"@keyframes {name} {{ to {{ transform: translateX(-100%); }} }}"
    style = (
        f"width:{count * 100}%; background:url({strip}) 0 0 / 100% 100%; "
        f"animation: {name} {0.12 * count:.2f}s steps({count}) infinite"
    )
    return (
        f'<figure><style>{move}</style><div class="turn"><div style="{style}"></div></div>'
        "<figcaption>All around.</figcaption></figure>"
    )


def _figure(source: str, words: str) -> str:
    return f'<figure><img src="{source}" alt="{escape(words)}"><figcaption>{escape(words)}</figcaption></figure>'


def _jpeg(picture: Picture, config: ReportConfig) -> str:
    return _encoded(picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, config.jpeg_quality], "image/jpeg")


def _png(picture: Picture) -> str:
    return _encoded(picture, ".png", [], "image/png")


def _encoded(picture: Picture, suffix: str, options: list[int], kind: str) -> str:
    done, data = cv2.imencode(suffix, np.ascontiguousarray(picture[..., ::-1]), options)
    assert done, f"OpenCV cannot write {suffix}"
    return f"data:{kind};base64,{base64.b64encode(data.tobytes()).decode('ascii')}"
