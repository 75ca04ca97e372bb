"""Figures of one result against the truth: pose, structure, images, surfaces, metric placement.

Every function returns figures by name; `docs/evaluation.md` says what each name means.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cupid_core.evaluation.image_metrics import picture_psnr, silhouette_iou
from cupid_core.evaluation.pose_metrics import (
    nearest_true_pose,
    rotation_angles_deg,
    rotation_error_deg,
    scale_error,
    translation_error,
)
from cupid_core.evaluation.shape_metrics import (
    nearest_points,
    occupancy_f1,
    occupancy_iou,
    surface_agreement,
)
from cupid_core.evaluation.surface_truth import SURFACE_POINTS
from cupid_core.evaluation.tabletop_cases import TabletopCase
from cupid_core.geometry import SE3, Camera, Sim3, unproject_depth
from cupid_core.geometry.grid import voxel_centers
from cupid_core.mesh.surface_points import points_on_surface
from cupid_core.reconstruct.results import Hypothesis, SceneObject
from cupid_core.render.raycast import MeshCaster, Rendering, render_mesh
from cupid_core.types import ScaleSource, TriangleMesh

Figures = dict[str, float]

# Image errors are given in pixels of a crop of this size, whatever the input size of the networks.
CROP_PX = 128
# A surface point counts as correct up to this error: a voxel of 32, and 10 mm.
TOLERANCE = 1 / 32
TOLERANCE_M = 0.01
# Figures of a case without a result; its image is black (`failure_figures`).
FAILURE_FIGURES: Figures = {
    "iou": 0.0,
    "rotation_deg": 180.0,
    "rotation_free_deg": 180.0,
    "occupancy_iou": 0.0,
    "occupancy_f1": 0.0,
    "fscore": 0.0,
    "placed_iou": 0.0,
    "placed_fscore": 0.0,
    "hidden_recall": 0.0,
}


def failure_figures(case: TabletopCase) -> Figures:
    """Figures of a case without a result: `FAILURE_FIGURES`, and the `psnr` of a black image."""
    return {**FAILURE_FIGURES, "psnr": picture_psnr(torch.zeros_like(case.colors), case.colors)}


def structure_figures(case: TabletopCase, hypothesis: Hypothesis) -> Figures:
    """Stage 1 and the pose with known K: `rotation_deg`, `uv_px`, `occupancy_iou`, `occupancy_f1`."""
    estimated = hypothesis.pose.T_camera_object.matrix().double()
    nearest = nearest_true_pose(case.T_camera_object, estimated, case.symmetry)
    grid = torch.zeros((hypothesis.structure.resolution,) * 3, dtype=torch.bool)
    grid[tuple(hypothesis.structure.coords.T)] = True
    return {
        "rotation_deg": float(rotation_angles_deg(nearest[:3, :3], estimated[:3, :3])),
        "uv_px": uv_median_px(hypothesis, nearest),
        "occupancy_iou": float(occupancy_iou(grid[None], case.shell[None])),
        "occupancy_f1": float(occupancy_f1(grid[None], case.shell[None])),
    }


def uv_median_px(hypothesis: Hypothesis, T_camera_object: Tensor) -> float:
    """Median distance between the sampled image positions of the voxels and their projections by the true pose.

    Voxels whose true projection is outside the crop are ignored, because positions end at its border. NaN where
    none lies inside.
    """
    pose = hypothesis.structure.pose
    assert pose is not None
    camera = pose.camera.to(dtype=torch.float64)
    centers = voxel_centers(hypothesis.structure.coords.double(), hypothesis.structure.resolution)
    true = camera.px_to_uv(camera.project(SE3.from_matrix(T_camera_object).apply(centers)))
    inside = ((true >= 0) & (true <= 1)).all(dim=-1)
    distance = (hypothesis.structure.uv.double() - true)[inside].norm(dim=-1) * CROP_PX
    return float(distance.median()) if len(distance) else math.nan


def render_in_view(case: TabletopCase, mesh: MeshCaster, pose: SE3, camera: Camera) -> Rendering:
    """Render a mesh in the view of a case.

    Args:
        case: whose view.
        mesh: canonical frame, with its ray casting scene.
        pose: T_camera_object, canonical units.
        camera: of the photograph.
    """
    return mesh.render(pose, case.view_camera(camera))


def picture_figures(case: TabletopCase, rendering: Rendering, suffix: str = "") -> Figures:
    """Against the true view: `psnr` of all pixels on black, `psnr_inside` of those inside both silhouettes."""
    silhouette = torch.as_tensor(rendering.mask)
    colors = rendered_colors(rendering)
    return {
        f"psnr{suffix}": picture_psnr(colors, case.colors),
        f"psnr_inside{suffix}": picture_psnr(colors, case.colors, silhouette & case.silhouette),
    }


def rendered_colors(rendering: Rendering) -> Tensor:
    """(H, W, 3) colors of a rendering on black; all black for a mesh without colors."""
    mask = torch.as_tensor(rendering.mask)
    if rendering.colors is None:
        return torch.zeros(*mask.shape, 3)
    return torch.where(mask[..., None], torch.as_tensor(rendering.colors).float(), 0.0).clamp(0, 1)


def surface_figures(case: TabletopCase, mesh: TriangleMesh) -> Figures:
    """The whole surface in the canonical frame: `chamfer` in cube edges, `fscore` at a voxel of 32."""
    agreement = surface_agreement(points_on_surface(mesh, SURFACE_POINTS), case.surface, TOLERANCE)
    return {"chamfer": agreement.chamfer, "fscore": agreement.fscore}


def ranking_figures(case: TabletopCase, hypotheses: Sequence[Hypothesis]) -> Figures:
    """What the choice among several hypotheses is worth, none of them fitted; empty where there is only one.

    `picked_rotation_deg`, `mean_rotation_deg`, `best_rotation_deg`, and the same as `_chamfer` of the whole
    surface in the canonical frame, cube edges.
    """
    drawn = [item for item in hypotheses if item.shape is not None]
    if len(drawn) < 2:
        return {}
    found: Figures = {}
    poses = [item.pose.T_camera_object.matrix().double() for item in drawn]
    turns = [rotation_error_deg(case.T_camera_object, pose, case.symmetry) for pose in poses]
    away = [surface_figures(case, item.mesh())["chamfer"] for item in drawn]
    for name, values in (("rotation_deg", turns), ("chamfer", away)):
        parts = {"picked": values[0], "mean": sum(values) / len(values), "best": min(values)}
        found |= {f"{which}_{name}": value for which, value in parts.items()}
    return found


def random_figures(case: TabletopCase, mesh: MeshCaster) -> Figures:
    """Baseline without a pose estimate: the mesh at the true position, rotated as in another view."""
    turned = case.T_camera_object.clone()
    turned[:3, :3] = case.T_other[:3, :3]
    rendering = render_in_view(case, mesh, SE3.from_matrix(turned), case.camera)
    return {
        "random_rotation_deg": rotation_error_deg(case.T_camera_object, turned, case.symmetry),
        "random_iou": silhouette_iou(torch.as_tensor(rendering.mask), case.silhouette),
    }


@dataclass(frozen=True, eq=False)
class MetricTruth:
    """An object in metres, in the camera frame.

    Attributes:
        T_camera_object: (4, 4) rigid.
        scale_m: metres per canonical unit.
        symmetry: (3,) row of `SymmetryGroup`.
        surface: (Q, 3) all over the surface.
        visible: (V, 3) of the visible pixels.
        camera: of the image.
        unoccluded: (H, W) bool, pixels where nothing is in front of the object.
    """

    T_camera_object: Tensor
    scale_m: float
    symmetry: Tensor
    surface: Tensor
    visible: Tensor
    camera: Camera
    unoccluded: Tensor


def metric_truth(case: TabletopCase) -> MetricTruth:
    """The truth of a case in metres, in the camera of its view."""
    T = case.T_camera_object.clone()
    T[:3, 3] *= case.scale_m
    to_camera = Sim3.from_se3(SE3.from_matrix(T), torch.tensor(case.scale_m, dtype=T.dtype))
    camera = case.view_camera(case.camera)
    points = unproject_depth(case.depth_true.double() * case.scale_m, camera)
    rows = slice(case.top, case.top + case.size)
    columns = slice(case.left, case.left + case.size)
    return MetricTruth(
        T_camera_object=T,
        scale_m=case.scale_m,
        symmetry=case.symmetry,
        surface=to_camera.apply(case.surface.double()),
        visible=points[case.visible],
        camera=camera,
        unoccluded=~torch.from_numpy(case.occlusion[rows, columns]),
    )


def metric_figures(truth: MetricTruth, placed: SceneObject) -> Figures:
    """A placed object in metres: translation, scale, and both surfaces; empty where its scale is unknown.

    `translation_mm`, `scale_percent`, `metric_rotation_deg`, `chamfer_visible_mm`, `fscore_visible`,
    `chamfer_whole_mm`, `fscore_whole`.
    """
    if placed.model.scale_source is ScaleSource.UNKNOWN:
        return {}
    pose = placed.pose.to(dtype=torch.float64)
    whole = pose.apply(points_on_surface(placed.mesh, SURFACE_POINTS).double())
    figures = {
        "translation_mm": 1e3 * translation_error(truth.T_camera_object, pose.matrix()),
        "scale_percent": 100 * scale_error(truth.scale_m, placed.model.scale),
        "metric_rotation_deg": rotation_error_deg(truth.T_camera_object, pose.matrix(), truth.symmetry),
    }
    rendering = render_mesh(placed.mesh, placed.pose, truth.camera)
    visible_mask = torch.as_tensor(rendering.mask) & truth.unoccluded
    visible = unproject_depth(torch.as_tensor(rendering.depth).double(), truth.camera)[visible_mask]
    for name, points, true in (("visible", visible, truth.visible), ("whole", whole, truth.surface)):
        if len(points) and len(true):
            agreement = surface_agreement(points, true, TOLERANCE_M)
            figures |= {f"chamfer_{name}_mm": 1e3 * agreement.chamfer, f"fscore_{name}": agreement.fscore}
        else:
            figures |= {f"fscore_{name}": 0.0}
    return figures


def placed_figures(case: TabletopCase, mesh: TriangleMesh, S_camera_object: Sim3, *, metric: bool) -> Figures:
    """A placed shape beside the true one, in the camera frame; no canonical frame takes part.

    `placed_iou` of the silhouettes, `placed_fscore` at 1/32 of the cube and `placed_chamfer_percent` of the
    longest side for the whole surfaces, `placed_depth_percent` of it for the visible depth, and `hidden_recall`:
    the share of the surface that no pixel shows which the shape meets within 1/32.

    Args:
        case: with its truth.
        mesh: canonical frame.
        S_camera_object: its place.
        metric: the place is in metres; else its distance is taken from the truth.
    """
    truth = metric_truth(case)
    tolerance, longest = TOLERANCE * case.scale_m, float((truth.surface.amax(0) - truth.surface.amin(0)).max())
    rendering = render_mesh(replace(mesh, normals=None, colors=None), S_camera_object, truth.camera)
    silhouette, depth = torch.as_tensor(rendering.mask), torch.as_tensor(rendering.depth).double()
    both, true_depth = silhouette & case.visible, case.depth_true.double() * case.scale_m
    stretch = 1.0 if metric or not bool(both.any()) else float((true_depth / depth)[both].median())
    points = stretch * S_camera_object.apply(points_on_surface(mesh, SURFACE_POINTS).double())
    whole = surface_agreement(points, truth.surface, tolerance)
    residual = (stretch * depth - true_depth).abs()[both]
    unseen = truth.surface[nearest_points(truth.surface, truth.visible)[0] > tolerance]
    figures = {
        "placed_iou": silhouette_iou(silhouette, case.silhouette),
        "placed_fscore": whole.fscore,
        "placed_chamfer_percent": 100 * whole.chamfer / longest,
        "placed_depth_percent": 100 * (float(residual.median()) / longest if len(residual) else 1.0),
    }
    if len(unseen):
        met = nearest_points(unseen, points)[0] <= tolerance
        figures["hidden_recall"] = float(met.double().mean())
    return figures
