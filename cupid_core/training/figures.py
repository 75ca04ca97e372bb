"""Figures of merit in validation: poses of structures; volumes, surfaces and colors of decoded appearance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cupid_core.config import PoseConfig
from cupid_core.errors import EmptyMeshError, PoseError
from cupid_core.evaluation.image_metrics import psnr
from cupid_core.evaluation.pose_metrics import rotation_error_deg
from cupid_core.evaluation.shape_metrics import nearest_points
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.grid import all_voxel_centers
from cupid_core.mesh.flexicubes_tables import N_CORNERS
from cupid_core.mesh.solid import extract_solid_mesh
from cupid_core.models.decode_mesh import CubeFields
from cupid_core.pose import solve_pose
from cupid_core.training.mesh_field import FieldTruth, ideal_rows
from cupid_core.training.structure_batch import StructureTruth
from cupid_core.training.voxel_truth import VoxelTruth
from cupid_core.types import TriangleMesh

# At most so many points of a surface are compared.
_SURFACE_POINTS = 8192
# Chamfer distance that a missing mesh counts for: half the cube.
_NO_MESH = 0.5
_TINY = 1e-12


def pose_errors_deg(occupied: Tensor, uv: Tensor, truth: StructureTruth, size: int) -> Tensor:
    """Rotation errors (B,) of the poses with known camera; 180 where there is no pose.

    Args:
        occupied: (B, R, R, R) bool, predicted.
        uv: (B, 2, R, R, R) predicted image positions.
        truth: cameras and symmetries.
        size: edge of the image in pixels.
    """
    centers = all_voxel_centers(occupied.shape[-1])
    errors = []
    for item in range(len(occupied)):
        camera = Camera.from_normalized(truth.intrinsics[item].double(), size, size)
        try:
            estimate = solve_pose(
                centers[occupied[item]].double(),
                uv[item].permute(1, 2, 3, 0)[occupied[item]].double(),
                camera=camera,
                config=PoseConfig(max_noise=0.5),
            )
        except PoseError:
            errors.append(180.0)
            continue
        estimated = estimate.T_camera_object.matrix()
        errors.append(rotation_error_deg(truth.T_camera_object[item].double(), estimated, truth.symmetry[item]))
    return torch.tensor(errors)


def field_figures(rows: Tensor, truth: FieldTruth, voxels: VoxelTruth) -> dict[str, float]:
    """Figures of a batch of whole objects, without making meshes.

    Args:
        rows: (64 N, 101) of the decoder.
        truth: of the cubes.
        voxels: that were decoded.

    Returns:
        "iou" of the volumes inside (mean over objects, by corners of cubes), and "color_psnr" in dB of the
        corners near the surface of all objects.
    """
    item = voxels.topology.item.repeat_interleave(len(rows) // len(voxels.topology.item))
    inside = rows[:, :N_CORNERS] - 1 / _cubes_per_axis(voxels) < 0
    true_inside = truth.distance < 0
    both = _per_item((inside & true_inside).sum(1), item, voxels.objects)
    either = _per_item((inside | true_inside).sum(1), item, voxels.objects)
    # Voxels inside the object are not decoded and count as right, with every corner of their cubes.
    interior = voxels.interior * (voxels.truth.cubes**3 * N_CORNERS)
    color = torch.sigmoid(rows[:, -truth.attributes[0].numel() :].view_as(truth.attributes)[truth.near][:, :3])
    error = (color - truth.attributes[truth.near][:, :3]).square().mean()
    return {"iou": float(((both + interior) / (either + interior)).mean()), "color_psnr": psnr(float(error))}


def mesh_figures(decoded: Sequence[TriangleMesh | None], ideal: Sequence[TriangleMesh]) -> dict[str, float]:
    """Figures of meshes against the meshes that the truth gives for the same cubes.

    Args:
        decoded: None where there is no surface.
        ideal: from `ideal_meshes`.

    Returns:
        "chamfer": mean distance of points of either surface to the other, canonical units, mean of both directions
        and over objects; "fscore": share of points within 1/64 of the other surface, harmonic mean; "surface_psnr"
        in dB: color of the nearest point, from truth to decoded.
    """
    chamfer, fscore, error = [], [], []
    for mesh, true in zip(decoded, ideal, strict=True):
        if mesh is None:
            chamfer.append(_NO_MESH)
            fscore.append(0.0)
            continue
        to_mesh, nearest = nearest_points(_subsample(true.vertices), mesh.vertices)
        to_true, _ = nearest_points(_subsample(mesh.vertices), true.vertices)
        chamfer.append(float(to_mesh.mean() + to_true.mean()) / 2)
        recall, precision = (float((distance < 1 / 64).float().mean()) for distance in (to_mesh, to_true))
        fscore.append(2 * precision * recall / max(precision + recall, _TINY))
        if mesh.colors is not None and true.colors is not None:
            error.append(float((mesh.colors[nearest] - _subsample(true.colors)).square().mean()))
    figures = {"chamfer": sum(chamfer) / len(chamfer), "fscore": sum(fscore) / len(fscore)}
    return {**figures, "surface_psnr": psnr(sum(error) / len(error))} if error else figures


def meshes_of(fields: CubeFields) -> list[TriangleMesh | None]:
    """The solid of every item; None where there is no surface."""
    meshes: list[TriangleMesh | None] = []
    for item in range(fields.topology.batch_size):
        chosen = fields.topology.rows_of(item)
        try:
            coords, rows = fields.topology.coords[chosen, 1:], fields.rows[chosen].float()
            meshes.append(extract_solid_mesh(coords, rows, fields.topology.resolution))
        except EmptyMeshError:
            meshes.append(None)
    return meshes


def ideal_meshes(fields: CubeFields, truth: FieldTruth) -> list[TriangleMesh]:
    """The meshes of a perfect decoder on the same cubes."""
    rows = ideal_rows(truth, fields.topology.resolution)
    return [mesh for mesh in meshes_of(CubeFields(rows, fields.topology)) if mesh is not None]


def _subsample(values: Tensor) -> Tensor:
    """At most `_SURFACE_POINTS` rows at a regular stride; vertices of an extraction are spread evenly."""
    return values[:: max(1, -(-len(values) // _SURFACE_POINTS))]


def _per_item(values: Tensor, item: Tensor, count: int) -> Tensor:
    return torch.zeros(count, device=values.device).index_add_(0, item, values.float())


def _cubes_per_axis(voxels: VoxelTruth) -> int:
    return voxels.truth.resolution * voxels.truth.cubes
