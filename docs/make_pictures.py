"""Makes the pictures of README.md (docs/images/*.png) from generated scenes and the embedded checkpoint.

    python docs/make_pictures.py [--checkpoint FOLDER] [--scenes 0 3 5] [--samples 4]

scene.png: a row per scene: what the camera sees, what was found drawn on it, and the reconstruction from a side
that the camera never saw. objects.png: a row per object: its cut-out, and the reconstruction from all around.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

from cupid_core.config import CupidConfig
from cupid_core.data.tabletop.scene import SceneSettings, draw_scene
from cupid_core.evaluation.tabletop_cases import UNSEEN_SEED
from cupid_core.geometry import Camera, depth_to_metres
from cupid_core.geometry.so3 import exp, rotate
from cupid_core.reconstruct.pipeline import Cupid
from cupid_core.reconstruct.results import Scene
from cupid_core.render.cameras import look_at
from cupid_core.render.raycast import render_scene
from cupid_core.report.overlay import draw_overlay
from cupid_core.report.pictures import (
    Picture,
    cut,
    masked,
    resized,
    shaded,
    square_around,
    turntable,
    upward,
    view_scene,
)
from cupid_core.types import DepthMap, ScaleSource

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 320, 240
EDGE, VIEWS = 120, 7
GAP = 6


@dataclass(frozen=True)
class Options:
    """What to draw.

    Attributes:
        checkpoint: embedded name or folder.
        scenes: numbers of generated scenes.
        objects: rows of objects.png, at most.
        samples: hypotheses for each object.
        out: folder of the pictures.
    """

    checkpoint: str = "tabletop"
    scenes: tuple[int, ...] = (0, 3, 5)
    objects: int = 6
    samples: int = 4
    out: Path = IMAGES


def main(options: Options) -> None:
    """Reconstruct the scenes and write the pictures."""
    cupid = Cupid.from_pretrained(options.checkpoint)
    scenes = [reconstructed(cupid, index, options.samples) for index in options.scenes]
    rows = [scene_row(scene) for scene in scenes]
    every = [(scene, number) for scene in scenes for number in range(len(scene.objects))]
    # The best of all scenes, and of each kind only one.
    every.sort(key=lambda pair: -pair[0].objects[pair[1]].quality.silhouette_iou)
    seen: set[str] = set()
    chosen = []
    for scene, number in every:
        label = scene.objects[number].label
        if label not in seen:
            chosen.append(object_row(scene, number))
        seen.add(label)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, picture in (("scene.png", stacked(rows)), ("objects.png", stacked(chosen[: options.objects]))):
        # 256 colors are enough to look at, and a third of the size.
        Image.fromarray(picture).quantize(256).save(options.out / name, optimize=True)
        print(options.out / name, f"{(options.out / name).stat().st_size / 1024:.0f} kB")


def reconstructed(cupid: Cupid, index: int, samples: int) -> Scene:
    """A generated scene, as if a camera had seen it."""
    with torch.inference_mode():
        drawn = draw_scene(index, SceneSettings(least=3, most=5), seed=UNSEEN_SEED)
    depth_m, _ = depth_to_metres(drawn.depth)
    return cupid(
        drawn.color.numpy(),
        masks=drawn.labels.numpy().astype(np.int32),
        names={item.label: item.family for item in drawn.objects},
        camera=Camera(drawn.K.double(), drawn.labels.shape[1], drawn.labels.shape[0]),
        depth=DepthMap(depth_m.float(), ScaleSource.SENSOR),
        samples=samples,
        refine=True,
    )


def scene_row(scene: Scene) -> Picture:
    """Photo, overlay, and the reconstruction from the side."""
    views = view_scene(scene, CupidConfig().report.longest_px)
    pictures = [views.image, draw_overlay(views, scene.objects), from_the_side(scene)]
    return beside([resized(picture, (WIDTH, HEIGHT)) for picture in pictures])


def from_the_side(scene: Scene, angle_rad: float = 1.1) -> Picture:
    """The scene as a camera sees it that went around it by an angle."""
    up = upward(scene.objects)
    up = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64) if up is None else up
    places = torch.stack([item.pose.translation.double() for item in scene.objects])
    center = places.mean(dim=0)
    T_other_camera = look_at(center + rotate(exp(up * angle_rad), -center), center, up)
    placed = [(item.mesh, T_other_camera @ item.pose.to(dtype=torch.float64)) for item in scene.objects]
    return shaded(render_scene(placed, scene.camera))


def object_row(scene: Scene, number: int) -> Picture:
    """The cut-out of an object, and its mesh from all around."""
    item = scene.objects[number]
    mask = scene.labels == item.id
    square = square_around(mask)
    assert square is not None, "an object that was reconstructed has a mask"
    seen = cut(masked(scene.image, mask), square, EDGE)
    return beside([seen, *turntable(item.mesh, VIEWS, EDGE)])


def beside(pictures: Sequence[Picture]) -> Picture:
    """Pictures of one height in a row, with white between."""
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)]
    return np.concatenate(parts[:-1], axis=1)


def stacked(rows: Sequence[Picture]) -> Picture:
    """Rows below each other, with white between."""
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    parts = [part for row in rows for part in (row, gap)]
    return np.concatenate(parts[:-1], axis=0)


if __name__ == "__main__":
    main(tyro.cli(Options))
