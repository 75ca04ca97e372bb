"""How well a hypothesis agrees with the image it was sampled for, and the number that hypotheses are ranked by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from cupid_core.config import CupidConfig
from cupid_core.mesh.finish import finish_mesh
from cupid_core.mesh.voxel_boxes import voxel_boxes
from cupid_core.models.bundle import NetworkBundle
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.reconstruct.inputs import Frame, Mask, ObjectCrop
from cupid_core.reconstruct.placement import PlacedHypothesis, place
from cupid_core.reconstruct.results import Hypothesis
from cupid_core.reconstruct.stages import Appearance, Structure
from cupid_core.render.raycast import MeshCaster
from cupid_core.scene.place import Placement
from cupid_core.scene.quality import measure_quality
from cupid_core.types import Quality, TriangleMesh


def score_hypothesis(
    structure: Structure,
    crop: ObjectCrop,
    frame: Frame,
    id_: int,
    config: CupidConfig,
    *,
    decoded: tuple[NetworkBundle, Appearance, TriangleMesh] | None = None,
) -> PlacedHypothesis:
    """Place a structure in its frame, render it into its crop, and compare.

    Args:
        structure: with its pose, whose camera is that of the crop.
        crop: what it was sampled for.
        frame: labels, depth, camera.
        id_: which object of the frame.
        config: size of the rendering, weights of the score, thresholds of the verdict.
        decoded: networks, latent and decoded mesh; None compares the boxes of the voxels.

    Raises:
        EmptyMeshError: cleaning left nothing of the mesh.
    """
    assert structure.pose is not None
    pose = replace(structure.pose, camera=crop.crop.uncrop_camera(structure.pose.camera))
    finished = None if decoded is None else finish_mesh(decoded[2], config.mesh)
    boxes = voxel_boxes(structure.coords.cpu(), structure.resolution) if finished is None else finished.mesh
    caster = MeshCaster(boxes)
    placement, remarks = place(caster, pose, frame, id_, config)
    quality = _quality_in_crop(caster, placement, structure.pose, crop, config)
    if placement.residual_m is not None:
        quality = replace(quality, depth_residual_m=placement.residual_m)
    hypothesis = Hypothesis(
        structure=structure,
        pose=pose,
        quality=quality,
        score=_score(quality, placement, caster.longest_side(), crop.crop.side, config),
        appearance=None if decoded is None else decoded[1],
        shape=None if finished is None else finished.mesh,
        watertight=False if finished is None else finished.watertight,
        networks=None if decoded is None else decoded[0],
    )
    return PlacedHypothesis(hypothesis, caster, placement, remarks)


def _quality_in_crop(
    caster: MeshCaster, placement: Placement, pose: PoseEstimate, crop: ObjectCrop, config: CupidConfig
) -> Quality:
    """Agreement of the placed shape inside the crop, at the size of the settings.

    Reprojection stays in pixels of the image.
    """
    size = min(config.reconstruct.score_size, crop.crop.side)
    rgba = np.array(Image.fromarray(crop.crop.rgba).resize((size, size), Image.Resampling.BOX))
    quality = measure_quality(
        caster.render(placement.S_camera_object, crop.crop.camera(placement.camera).resize(size, size)),
        rgba[..., 3] > 127,
        rgba[..., :3],
        replace(pose, reprojection_rms_px=pose.reprojection_rms_px * size / crop.crop.side),
        hidden=None if crop.occlusion_mask is None else _resized(crop.occlusion_mask, size),
        config=config.quality,
    )
    return replace(quality, reprojection_rms_px=pose.reprojection_rms_px)


def _resized(mask: Mask, size: int) -> Mask:
    gray = Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))
    small: Mask = np.array(gray.resize((size, size), Image.Resampling.BOX)) > 127
    return small


def _score(quality: Quality, placement: Placement, extent: float, side: int, config: CupidConfig) -> float:
    """Silhouette IoU, less what colors, pixels of the voxels and depth are off by."""
    weights = config.reconstruct
    score = quality.silhouette_iou - weights.reprojection_weight * quality.reprojection_rms_px / side
    if quality.color_psnr_db is not None:
        score -= weights.color_weight * 10 ** (-quality.color_psnr_db / 20)
    if placement.residual_m is not None:
        score -= weights.depth_weight * min(1.0, placement.residual_m / (placement.scale * extent))
    return score
