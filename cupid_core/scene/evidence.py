"""What speaks for and against a placed object: the numbers that its certainty is computed from.

Agreement is taken before the fit, and after it on pixels that were not fitted; a fitted outline says little about
a shape. Knows meshes, masks and depth, not who made the mesh and not what the numbers are worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from cupid_core.geometry.grid import box_of
from cupid_core.geometry.sim3 import Sim3
from cupid_core.mesh.surface_points import points_on_surface
from cupid_core.render.raycast import MeshCaster
from cupid_core.scene.agreement import Agreement, depths_of
from cupid_core.scene.observation import Observation, foreign_share, hidden_outline
from cupid_core.scene.refine import Refinement
from cupid_core.scene.shape_fit import ShapeFit
from cupid_core.scene.shape_symmetry import ShapeSymmetry
from cupid_core.types import Quality, TriangleMesh

_POINTS = 512
# A surface point counts as seen up to this much behind the first surface, relative to the longest side.
_SEEN_DEPTH = 0.01


class Recognition(NamedTuple):
    """How surely the canonical frame of an object was recognized; NaN where it is not known.

    Attributes:
        trust: mean probability, over the visible points, that the network gives the canonical position it chose.
        gap: mean distance between that position and the network's other estimate of it, by regression, canonical
            units: large where it wavers between several.
        residual: median distance of the measured points from the canonical ones, by the pose that they give,
            canonical units.
    """

    trust: float = math.nan
    gap: float = math.nan
    residual: float = math.nan


@dataclass(frozen=True)
class Evidence:
    """Numbers about one placed object; NaN where something is not known.

    Attributes:
        size_px: longer side of the mask's box, pixels.
        measured: share of the mask with depth; 0 without depth.
        foreign: share of the mask whose depth is far from the object.
        hidden_outline: share of the outline beside something in front or at the border of the image.
        seen: share of the object's surface that the image shows.
        outline_before: silhouette IoU before the fit.
        outline_after: the same after it, on pixels that were not fitted; before it where nothing was fitted.
        depth_before: depth residual before the fit, relative to the longest side.
        depth_after: the same after it, on pixels that were not fitted.
        color_db: PSNR of the generated colors before the fit.
        reprojection: RMS of the pairs behind the pose, relative to the size of the object in the image.
        fitted: 1 where a fit was accepted, else 0.
        turned_rad: angle by which the fit turned the object.
        stretched: largest change of an axis by the fit, logarithm.
        resized: change of the longest side by the fit, logarithm, absolute.
        completed: 1 where the shape was completed from the view, 0 where it is a sample.
        trust: see `Recognition`.
        gap: see `Recognition`.
        residual: see `Recognition`.
        drawn: number of other hypotheses.
        spread_rad: median angle between this hypothesis and the others, up to the symmetry of the shape.
        spread_surface: median distance of their surfaces from this one, relative to the longest side.
        longest_m: longest side, metres.
        middle: second side of the box by the longest.
        shortest: third side of the box by the longest.
        turns_freely: 1 where the shape has an axis of continuous symmetry.
        fold: log2 of the fold of its symmetry; 0 where none, and where it turns freely.
    """

    size_px: float
    measured: float
    foreign: float
    hidden_outline: float
    seen: float
    outline_before: float
    outline_after: float
    depth_before: float
    depth_after: float
    color_db: float
    reprojection: float
    fitted: float
    turned_rad: float
    stretched: float
    resized: float
    completed: float
    trust: float
    gap: float
    residual: float
    drawn: float
    spread_rad: float
    spread_surface: float
    longest_m: float
    middle: float
    shortest: float
    turns_freely: float
    fold: float

    def values(self) -> dict[str, float]:
        """All numbers by name."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class PlacedShape:
    """A shape and its place.

    Attributes:
        mesh: canonical frame.
        caster: of the mesh.
        S_camera_object: its place.
    """

    mesh: TriangleMesh
    caster: MeshCaster
    S_camera_object: Sim3

    def size(self) -> float:
        """Longest side in the unit of the camera frame."""
        return float(self.S_camera_object.scale) * self.caster.longest_side()


