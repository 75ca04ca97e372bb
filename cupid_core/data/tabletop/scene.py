"""Whole scenes: several objects on one textured table, one camera, color and sensor depth, with exact truth.

For demonstration and evaluation. `draw_scene` places objects of realistic size, traces each in its own frame,
keeps the nearest surface of each pixel, lights the scene, and degrades image and depth. Units: metres, camera
frame x right, y down, z forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.color_space import linear_to_srgb
from cupid_core.data.tabletop.bounds import shape_box
from cupid_core.data.tabletop.cameras import Views
from cupid_core.data.tabletop.degrade import degrade, draw_degradation
from cupid_core.data.tabletop.depth_sensor import DepthSensor, measure
from cupid_core.data.tabletop.draws import SCENE_STREAM, Draws
from cupid_core.data.tabletop.layout import Placed, SceneCamera, draw_camera, place_objects
from cupid_core.data.tabletop.objects import Objects, build_objects
from cupid_core.data.tabletop.program import Program
from cupid_core.data.tabletop.scene_light import TracedObject, light_scene
from cupid_core.data.tabletop.shape import Shape
from cupid_core.data.tabletop.splits import draw_shape
from cupid_core.data.tabletop.symmetry import SymmetryGroup, to_fundamental_domain
from cupid_core.data.tabletop.trace import rays_of, trace
from cupid_core.errors import InputError

# Families that do not fit on a table of household objects.
NOT_IN_SCENES = ("composition", "stack")
LARGEST_M = 0.33
# Object numbers of scene i start at i * STRIDE.
STRIDE = 64


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene.

    Attributes:
        label: its value in the label image, 1..n.
        family: its family's name.
        T_camera_object: (4, 4) rigid pose, metres; its canonical unit is `scale_m`: p_camera = R (scale_m p) + t.
        scale_m: metres per canonical unit.
        symmetry: its symmetry group.
        half_extents: (3,) canonical.
        visible: share of its silhouette inside the image that is not occluded.
        shell: (r, r, r) bool, voxels that its surface passes through.
        program: its distance function, one row, for surface truth: `program.distance(points (3, 1, N))`,
            canonical.
    """

    label: int
    family: str
    T_camera_object: Tensor
    scale_m: float
    symmetry: SymmetryGroup
    half_extents: Tensor
    visible: float
    shell: Tensor
    program: Program


@dataclass(frozen=True)
class TabletopScene:
    """One RGB-D frame with truth.

    Attributes:
        color: (H, W, 3) uint8 sRGB, degraded.
        color_clean: (H, W, 3) uint8 sRGB as rendered.
        depth: (H, W) float32 metres as a sensor measures it; 0 is no measurement.
        depth_true: (H, W) float32 metres; 0 where the ray hits neither object nor table.
        labels: (H, W) uint8 instance numbers, 0 is background.
        K: (3, 3) pixel intrinsics, pixel centers at integers.
        T_camera_table: (4, 4) pose of the table plane z = 0, metres.
        objects: on the table.
    """

    color: Tensor
    color_clean: Tensor
    depth: Tensor
    depth_true: Tensor
    labels: Tensor
    K: Tensor
    T_camera_table: Tensor
    objects: tuple[SceneObject, ...]


@dataclass(frozen=True)
class SceneSettings:
    """Size and content of a scene: image edges in pixels (multiples of 16), and how many objects."""

    width: int = 640
    height: int = 480
    least: int = 3
    most: int = 7
    resolution: int = 32
    degradation: float = 1.0
    sensor: DepthSensor = field(default_factory=DepthSensor)


def draw_scene(
    index: int,
    settings: SceneSettings | None = None,
    *,
    seed: int = 0,
    split: str = "train",
    families: Sequence[str] | None = None,
) -> TabletopScene:
    """Make scene `index` of a seed; always the same one.

    Args:
        index: scene number >= 0.
        settings: sizes; defaults where None.
        seed: data set.
        split: "train" or "held_out" families.
        families: exactly these families, instead of a random number of random ones.

    Raises:
        InputError: negative index or seed, image edges that are no multiples of 16, unknown family or split.
    """
    settings = settings or SceneSettings()
    if index < 0 or seed < 0 or settings.width % 16 or settings.height % 16:
        raise InputError(
            f"Scene {index} of seed {seed}, {settings.width}x{settings.height}: out of range.",
            hint="Use numbers >= 0 and image edges that are multiples of 16.",
        )
    draws = Draws(SCENE_STREAM, seed, index)
    shapes = _draw_shapes(draws, settings, seed=seed, index=index, split=split, families=families)
    objects = build_objects(shapes, settings.resolution, "cpu")
    placed = place_objects(draws, objects)
    camera = draw_camera(draws, settings.width, settings.height, placed)
    traced = [_trace(objects, row, item, camera) for row, item in enumerate(placed)]
    picture = light_scene(draws, objects, traced, placed, camera)
    clean, spoilt = _photograph(draws, picture.linear, settings)
    measured = measure(picture.depth, picture.cosine, picture.gloss, settings.sensor, draws)
    return TabletopScene(
        spoilt,
        clean,
        measured,
        picture.depth,
        picture.labels,
        camera.K,
        camera.T_camera_table,
        tuple(_truth(objects, row, item, picture.labels) for row, item in enumerate(traced)),
    )


