"""`report.html`: one self-contained page that shows a reconstruction, with pictures, numbers and a 3D viewer.

The page is a Jinja2 template, `assets/report.html`, with autoescape: no label can break it. The style and the
scripts of the viewer are files beside it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

import cv2
import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from torch import Tensor

from cupid_core.config.report import ReportConfig
from cupid_core.reconstruct.results import Scene, SceneObject
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
    turntable,
    upward,
)
from cupid_core.report.tables import OVERVIEW_HEADS, detail_rows, failure_rows, overview_cells, run_rows
from cupid_core.types import CameraSource

_SCRIPTS = ("geometry.js", "viewer.js", "page.js")
_SECONDS_PER_FRAME = 0.12


# What the summary says of a camera.
_CAMERAS = {
    CameraSource.GIVEN: "a given camera",
    CameraSource.EXIF: "the camera of the photo's EXIF data",
    CameraSource.DEPTH_MODEL: "the camera of the depth model",
    CameraSource.ESTIMATED: "an estimated camera",
}


def report_html(
    scene: Scene,
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
    known = _CAMERAS[scene.camera_source]
    summary = (
        f"{count} object{'' if count == 1 else 's'} reconstructed"
        + (f", {len(scene.failures)} failed" if scene.failures else "")
        + f"; {scene.image.shape[1]} x {scene.image.shape[0]} pixels, {known}."
    )
    return _page_template().render(
        title=f"Reconstruction of {record['image']['file']}",
        style=_asset("report.css"),
        summary=summary,
        overview_heads=OVERVIEW_HEADS,
        objects=[
            _section(item, numbers, views, config)
            for item, numbers in zip(scene.objects, record["objects"], strict=True)
        ],
        failures=failure_rows(record["failures"]),
        photos=_photos(views, overlay, config),
        run=run_rows(record),
        settings=json.dumps(record["run"]["settings"], indent=1),
        viewer_data=viewer_data(scene) if scene.objects else None,
        code="\n".join(_asset(name) for name in _SCRIPTS),
    )


@lru_cache
def _page_template() -> Template:
    environment = Environment(
        loader=PackageLoader("cupid_core.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    return environment.get_template("report.html")


@lru_cache
def _asset(name: str) -> str:
    """A file of `assets/` as text; the template does not escape it, because it is part of this package."""
    return files("cupid_core.report").joinpath("assets", name).read_text(encoding="utf-8")


def viewer_data(scene: Scene) -> dict[str, Any]:
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
                "T_camera_object": item.pose.matrix().double().tolist(),
                "axes_length": axes_length(item),
                "vertices": _base64(item.mesh.vertices, "<f4"),
                "colors": _base64(_bytes_of(item), "u1"),
                "faces": _base64(item.mesh.faces, "<u4"),
            }
            for item in scene.objects
        ],
    }  # fmt: skip


def _bytes_of(item: SceneObject) -> Tensor:
    colors = item.mesh.colors
    if colors is None:
        return torch.tensor(object_color(item.id)).expand(len(item.mesh.vertices), 3)
    return (colors.clamp(0, 1) * 255).round()


def _base64(tensor: Tensor, kind: str) -> str:
    array = np.ascontiguousarray(tensor.detach().cpu().numpy().astype(kind))
    return base64.b64encode(array.tobytes()).decode("ascii")


def _photos(views: SceneViews, overlay: Picture, config: ReportConfig) -> list[dict[str, str]]:
    pictures = [
        _figure(_jpeg(views.image, config), "Input."),
        _figure(_jpeg(overlay, config), "Meshes outlined, with the axes of their frames."),
        _figure(_png(_label_picture(views)), "Masks, one color per object."),
    ]
    if views.together is not None:
        pictures.append(_figure(_jpeg(shaded(views.together), config), "The reconstruction, same camera."))
    return pictures


def _label_picture(views: SceneViews) -> Picture:
    picture = masked(views.image, np.zeros(views.labels.shape, bool))
    for number in np.unique(views.labels[views.labels > 0]):
        picture[views.labels == number] = object_color(int(number))
    return picture


def _section(
    item: SceneObject, numbers: Mapping[str, Any], views: SceneViews, config: ReportConfig
) -> dict[str, Any]:
    """What the template shows of one object: pictures of input and result, the turntable, and its numbers."""
    rows = detail_rows(numbers)
    half = (len(rows) + 1) // 2
    return {
        "name": f"{item.id} {item.label}".strip(),
        "color": "#{:02x}{:02x}{:02x}".format(*object_color(item.id)),
        "verdict": numbers["quality"]["verdict"],
        "reasons": "; ".join(numbers["quality"]["reasons"]),
        "overview": overview_cells(numbers),
        "left": rows[:half],
        "right": rows[half:],
        "pictures": _object_pictures(item, views, config),
        "turn": _turn(item, config),
    }


def _object_pictures(item: SceneObject, views: SceneViews, config: ReportConfig) -> list[dict[str, str]]:
    mask, rendering = views.labels == item.id, views.single[item.id]
    square = square_around(mask | rendering.mask)
    if square is None:
        return []
    pictures = (
        (views.image, "Input."),
        (masked(views.image, mask), "Mask."),
        (shaded(rendering), "Re-rendered."),
        (difference(views.image, rendering, mask), "Difference: orange mask only, blue mesh only, gray color."),
    )
    return [_figure(_jpeg(cut(picture, square, config.crop_px), config), caption) for picture, caption in pictures]


def _turn(item: SceneObject, config: ReportConfig) -> dict[str, Any]:
    """The turntable: all frames side by side in one picture, moved by the style sheet alone."""
    count = config.turntable_frames
    frames = turntable(item.mesh, count, config.turntable_px, config.turntable_elevation_rad)
    return {
        "name": f"turn{item.id}",
        "frames": count,
        "seconds": f"{_SECONDS_PER_FRAME * count:.2f}",
        "source": _jpeg(np.concatenate(frames, axis=1), config),
    }


def _figure(source: str, caption: str) -> dict[str, str]:
    return {"source": source, "caption": caption}


def _jpeg(picture: Picture, config: ReportConfig) -> str:
    return _encoded(picture, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, config.jpeg_quality], "image/jpeg")


def _png(picture: Picture) -> str:
    return _encoded(picture, ".png", [], "image/png")


def _encoded(picture: Picture, suffix: str, options: list[int], kind: str) -> str:
    done, data = cv2.imencode(suffix, np.ascontiguousarray(picture[..., ::-1]), options)
    assert done, f"OpenCV cannot write {suffix}"
    return f"data:{kind};base64,{base64.b64encode(data.tobytes()).decode('ascii')}"
