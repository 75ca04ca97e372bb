"""Move a placed object, never its shape, so that its depth meets the measured points and its outline the mask.

A few rounds: render, match, solve, move. The best place that was seen is compared with the first one, at full
resolution, and refused when silhouette or depth became worse. Knows meshes, masks and depth; the mathematics of
one round is in `refine_step`. Must not know who made the mesh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from cupid_core.config import RefineConfig
from cupid_core.errors import EmptyMaskError, InputError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.grid import box_of
from cupid_core.geometry.sim3 import Sim3
from cupid_core.render.raycast import MeshCaster, Rendering, caster_of
from cupid_core.render.silhouette import dilated, outline
from cupid_core.scene.agreement import (
    Agreement,
    Depths,
    Mask,
    check_shapes,
    depth_residual_m,
    depths_of,
    silhouette_iou,
)
from cupid_core.scene.refine_step import Start, View, move, solve_step
from cupid_core.types import DepthMap, TriangleMesh

# The cut-out reaches beyond mask and rendering by this share of their size, so that both may grow.
_MARGIN = 0.25
# Widths, in pixels of the cut-out, within which an outline beside something hidden or the border is not believed.
_DOUBT_PX = 3
_SETTLED = 1e-4


@dataclass(frozen=True, eq=False)
class Refinement:
    """What a refinement changed, or why it changed nothing.

    Attributes:
        before: agreement at the place that was given.
        after: agreement at the best other place that was found, also where it was refused.
        S_camera_object: the place to use: the new one where accepted, else the one that was given.
        accepted: the new place is used.
        reason: why, one sentence.
        iterations: rounds that were run.
    """

    before: Agreement
    after: Agreement
    S_camera_object: Sim3
    accepted: bool
    reason: str
    iterations: int


@torch.no_grad()
def refine_placement(
    mesh: TriangleMesh | MeshCaster,
    S_camera_object: Sim3,
    mask: Mask,
    depth: DepthMap | None,
    camera: Camera,
    *,
    hidden: Mask | None = None,
    config: RefineConfig | None = None,
) -> Refinement:
    """Refine the place of one object.

    With depth rotation, translation and scale are free; without, the scale stays. Robust Gauss-Newton on distances
    point to plane (rendered surface, measured point at the same pixel) and on distances in the image between the
    rendered outline and the border of the mask, both ways, around the given place as a prior.

    Args:
        mesh: canonical frame.
        S_camera_object: place to start from; metres where depth is given.
        mask: (H, W) bool, visible pixels of the object.
        depth: metric depth, or None.
        camera: of the image, H x W.
        hidden: (H, W) bool, where others may hide the object.
        config: the defaults where None.

    Raises:
        InputError: sizes differ.
        EmptyMaskError: the mask selects nothing.
        EmptyMeshError, InvalidTensorError, MissingPackageError: as `render_mesh`.
    """
    settings = config or RefineConfig()
    caster = caster_of(mesh)
    start = S_camera_object.to(dtype=torch.float64, device="cpu")
    depth_m = None if depth is None else depths_of(depth)
    first = caster.render(start, camera, geometry_only=True)
    check_shapes(first, mask, hidden, depth_m)
    if not mask.any():
        raise EmptyMaskError("The mask selects no pixel.", hint="Check which detection it belongs to.")
    before = _agreement(first, depth_m, mask, hidden)
    size = _size(caster, start)
    view = _view(first, mask, depth_m, camera, hidden, settings)
    best, rounds = _search(caster, start, view, size, settings)
    after = _agreement(caster.render(best, camera, geometry_only=True), depth_m, mask, hidden)
    accepted, reason = _verdict(before, after, size, settings)
    return Refinement(before, after, best if accepted else start, accepted, reason, rounds)


def _search(caster: MeshCaster, start: Sim3, view: View, size: float, settings: RefineConfig) -> tuple[Sim3, int]:
    """The best place among those that the rounds visit, the given one excepted where any other exists."""
    origin = Start(start, size)
    place = best = start
    lowest = math.inf
    for number in range(settings.iterations):
        rendering = caster.render(place, view.camera, geometry_only=True)
        if number:
            loss = _loss(_agreement(rendering, view.depth_m, view.mask, view.hidden), size)
            if loss < lowest:
                best, lowest = place, loss
        step = solve_step(rendering, place, origin, view, settings)
        if step is None:
            return best, number
        place = move(place, step)
        if float(step.abs().max()) < _SETTLED:
            break
    last = caster.render(place, view.camera, geometry_only=True)
    if _loss(_agreement(last, view.depth_m, view.mask, view.hidden), size) < lowest:
        best = place
    return best, number + 1


def _view(
    rendering: Rendering,
    mask: Mask,
    depth_m: Depths | None,
    camera: Camera,
    hidden: Mask | None,
    settings: RefineConfig,
) -> View:
    """Cut out, at a bounded size, what can matter."""
    box = box_of(mask | rendering.mask)
    assert box is not None
    margin = int(_MARGIN * max(box[2] - box[0], box[3] - box[1])) + _DOUBT_PX
    height, width = mask.shape
    x0, y0 = max(0, box[0] - margin), max(0, box[1] - margin)
    x1, y1 = min(width, box[2] + margin), min(height, box[3] + margin)
    step = max(1, -(-max(x1 - x0, y1 - y0) // settings.size_px))
    # Every step-th pixel, not an average: depth and labels must not be mixed.
    rows, columns = np.arange(y0 + step // 2, y1, step), np.arange(x0 + step // 2, x1, step)
    picked = np.ix_(rows, columns)
    small = _strided(camera, int(columns[0]), int(rows[0]), step, (len(columns), len(rows)))
    unseen = np.zeros(mask.shape, bool) if hidden is None else hidden & ~mask
    doubt = dilated(unseen[picked], _DOUBT_PX) | _near_border(rows, columns, mask.shape, _DOUBT_PX * step)
    return View(
        camera=small,
        mask=mask[picked],
        hidden=unseen[picked],
        doubtful=doubt,
        depth_m=None if depth_m is None else depth_m[picked],
        border=outline(mask[picked]),
    )


def _strided(camera: Camera, x0: int, y0: int, step: int, size: tuple[int, int]) -> Camera:
    """The camera of every step-th pixel, from one on; its lens stays."""
    K = camera.K.detach().cpu().double().clone()
    K[0, 2] -= x0
    K[1, 2] -= y0
    K[:2] /= step
    return Camera(K, size[0], size[1], camera.distortion)


def _near_border(
    rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], shape: tuple[int, ...], reach: int
) -> Mask:
    """Pixels of the cut-out that lie at the border of the image: an object cut off there has no outline."""
    at_rows = (rows < reach) | (rows >= shape[0] - reach)
    at_columns = (columns < reach) | (columns >= shape[1] - reach)
    return np.asarray(at_rows[:, None] | at_columns[None])


def _agreement(rendering: Rendering, depth_m: Depths | None, mask: Mask, hidden: Mask | None) -> Agreement:
    residual = None if depth_m is None else depth_residual_m(rendering, depth_m, mask)
    return Agreement(silhouette_iou(rendering, mask, hidden), residual)


def _loss(agreement: Agreement, size: float) -> float:
    """What the rounds bring down: missing overlap, and depth residual relative to the size of the object."""
    residual = agreement.depth_residual_m
    return 1.0 - agreement.silhouette_iou + (0.0 if residual is None else residual / size)


def _verdict(before: Agreement, after: Agreement, size: float, settings: RefineConfig) -> tuple[bool, str]:
    iou = f"silhouette IoU {before.silhouette_iou:.3f} to {after.silhouette_iou:.3f}"
    if after.silhouette_iou < before.silhouette_iou - settings.max_iou_loss:
        return False, f"Refused: the silhouette became worse, {iou}."
    old, new = before.depth_residual_m, after.depth_residual_m
    text = iou
    if old is not None:
        if new is None:
            return False, "Refused: the object left the measured depth."
        text = f"{iou}, depth residual {1000 * old:.1f} to {1000 * new:.1f} mm"
        if new > old + max(settings.max_residual_growth * old, settings.residual_tolerance_m):
            return False, f"Refused: the depth residual became worse, {text}."
    if _loss(after, size) >= _loss(before, size):
        return False, f"Refused: nothing better was found, {text}."
    return True, f"Accepted: {text}."


def _size(caster: MeshCaster, place: Sim3) -> float:
    """Longest side of the box of the object, unit of the camera frame."""
    size = float(place.scale) * caster.longest_side()
    if size <= 0:
        raise InputError("The mesh has no extent.", hint="Check the stage that decoded it.")
    return size