def _draw_shapes(
    draws: Draws, settings: SceneSettings, *, seed: int, index: int, split: str, families: Sequence[str] | None
) -> list[Shape]:
    """Shapes of the scene's objects, none larger than a tabletop allows."""
    if families is not None:
        return [
            draw_shape(seed, index * STRIDE + number, split=split, family=f) for number, f in enumerate(families)
        ]
    shapes: list[Shape] = []
    wanted = draws.integer(settings.least, settings.most)
    for number in range(STRIDE):
        shape = draw_shape(seed, index * STRIDE + number, split=split)
        low, high = shape_box(shape)
        known = shape.family in NOT_IN_SCENES or shape.family in {s.family for s in shapes}
        if not known and float((high - low).max()) < LARGEST_M:
            shapes.append(shape)
        if len(shapes) == wanted:
            break
    return shapes


def _trace(objects: Objects, row: int, placed: Placed, camera: SceneCamera) -> TracedObject:
    """Trace one object in its canonical units; its pose is in the fundamental domain of its symmetry."""
    scale = float(objects.scale[row])
    turn, shift = camera.T_camera_table[:3, :3], camera.T_camera_table[:3, 3]
    rotation = turn @ placed.rotation
    translation = (turn @ placed.translation + shift) / scale
    view = Views(
        rotation[None],
        translation[None],
        camera.normalized()[None],
        placed.rotation[2:3],
        torch.zeros(1),
    )
    program = next(
        p.select(torch.nonzero(rows == row)[0]) for rows, p in objects.programs if bool((rows == row).any())
    )
    rays = rays_of(view, camera.width, camera.height)
    half, grid = objects.half[row : row + 1], objects.sdf[row : row + 1, None]
    hits = trace(program, half, rays, grid, width=camera.width, height=camera.height)
    return TracedObject(program, view, hits)


def _truth(objects: Objects, row: int, traced: TracedObject, labels: Tensor) -> SceneObject:
    """Pose in the fundamental domain, scale and visibility of one object."""
    scale = float(objects.scale[row])
    view = traced.view
    eye = -(view.rotation[0].T @ view.translation[0])
    group = objects.surfaces.groups[row : row + 1]
    _, fold = to_fundamental_domain(eye[:, None], group, with_mirror=False)
    matrix = torch.eye(4)
    matrix[:3, :3] = view.rotation[0] @ fold[:, :, 0].T
    matrix[:3, 3] = view.translation[0] * scale
    silhouette = int(traced.hits.valid.sum())
    return SceneObject(
        label=row + 1,
        family=objects.shapes[row].family,
        T_camera_object=matrix,
        scale_m=scale,
        symmetry=objects.shapes[row].symmetry,
        half_extents=objects.half[row],
        visible=float((labels == row + 1).sum()) / max(silhouette, 1),
        shell=objects.shell[row],
        program=traced.program,
    )


def _photograph(draws: Draws, linear: Tensor, settings: SceneSettings) -> tuple[Tensor, Tensor]:
    """Clean and degraded 8-bit pictures (H, W, 3) of linear color (3, H, W)."""
    height, width = linear.shape[1:]
    size = max(height, width)
    square = F.pad(linear[None], (0, size - width, 0, size - height), mode="replicate")
    drawn = draw_degradation(draws, size, settings.degradation)
    # The image is not a crop: it has the full resolution of the camera, and the lens is in focus.
    drawn = replace(drawn, native=size, blur=(min(drawn.blur[0], 0.7), min(drawn.blur[1], 0.7)))
    spoilt, _ = degrade(square, torch.ones(1, 1, size, size), [drawn])
    level = 0.27 / torch.sqrt((linear**2).mean()).clamp(min=1e-3)
    clean = linear_to_srgb(linear * level)
    pictures = (clean, spoilt[0, :, :height, :width])
    eight_bit = [torch.round(p * 255).to(torch.uint8).permute(1, 2, 0).contiguous() for p in pictures]
    return eight_bit[0], eight_bit[1]
