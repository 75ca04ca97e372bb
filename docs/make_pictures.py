"""Makes the picture of README.md (docs/images/sample.png) from the frame that ships and the embedded checkpoint.

    python docs/make_pictures.py [--checkpoint FOLDER] [--samples 4]

A row: what the camera sees, what was found drawn on it, and the reconstruction from a side the camera never saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

from cupid_core import Cupid, Scene, sample_frame
from cupid_core.config import CupidConfig
from cupid_core.geometry.so3 import exp, rotate
from cupid_core.render.cameras import look_at
from cupid_core.render.raycast import render_scene
from cupid_core.report.overlay import draw_overlay
from cupid_core.report.pictures import Picture, resized, shaded, view_scene

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 400, 300
GAP = 6


@dataclass(frozen=True)
class Options:
    """What to draw.

    Attributes:
        checkpoint: embedded name or folder.
        samples: hypotheses for each object.
        out: folder of the picture.
    """

    checkpoint: str = "tabletop"
    samples: int = 4
    out: Path = IMAGES


def main(options: Options) -> None:
    """Reconstruct the frame and write the picture."""
    frame = sample_frame()
    cupid = Cupid.from_pretrained(options.checkpoint)
    scene = cupid(
        frame.color,
        masks=frame.labels,
        camera=frame.camera,
        depth=frame.depth,
        names={1: "mug", 2: "cracker box", 3: "apple", 4: "can"},
        samples=options.samples,
        refine="shape",
    )
    views = view_scene(scene, CupidConfig().report.longest_px)
    pictures = [views.image, draw_overlay(views, scene.objects), from_the_side(scene)]
    row = beside([resized(picture, (WIDTH, HEIGHT)) for picture in pictures])
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "sample.png"
    # 256 colors are enough to look at, and a third of the size.
    Image.fromarray(row).quantize(256).save(path, optimize=True)
    print(path, f"{path.stat().st_size / 1024:.0f} kB")
    print(*scene, sep="\n")


def from_the_side(scene: Scene, angle_rad: float = -0.7) -> Picture:
    """The scene as a camera sees it that went around it by an angle."""
    up = scene["mug"].pose.rotation()[:, 2].double()  # it stands upright
    places = torch.stack([item.pose.translation.double() for item in scene.objects])
    center = places.mean(dim=0)
    T_other_camera = look_at(center + rotate(exp(up * angle_rad), -center), center, up)
    placed = [(item.mesh, T_other_camera @ item.pose.to(dtype=torch.float64)) for item in scene.objects]
    return shaded(render_scene(placed, scene.camera))


def beside(pictures: Sequence[Picture]) -> Picture:
    """Pictures of one height in a row, with white between."""
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)]
    return np.concatenate(parts[:-1], axis=1)


if __name__ == "__main__":
    main(tyro.cli(Options))
