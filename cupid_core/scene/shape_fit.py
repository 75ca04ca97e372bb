"""Fit pose, three axis scales and smooth surface offsets of a mesh to the mask and the depth of one view.

A generated shape is right in kind and wrong in size and rotation by some percent; mask and depth determine both.
Half of the pixels is fitted, the other half judges, and what does not agree better there is refused. Depends on
meshes, masks and depth, not on what made the mesh; the descent itself is in `shape_descent`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cupid_core.config import ShapeFitConfig
from cupid_core.errors import InputError
from cupid_core.geometry.sim3 import Sim3
from cupid_core.scene.agreement import Agreement
from cupid_core.scene.observation import FitPixels, Observation
from cupid_core.scene.shape_descent import FittedMesh, ShapeDescent
from cupid_core.scene.signed_distance import SignedDistanceGrid, signed_distance_grid
from cupid_core.types import TriangleMesh


@dataclass(frozen=True, eq=False)
class ShapeFit:
    """A fitted object, or the given one and why nothing better was found.

    Attributes:
        mesh: canonical frame, axis scales and offsets applied to the vertices.
        S_camera_object: place of `mesh`, float64.
        axis_scales: (3,) float64 along the canonical axes; their product is 1, size is in `S_camera_object`.
        uses_offsets: surface offsets are applied, beyond the nine parameters.
        before: agreement of what was given, on pixels that were not fitted.
        after: agreement of `mesh` at `S_camera_object`, on the same pixels.
        score: of `after`, for ranking hypotheses of one object; more is better.
        accepted: something was changed.
        reason: why, one sentence.
    """

    mesh: TriangleMesh
    S_camera_object: Sim3
    axis_scales: Tensor
    uses_offsets: bool
    before: Agreement
    after: Agreement
    score: float
    accepted: bool
    reason: str


def fit_shape(
    mesh: TriangleMesh, S_camera_object: Sim3, observation: Observation, config: ShapeFitConfig | None = None
) -> ShapeFit:
    """Fit one hypothesis; see `fit_shapes`."""
    return fit_shapes([(mesh, S_camera_object)], observation, config)[0]


@torch.enable_grad()  # also where the caller runs networks without gradients
def fit_shapes(
    hypotheses: Sequence[tuple[TriangleMesh, Sim3]],
    observation: Observation,
    config: ShapeFitConfig | None = None,
) -> list[ShapeFit]:
    """Fit all hypotheses of one object together.

    First rotation, translation and scales along the canonical axes, then also a coarse grid of surface offsets, by
    Adam on a soft silhouette along random rays, on the signed distance at measured points, and on priors that
    stiffen where the observation is doubtful. Without depth the overall size stays, and there are no offsets.

    Args:
        hypotheses: meshes in the canonical frame and their places to start from; metres where depth is given. The
            descent runs on the device of the first mesh.
        observation: of the object.
        config: the defaults where None.

    Returns:
        One result per hypothesis, in their order. Their scores can be compared.

    Raises:
        InputError: there is no hypothesis.
        EmptyMeshError, InvalidTensorError, MissingPackageError: as `signed_distance_grid` and `render_mesh`.
    """
    settings = config or ShapeFitConfig()
    if not hypotheses:
        raise InputError("There is no hypothesis to fit.", hint="Give at least one mesh and its place.")
    starts = [(mesh, S.to(dtype=torch.float64, device="cpu")) for mesh, S in hypotheses]
    grids = [signed_distance_grid(mesh, settings.grid_size, settings.padding) for mesh, _ in starts]
    pixels = FitPixels.of(observation, starts, settings)
    descent = ShapeDescent(
        SignedDistanceGrid.stack(grids).to(hypotheses[0][0].vertices.device), starts, pixels, settings
    )
    before = [_judged(FittedMesh(mesh, S), pixels, settings) for mesh, S in starts]
    descent.run(settings.steps, offsets=False)
    stages = [[_judged(fitted, pixels, settings) for fitted in descent.fitted()]]
    obstacle = pixels.doubt_reason or ("there is no depth" if pixels.depth_m is None else "")
    if not obstacle and max(item.score for item in (*before, *stages[0])) >= settings.enough_agreement:
        obstacle = "nine parameters agree well enough"
    if settings.offset_steps and not obstacle:
        descent.run(settings.offset_steps, offsets=True)
        stages.append([_judged(fitted, pixels, settings) for fitted in descent.fitted()])
    note = f" No offsets: {obstacle}." if settings.offset_steps and obstacle else ""
    return [
        _decided(first, found, pixels.size, note, settings)
        for first, found in zip(before, zip(*stages, strict=True), strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _Judged:
    """A fitted mesh, how far it agrees with the held-out pixels, and its score."""

    fitted: FittedMesh
    agreement: Agreement
    score: float


def _judged(fitted: FittedMesh, pixels: FitPixels, settings: ShapeFitConfig) -> _Judged:
    agreement = pixels.agreement(fitted.mesh, fitted.S_camera_object)
    residual = 0.0
    if pixels.depth_m is not None:
        # A mesh that meets no measured pixel is as wrong as one that is off by its own size.
        measured = agreement.depth_residual_m
        residual = 1.0 if measured is None else min(1.0, measured / pixels.size)
    return _Judged(fitted, agreement, agreement.silhouette_iou - settings.residual_weight * residual)


def _decided(
    first: _Judged, found: Sequence[_Judged], size: float, note: str, settings: ShapeFitConfig
) -> ShapeFit:
    """The last stage that is better than all before it, in its score and in neither part worse than the start."""
    best, refusal = first, ""
    for stage in found:
        gain = settings.min_offset_gain if stage.fitted.uses_offsets else settings.min_gain
        refusal = _refusal(first, best, stage, size, gain, settings)
        if not refusal:
            best = stage
    accepted = best is not first
    kind = "nine parameters and offsets" if best.fitted.uses_offsets else "nine parameters"
    reason = f"Accepted {kind}: {_change(first, best)}.{note}" if accepted else f"Refused: {refusal}."
    return ShapeFit(
        mesh=best.fitted.mesh,
        S_camera_object=best.fitted.S_camera_object,
        axis_scales=best.fitted.axis_scales,
        uses_offsets=best.fitted.uses_offsets,
        before=first.agreement,
        after=best.agreement,
        score=best.score,
        accepted=accepted,
        reason=reason,
    )


def _refusal(
    first: _Judged, best: _Judged, stage: _Judged, size: float, gain: float, settings: ShapeFitConfig
) -> str:
    """Why a stage is not taken; empty where it is."""
    if stage.agreement.silhouette_iou < first.agreement.silhouette_iou - settings.max_iou_loss:
        return f"the silhouette became worse, {_change(first, stage)}"
    old, new = first.agreement.depth_residual_m, stage.agreement.depth_residual_m
    if old is not None and (new is None or new > old + settings.max_residual_growth * size):
        return f"the depth residual became worse, {_change(first, stage)}"
    resized = math.log(float(stage.fitted.S_camera_object.scale) / float(first.fitted.S_camera_object.scale))
    if abs(resized) > settings.max_resizing:
        return f"the scale changed by {100 * math.expm1(abs(resized)):.0f} %, {_change(first, stage)}"
    if stage.score < best.score + gain:
        return f"nothing better was found, {_change(first, stage)}"
    return ""


def _change(first: _Judged, last: _Judged) -> str:
    old, new = first.agreement, last.agreement
    text = f"silhouette IoU {old.silhouette_iou:.3f} to {new.silhouette_iou:.3f}"
    if old.depth_residual_m is not None and new.depth_residual_m is not None:
        text += f", depth residual {1000 * old.depth_residual_m:.1f} to {1000 * new.depth_residual_m:.1f} mm"
    return text