def gather_evidence(
    final: PlacedShape,
    start: PlacedShape,
    others: Sequence[PlacedShape],
    observation: Observation,
    quality: Quality,
    *,
    symmetry: ShapeSymmetry,
    recognition: Recognition | None = None,
    fit: ShapeFit | Refinement | None = None,
    metric: bool,
) -> Evidence:
    """The evidence for an object.

    Args:
        final: the object as it is handed out.
        start: the same hypothesis before the fit.
        others: the other hypotheses, placed, not fitted.
        observation: mask, camera, occlusion and depth of the view.
        quality: of `start`, against the whole image.
        symmetry: of `final`.
        recognition: of the frame that the shape was completed in; None for a sample.
        fit: what came between `start` and `final`; None where nothing was fitted. Of a `Refinement` the agreement
            before it counts, because it fits all pixels.
        metric: lengths are metres.

    Raises:
        InputError: the mesh has no area.
    """
    size_px, size = _extent_px(observation), final.size()
    mask = observation.mask
    depth = None if observation.depth is None else depths_of(observation.depth)
    own = Agreement(quality.silhouette_iou, quality.depth_residual_m)
    shape_fit = fit if isinstance(fit, ShapeFit) else None
    before, after = (own, own) if shape_fit is None else (shape_fit.before, shape_fit.after)
    spread_rad, spread_surface = _spread(start, others, symmetry)
    low, high = final.mesh.vertices.amin(dim=0), final.mesh.vertices.amax(dim=0)
    sides = sorted((float(side) for side in high - low), reverse=True)
    return Evidence(
        size_px=size_px,
        measured=0.0 if depth is None else float(np.isfinite(depth[mask]).mean()),
        foreign=foreign_share(observation, size),
        hidden_outline=hidden_outline(observation),
        seen=_seen(final, observation),
        outline_before=own.silhouette_iou,
        outline_after=after.silhouette_iou,
        depth_before=_relative(before, start.size()),
        depth_after=_relative(after, size),
        color_db=math.nan if quality.color_psnr_db is None else quality.color_psnr_db,
        reprojection=quality.reprojection_rms_px / size_px,
        fitted=float(fit is not None and fit.accepted),
        turned_rad=_angle(start.S_camera_object, final.S_camera_object, None),
        stretched=0.0 if shape_fit is None else float(shape_fit.axis_scales.log().abs().max()),
        resized=abs(math.log(size / start.size())),
        completed=float(recognition is not None),
        **(recognition or Recognition())._asdict(),
        drawn=float(len(others)),
        spread_rad=spread_rad,
        spread_surface=spread_surface,
        longest_m=size if metric else math.nan,
        middle=sides[1] / sides[0],
        shortest=sides[2] / sides[0],
        turns_freely=float(symmetry.is_continuous),
        fold=math.log2(max(1, symmetry.fold)),
    )


def _extent_px(observation: Observation) -> float:
    box = box_of(observation.mask)
    assert box is not None  # an observation has pixels
    return float(max(box[2] - box[0], box[3] - box[1]))


def _relative(agreement: Agreement, size: float) -> float:
    return math.nan if agreement.depth_residual_m is None else agreement.depth_residual_m / size


def _seen(shape: PlacedShape, observation: Observation) -> float:
    """Share of the surface that nothing hides and whose pixels belong to the mask."""
    points = points_on_surface(shape.mesh, _POINTS).double().cpu()
    eye = shape.S_camera_object.inverse().translation.numpy().astype(np.float32)
    tolerance = _SEEN_DEPTH * shape.caster.longest_side()
    visible = shape.caster.sees(points.numpy().astype(np.float32), eye, tolerance)
    pixels = observation.camera.project(shape.S_camera_object.apply(points)).numpy()
    height, width = observation.mask.shape
    finite = np.isfinite(pixels).all(axis=1)
    columns, rows = np.floor(np.where(finite[:, None], pixels, -1)).astype(int).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    visible &= inside
    visible[inside] &= observation.mask[rows[inside], columns[inside]]
    return float(visible.mean())


def _spread(start: PlacedShape, others: Sequence[PlacedShape], symmetry: ShapeSymmetry) -> tuple[float, float]:
    """Median angle and relative surface distance between a hypothesis and the others; NaN where there are none."""
    if not others:
        return math.nan, math.nan
    angles, distances = [], []
    to_start = start.S_camera_object.inverse()
    for other in others:
        angles.append(_angle(start.S_camera_object, other.S_camera_object, symmetry))
        points = other.S_camera_object.apply(points_on_surface(other.mesh, _POINTS).double().cpu())
        away = start.caster.closest(to_start.apply(points).numpy().astype(np.float32))[0]
        distances.append(float(away.mean()) / start.caster.longest_side())
    return float(np.median(angles)), float(np.median(distances))


def _angle(a: Sim3, b: Sim3, symmetry: ShapeSymmetry | None) -> float:
    """Angle in radians between two rotations, the least over the rotations of a symmetry."""
    relative = (a.rotation().mT @ b.rotation()).double().cpu().numpy()
    group = np.eye(3)[None] if symmetry is None else symmetry.rotations()
    traces = np.einsum("mij,ij->m", group, relative)
    return float(np.arccos(np.clip((traces.max() - 1) / 2, -1, 1)))
