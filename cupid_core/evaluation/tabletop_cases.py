"""Generated objects as inputs of the pipeline (image, mask, camera, depth), with their truth.

The generator makes a square view cut around the object. The photograph is that view at its position in the image
of the camera, black around it, with the principal point in the middle. So the input is as in use: an object
somewhere in a wide image, cropped by the rule of the pipeline, with a centered principal point where K is unknown.
Where the border of the view cuts the object, pixels beyond the view count as occluded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupid_core.data.tabletop import FAMILY_NAMES, TabletopBatch, TabletopSettings, sample_tabletop
from cupid_core.data.tabletop.depth_sensor import DepthSensor, measure
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.objects import build_objects
from cupid_core.data.tabletop.shape import Shape
from cupid_core.data.tabletop.splits import draw_shape
from cupid_core.evaluation.surface_truth import other_view, surface_appearance, surface_points
from cupid_core.geometry.camera import Camera
from cupid_core.types import DepthMap, ScaleSource

# No training may have this seed: training seeds are below 2^20.
UNSEEN_SEED = 2_000_003
# Random numbers of the depth sensor must differ from those of the generator (`data.tabletop.draws` has 1 to 4).
_SENSOR_STREAM = 5
_MASK = 0.5


@dataclass(frozen=True, eq=False)
class TabletopCase:
    """One view of one object, with its truth.

    The *view* is the square of S pixels that the generator made; it lies in the photograph at (left, top).

    Attributes:
        index: number of the object under the seed.
        split: "train" or "held_out".
        family: name.
        image: (H, W, 3) uint8 photograph, degraded; black around the view.
        mask: (H, W) bool, as a segmentation would give it, with its errors.
        occlusion: (H, W) bool, where an occluder is; beyond the view too, if that cuts the object.
        camera: of the photograph; its principal point is in the middle to half a pixel.
        depth: as a depth camera measures it; None without any measurement (too far).
        left: column of the photograph that is column 0 of the view.
        top: row of the photograph that is row 0 of the view.
        T_camera_object: (4, 4) float64, canonical units.
        T_other: (4, 4) float64, another random view of the object.
        scale_m: metres per canonical unit.
        symmetry: (3,) row of `SymmetryGroup`.
        shell: (r, r, r) bool, voxels that the surface passes through.
        silhouette: (S, S) bool, the whole object in the view, occluded parts included.
        visible: (S, S) bool, without occluded parts.
        colors: (S, S, 3) unlit sRGB in [0, 1], black off the object.
        depth_true: (S, S) camera z in canonical units, NaN off the object.
        surface: (Q, 3) canonical points all over the surface.
        truncated: the border of the view cuts the object.
    """

    index: int
    split: str
    family: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    occlusion: NDArray[np.bool_]
    camera: Camera
    depth: DepthMap | None
    left: int
    top: int
    T_camera_object: Tensor
    T_other: Tensor
    scale_m: float
    symmetry: Tensor
    shell: Tensor
    silhouette: Tensor
    visible: Tensor
    colors: Tensor
    depth_true: Tensor
    surface: Tensor
    truncated: bool

    @property
    def size(self) -> int:
        """S, edge of the view in pixels."""
        return int(self.silhouette.shape[0])

    def view_camera(self, camera: Camera) -> Camera:
        """The camera of the view, from a camera of the photograph."""
        return camera.crop(self.left, self.top, self.size, self.size)


def tabletop_cases(
    indices: Sequence[int],
    settings: TabletopSettings,
    *,
    seed: int = UNSEEN_SEED,
    split: str = "train",
    family: str | None = None,
) -> list[TabletopCase]:
    """Generate cases; each depends on (seed, index) alone.

    Args:
        indices: object numbers >= 0.
        settings: of the generator; one view per object is used.
        seed: of the data set.
        split: "train" or "held_out" families.
        family: only this one.

    Raises:
        InputError: no indices, a negative one, an unknown split or family.
    """
    settings = settings.model_copy(update={"views_per_object": 1})
    with torch.no_grad():
        batch = sample_tabletop(indices, settings, seed=seed, split=split, family=family)
        shapes = [draw_shape(seed, index, split=split, family=family) for index in indices]
        return [_case(batch, row, shape, settings, seed=seed, split=split) for row, shape in enumerate(shapes)]


def _case(
    batch: TabletopBatch, row: int, shape: Shape, settings: TabletopSettings, *, seed: int, split: str
) -> TabletopCase:
    index, size = int(batch.index[row]), batch.photo.shape[-1]
    objects = build_objects([shape], settings.resolution, "cpu")
    silhouette = batch.mask_full[row, 0] > 0
    points, normals = (values[row].permute(1, 2, 0)[silhouette] for values in (batch.xyz, batch.normal))
    albedo, point_gloss = surface_appearance(objects, points, normals)
    colors, gloss = torch.zeros(size, size, 3), torch.zeros(size, size)
    colors[silhouette], gloss[silhouette] = albedo, point_gloss
    width, left = _photograph_extent(float(batch.intrinsics[row, 0, 2]), size)
    height, top = _photograph_extent(float(batch.intrinsics[row, 1, 2]), size)
    inside = (slice(top, top + size), slice(left, left + size))
    picture = (batch.photo[row].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    image, mask = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), bool)
    cut = _touches_border(silhouette)
    occlusion = np.full((height, width), cut)
    given = batch.image[row, 3] > _MASK
    image[inside], mask[inside], occlusion[inside] = picture, given.numpy(), batch.occluder[row, 0].numpy() > 0
    view_camera = Camera.from_normalized(batch.intrinsics[row].double(), size, size)
    depth = _measured(batch, row, gloss, seed=seed)
    return TabletopCase(
        index=index,
        split=split,
        family=FAMILY_NAMES[int(batch.family[row])],
        image=image,
        mask=mask,
        occlusion=occlusion,
        camera=view_camera.crop(-left, -top, width, height),
        depth=_in_photograph(depth, inside, (height, width)),
        left=left,
        top=top,
        T_camera_object=batch.T_camera_object[row].double(),
        T_other=other_view(objects, seed, index, settings).double(),
        scale_m=float(batch.scale_m[row]),
        symmetry=batch.symmetry[row],
        shell=batch.shell[row],
        silhouette=silhouette,
        visible=batch.mask_visible[row, 0] > 0,
        colors=colors,
        depth_true=torch.where(silhouette, batch.depth[row, 0], torch.nan),
        surface=surface_points(objects.programs[0][1], batch.shell[row], index),
        truncated=cut,
    )


def _touches_border(silhouette: Tensor) -> bool:
    return bool(silhouette[[0, -1]].any() | silhouette[:, [0, -1]].any())


def _photograph_extent(center: float, size: int) -> tuple[int, int]:
    """Length of the photograph along an axis, and the first pixel of the view in it.

    Args:
        center: principal point, normalized to the view.
        size: of the view in pixels.
    """
    pixel = center * size
    length = 2 * math.ceil(max(abs(pixel), abs(size - pixel)))
    return length, max(0, min(length - size, round(length / 2 - pixel)))


def _measured(batch: TabletopBatch, row: int, gloss: Tensor, *, seed: int) -> Tensor:
    """Depth (S, S) in metres that a sensor measures; 0 without a measurement, as everywhere off the object."""
    size = batch.depth.shape[-1]
    rays = Camera.from_normalized(batch.intrinsics[row], size, size).rays()
    towards = rays / rays.norm(dim=-1, keepdim=True) @ batch.T_camera_object[row, :3, :3]
    cosine = (towards * batch.normal[row].permute(1, 2, 0)).sum(-1).abs()
    visible_mask = batch.mask_visible[row, 0] > 0
    true = torch.where(visible_mask, batch.depth[row, 0] * batch.scale_m[row], torch.zeros_like(cosine))
    cosine = torch.where(visible_mask, cosine, torch.ones_like(cosine))
    return measure(true, cosine, gloss, DepthSensor(), Draws(_SENSOR_STREAM, seed, int(batch.index[row])))


def _in_photograph(depth: Tensor, inside: tuple[slice, slice], size: tuple[int, int]) -> DepthMap | None:
    if not bool((depth > 0).any()):
        return None
    whole = torch.full(size, torch.nan)
    whole[inside] = torch.where(depth > 0, depth, torch.nan)
    return DepthMap(whole, ScaleSource.SENSOR)
