"""Writes a generated scene as the files that an RGB-D camera and a segmentation would write.

`color.png` is 8-bit RGB, `depth.png` 16-bit millimetres with 0 for no measurement, `labels.png` the number of the
object at every pixel with 0 for none, `frame.json` holds size, K and the names of the objects, and `truth.json`
the truth: poses, scales, symmetries.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from cupid_core.data.tabletop.scene import TabletopScene
from cupid_core.files import write_bytes, write_text


@dataclass(frozen=True)
class FrameFiles:
    """Paths of the files of a frame."""

    color: Path
    depth: Path
    labels: Path
    info: Path
    truth: Path

    @classmethod
    def of(cls, folder: Path) -> FrameFiles:
        """The paths in a folder, whether the files exist or not."""
        return cls(
            *(folder / name for name in ("color.png", "depth.png", "labels.png", "frame.json", "truth.json"))
        )


def write_frame(scene: TabletopScene, folder: Path) -> FrameFiles:
    """Write a scene as files; a missing folder is created, existing files are replaced.

    Raises:
        OutputError: a file cannot be written.
    """
    files = FrameFiles.of(folder)
    pictures = {
        files.color: scene.color.numpy()[..., ::-1],
        files.depth: np.round(scene.depth.numpy() * 1000).astype(np.uint16),
        files.labels: scene.labels.numpy(),
    }
    for path, picture in pictures.items():
        write_bytes(path, cv2.imencode(".png", np.ascontiguousarray(picture))[1].tobytes())
    write_text(files.info, json.dumps(_info(scene), indent=1) + "\n")
    write_text(files.truth, json.dumps(_truth(scene), indent=1) + "\n")
    return files


def _info(scene: TabletopScene) -> dict[str, Any]:
    height, width = scene.labels.shape
    return {
        "width": width,
        "height": height,
        "K": _rows(scene.K),
        "depth_scale": 0.001,
        "depth_unit": "metre per count; 0 = no measurement",
        "objects": [{"label": item.label, "name": item.family} for item in scene.objects],
    }


def _truth(scene: TabletopScene) -> dict[str, Any]:
    return {
        "T_camera_table": _rows(scene.T_camera_table),
        "objects": [
            {
                "label": item.label,
                "family": item.family,
                "T_camera_object": _rows(item.T_camera_object),
                "scale_m": item.scale_m,
                "symmetry": list(item.symmetry.as_tuple()),
                "visible": item.visible,
            }
            for item in scene.objects
        ],
    }


def _rows(matrix: Tensor) -> list[list[float]]:
    return [[float(value) for value in row] for row in matrix.tolist()]
