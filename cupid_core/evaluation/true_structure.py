"""Stage 2 on a given structure and pose (true, or of another checkpoint): the effect of conditioning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cupid_core.config import CupidConfig
from cupid_core.data.tabletop import TabletopSettings
from cupid_core.errors import CupidError
from cupid_core.evaluation.measure import Figures, picture_figures, render_in_view
from cupid_core.evaluation.records import CaseRecord
from cupid_core.evaluation.tabletop_cases import UNSEEN_SEED, TabletopCase, tabletop_cases
from cupid_core.geometry import SE3, Camera
from cupid_core.models.bundle import NetworkBundle
from cupid_core.pose import PoseEstimate
from cupid_core.reconstruct.inputs import ObjectCrop, crop_object
from cupid_core.reconstruct.stages import Structure, decode_mesh, encode_images, sample_appearances, samplers_of
from cupid_core.render.raycast import MeshCaster
from cupid_core.types import TriangleMesh


@dataclass(frozen=True, eq=False)
class GivenStructure:
    """Voxels and pose of an object in one view.

    Attributes:
        coords: (N, 3) int64, N >= 1.
        resolution: voxels per edge.
        T_camera_object: canonical units.
    """

    coords: Tensor
    resolution: int
    T_camera_object: SE3


@torch.no_grad()
def sample_appearance_on(
    networks: NetworkBundle,
    crops: Sequence[ObjectCrop],
    given: Sequence[GivenStructure],
    config: CupidConfig,
    seed: int,
) -> list[TriangleMesh | CupidError]:
    """The mesh of stage 2 for each structure, or the error that left none.

    Args:
        networks: of any checkpoint with the same resolution.
        crops: of the structures, in their order; their cameras project the voxels.
        given: structures with poses.
        config: samplers.
        seed: of the noise; the same for every structure, so two checkpoints start from the same noise.
    """
    structures = [
        Structure(
            row, 0, item.coords, torch.zeros(len(item.coords), 2), item.resolution, exact_pose(item, crop.camera)
        )
        for row, (crop, item) in enumerate(zip(crops, given, strict=True))
    ]
    condition = encode_images(networks, crops)
    _, sampler = samplers_of(networks, config)
    meshes: list[TriangleMesh | CupidError] = []
    for appearance in sample_appearances(networks, condition, structures, sampler, [seed]):
        try:
            meshes.append(decode_mesh(networks, appearance))
        except CupidError as error:
            meshes.append(error)
    return meshes


def true_structure_figures(
    networks: NetworkBundle,
    cases: Sequence[TabletopCase],
    crops: Sequence[ObjectCrop],
    config: CupidConfig,
    *,
    seed: int,
    suffix: str = "",
) -> list[Figures]:
    """PSNR of stage 2 on the true structure and pose; empty where it gives no mesh.

    Args:
        networks: of any checkpoint with the resolution of the cases.
        cases: the truth.
        crops: of the cases.
        config: samplers.
        seed: of the noise.
        suffix: appended to the names of the figures.
    """
    given = [
        GivenStructure(case.shell.nonzero(), case.shell.shape[0], SE3.from_matrix(case.T_camera_object))
        for case in cases
    ]
    poses = [(item.T_camera_object, case.camera) for item, case in zip(given, cases, strict=True)]
    meshes = sample_appearance_on(networks, crops, given, config, seed)
    return [
        {}
        if isinstance(mesh, CupidError)
        else picture_figures(case, render_in_view(case, MeshCaster(mesh), *at), suffix)
        for case, mesh, at in zip(cases, meshes, poses, strict=True)
    ]


def run_true_structure(
    networks: NetworkBundle, config: CupidConfig, count: int, *, split: str = "train", at_once: int = 4
) -> list[CaseRecord]:
    """Stage 2 alone on unseen objects: the same objects, noise and figures as in the whole benchmark.

    Args:
        networks: of a checkpoint.
        config: of crop and samplers.
        count: objects.
        split: "train" or "held_out" families.
        at_once: objects per batch of the networks.
    """
    settings = TabletopSettings(resolution=networks.appearance_flow.resolution)
    records = []
    for start in range(0, count, at_once):
        cases = tabletop_cases(range(start, min(start + at_once, count)), settings, split=split)
        crops = [
            crop_object(case.image, case.mask, config, camera=case.camera, occlusion=case.occlusion)
            for case in cases
        ]
        figures = true_structure_figures(networks, cases, crops, config, seed=UNSEEN_SEED, suffix="_true")
        records += [
            CaseRecord(split, case.index, case.family, found) for case, found in zip(cases, figures, strict=True)
        ]
    return records


def exact_pose(given: GivenStructure, camera: Camera) -> PoseEstimate:
    """A given pose as an estimate without uncertainty, with the camera of the crop."""
    pose = given.T_camera_object.to(dtype=torch.float64)
    return PoseEstimate(
        T_camera_object=pose,
        camera=camera.to(dtype=torch.float64),
        covariance=torch.zeros(6, 6, dtype=torch.float64),
        inlier_ratio=1.0,
        reprojection_rms_px=0.0,
        degeneracy="none",
    )
