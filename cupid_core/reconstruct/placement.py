"""Where an object stands: one way to place it, for early poses, for ranking and for the result.

A placed hypothesis is compared with the image; the best one, fitted where asked, becomes the object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from PIL import Image

from cupid_core.config import CupidConfig, Refine
from cupid_core.errors import CupidError, InvalidDepthError, PlacementError
from cupid_core.geometry.sim3 import Sim3
from cupid_core.mesh.finish import finish_mesh
from cupid_core.mesh.voxel_boxes import voxel_boxes
from cupid_core.models.bundle import NetworkBundle
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.reconstruct.inputs import Frame, ObjectCrop
from cupid_core.reconstruct.progress import ObjectPose
from cupid_core.reconstruct.results import Hypothesis, ObjectModel, ObjectState, SceneObject
from cupid_core.reconstruct.stages import Appearance, Structure
from cupid_core.render.raycast import MeshCaster
from cupid_core.scene.agreement import Mask
from cupid_core.scene.certainty import Calibration, assess
from cupid_core.scene.evidence import Evidence, PlacedShape, gather_evidence
from cupid_core.scene.observation import Observation
from cupid_core.scene.photo_color import color_from_photo
from cupid_core.scene.place import Placement, place_up_to_scale, place_with_depth, place_with_size
from cupid_core.scene.quality import measure_quality
from cupid_core.scene.refine import Refinement, refine_placement
from cupid_core.scene.shape_fit import ShapeFit, fit_shapes
from cupid_core.scene.shape_symmetry import ShapeSymmetry, find_symmetry
from cupid_core.types import CameraSource, Quality, ScaleSource, TriangleMesh

# The surface may be anywhere in the outermost voxel: half of it is the deviation that voxels add.
_VOXEL_SURFACE_STD = 0.5


@dataclass(frozen=True, eq=False)
class PlacedHypothesis:
    """A hypothesis in the frame of the camera.

    Attributes:
        hypothesis: what was placed.
        caster: its mesh, ready to be rendered.
        placement: where it stands.
        remarks: why a better way of placing it was not possible.
    """

    hypothesis: Hypothesis
    caster: MeshCaster
    placement: Placement
    remarks: tuple[str, ...] = ()


def place(
    caster: MeshCaster,
    pose: PoseEstimate,
    frame: Frame,
    id_: int,
    config: CupidConfig,
    *,
    surface_std: float = 0.0,
) -> tuple[Placement, tuple[str, ...]]:
    """The best place that the frame allows: by depth, else by a known size, else up to scale and said so.

    Args:
        caster: the shape, canonical frame.
        pose: of the shape, in canonical units; its camera is that of the frame.
        frame: labels, depth, known sizes.
        id_: which object of the frame.
        config: of placement and alignment.
        surface_std: how far the surface may be from that of the object, canonical units.

    Returns:
        The placement, and why a better way was not possible.

    Raises:
        InputError: sizes differ.
    """
    remarks: list[str] = []
    if frame.depth is not None:
        relative = surface_std / float(pose.T_camera_object.translation.norm())
        depth = replace(frame.depth, scale_std=(frame.depth.scale_std**2 + relative**2) ** 0.5)
        try:
            placement = place_with_depth(
                caster,
                pose,
                depth,
                frame.mask(id_),
                camera_known=frame.camera_source in (CameraSource.GIVEN, CameraSource.EXIF),
                config=config.placement,
                similarity=config.similarity,
            )
            return placement, ()
        except (PlacementError, InvalidDepthError) as error:
            remarks.append(f"no scale from depth: {error.problem}")
    if id_ in frame.sizes_m:
        size_m = frame.sizes_m[id_]
        std_m = size_m * 2 * surface_std / caster.longest_side()
        return place_with_size(caster, pose, size_m, std_m), tuple(remarks)
    return place_up_to_scale(pose), tuple(remarks)


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


def finish_object(
    frame: Frame, id_: int, ranked: list[PlacedHypothesis], occlusion: Mask, config: CupidConfig, *, refine: Refine
) -> SceneObject:
    """Make the best hypothesis the object: fitted where asked, in metres, with its quality.

    Args:
        frame: image, labels, camera, depth.
        id_: which object.
        ranked: its hypotheses, best first.
        occlusion: (H, W) where others may hide it.
        config: of the scene.
        refine: what fits the object to mask and depth.

    Raises:
        InputError: sizes differ.
    """
    mask = frame.mask(id_)
    refined = _refined(ranked, frame, mask, occlusion, config, refine)
    best, placement, S_camera_object = refined.best, refined.best.placement, refined.S_camera_object
    hypothesis, scale = best.hypothesis, float(S_camera_object.scale)
    quality = _quality_in_image(refined, frame, mask, occlusion, config)
    symmetry = find_symmetry(refined.mesh, refined.caster)
    evidence = _evidence(refined, ranked, frame, mask, occlusion, symmetry)
    certainty = assess(
        _calibration(hypothesis.networks),
        evidence.values(),
        S_camera_object,
        refined.caster.longest_side() * scale,
        symmetry=symmetry,
        unit_std=_unit_std(placement, frame),
    )
    quality = certainty.judge(quality, (*best.remarks, *refined.remarks))
    mesh = refined.mesh
    if _takes_photo_color(hypothesis, config):
        largest_px = config.mesh.texture_size_px
        view = (S_camera_object, placement.camera, frame.image, mask)
        mesh = color_from_photo(mesh, *view, caster=refined.caster, largest_px=largest_px)
    model = ObjectModel(
        label=frame.names.get(id_, f"object_{id_}"),
        mesh=scaled(mesh, scale),
        watertight=hypothesis.watertight,
        scale=scale,
        scale_source=placement.scale_source,
        scale_std=math.nan if placement.scale_source is ScaleSource.UNKNOWN else scale * certainty.scale_std,
        appearance=hypothesis.appearance,
        symmetry=symmetry.scaled(scale),
    )
    state = ObjectState(S_camera_object.rigid(), certainty.covariance, certainty.calibrated)
    hypotheses = (hypothesis, *(placed.hypothesis for placed in ranked if placed is not best))
    return SceneObject(
        id_,
        model,
        state,
        quality,
        hypotheses,
        {},
        truncated=False,
        refinement=refined.refinement,
        evidence=evidence,
    )


def _quality_in_image(
    refined: _Refined, frame: Frame, mask: Mask, occlusion: Mask, config: CupidConfig
) -> Quality:
    """Agreement of the object at its place with the whole image."""
    placement, S_camera_object = refined.best.placement, refined.S_camera_object
    measured = placement.scale_source in (ScaleSource.SENSOR, ScaleSource.MODEL)
    size_m = refined.caster.longest_side() * float(S_camera_object.scale)
    return measure_quality(
        refined.caster.render(S_camera_object, placement.camera),
        mask,
        frame.image,
        refined.best.hypothesis.pose,
        hidden=occlusion,
        depth=frame.depth if measured else None,
        size_m=size_m if measured else None,
        config=config.quality,
    )


def _evidence(
    refined: _Refined,
    ranked: Sequence[PlacedHypothesis],
    frame: Frame,
    mask: Mask,
    occlusion: Mask,
    symmetry: ShapeSymmetry,
) -> Evidence:
    """What speaks for and against the object; the other hypotheses count as they were placed."""
    placement = refined.best.placement
    metric = placement.scale_source is not ScaleSource.UNKNOWN
    others = [other for other in ranked if other is not refined.best]
    return gather_evidence(
        PlacedShape(refined.mesh, refined.caster, refined.S_camera_object),
        _placed_shape(refined.best),
        [
            _placed_shape(other)
            for other in others
            if other.placement.scale_source is placement.scale_source and other.hypothesis.shape is not None
        ],
        Observation(mask, placement.camera, occlusion, frame.depth if metric else None),
        refined.best.hypothesis.quality,
        symmetry=symmetry,
        recognition=refined.best.hypothesis.structure.recognition,
        fit=refined.refinement,
        metric=metric,
    )


def _placed_shape(placed: PlacedHypothesis) -> PlacedShape:
    return PlacedShape(placed.hypothesis.mesh(), placed.caster, placed.placement.S_camera_object)


def _calibration(networks: NetworkBundle | None) -> Calibration | None:
    """Of the checkpoint that an object was made with; None where it has none."""
    entry = None if networks is None else networks.published.calibration
    return None if entry is None else Calibration(**entry.model_dump())


def _unit_std(placement: Placement, frame: Frame) -> float:
    """Relative deviation of the unit of length itself: of all depth together, or of the known size."""
    if placement.scale_source is ScaleSource.KNOWN_SIZE:
        return placement.scale_std / placement.scale
    measured = placement.scale_source is not ScaleSource.UNKNOWN and frame.depth is not None
    return frame.depth.scale_std if measured and frame.depth is not None else 0.0


@dataclass(frozen=True, eq=False)
class _Refined:
    """The chosen hypothesis of an object after the fit.

    Attributes:
        best: which hypothesis.
        caster: of the fitted mesh.
        mesh: the fitted mesh, canonical frame.
        S_camera_object: its place.
        refinement: what was changed; None where nothing was asked for or it was not possible.
        remarks: why it was not possible.
    """

    best: PlacedHypothesis
    caster: MeshCaster
    mesh: TriangleMesh
    S_camera_object: Sim3
    refinement: Refinement | ShapeFit | None = None
    remarks: tuple[str, ...] = ()


def _refined(
    ranked: list[PlacedHypothesis],
    frame: Frame,
    mask: Mask,
    occlusion: Mask,
    config: CupidConfig,
    refine: Refine,
) -> _Refined:
    """The best hypothesis, its place or also its shape fitted to mask and depth."""
    best = ranked[0]
    caster, placement, mesh = best.caster, best.placement, best.hypothesis.mesh()
    depth = None if placement.scale_source is ScaleSource.UNKNOWN else frame.depth
    if refine == "pose":
        moved = refine_placement(
            caster,
            placement.S_camera_object,
            mask,
            depth,
            placement.camera,
            hidden=occlusion,
            config=config.refine,
        )
        return _Refined(best, caster, mesh, moved.S_camera_object, moved)
    if refine == "shape":
        # Hypotheses are fitted first and compared then: what the fit mends shall decide nothing.
        alike = [placed for placed in ranked if placed.placement.scale_source is placement.scale_source]
        alike = alike[: config.shape_fit.hypotheses]
        starts = [(placed.hypothesis.mesh(), placed.placement.S_camera_object) for placed in alike]
        try:
            fits = fit_shapes(starts, Observation(mask, placement.camera, occlusion, depth), config.shape_fit)
        except CupidError as error:
            remark = f"the shape was not fitted: {error.problem}"
            return _Refined(best, caster, mesh, placement.S_camera_object, None, (remark,))
        number = max(range(len(fits)), key=lambda row: fits[row].score)
        fit = fits[number]
        return _Refined(alike[number], MeshCaster(fit.mesh), fit.mesh, fit.S_camera_object, fit)
    return _Refined(best, caster, mesh, placement.S_camera_object)


def early_pose(
    structure: Structure, frame: Frame, id_: int, config: CupidConfig, networks: NetworkBundle
) -> ObjectPose:
    """The pose of a structure before it has a mesh, in metres where depth or a known size gives them.

    Its voxels stand for the mesh; how much coarser they are is in the deviations.

    Args:
        structure: with its pose, whose camera is that of the frame.
        frame: labels, camera, depth, sizes.
        id_: which object of the frame.
        config: of the placement.
        networks: of the checkpoint, for its calibration.
    """
    assert structure.pose is not None
    calibration = _calibration(networks)
    caster = MeshCaster(voxel_boxes(structure.coords.cpu(), structure.resolution))
    try:
        std = _VOXEL_SURFACE_STD / structure.resolution
        placement, _ = place(caster, structure.pose, frame, id_, config, surface_std=std)
    except CupidError:  # the mesh will meet the same error, which is reported then
        placement = place_up_to_scale(structure.pose)
    T = placement.S_camera_object.rigid()
    size = placement.scale * caster.longest_side()
    known = dict.fromkeys((item.name for item in fields(Evidence)), math.nan)
    known |= {"measured": float(frame.depth is not None), "fitted": 0.0, "drawn": 0.0}
    certainty = assess(
        calibration, known, placement.S_camera_object, size, symmetry=None, unit_std=_unit_std(placement, frame)
    )
    metric = placement.scale_source is not ScaleSource.UNKNOWN
    return ObjectPose(
        id=id_,
        quat_xyzw=tuple(T.quat_xyzw.tolist()),
        translation=tuple(T.translation.tolist()),
        covariance=tuple(certainty.covariance.reshape(-1).tolist()),
        scale=placement.scale,
        scale_source=placement.scale_source,
        scale_std=placement.scale * certainty.scale_std if metric else math.nan,
    )


def _takes_photo_color(hypothesis: Hypothesis, config: CupidConfig) -> bool:
    """Whether the settings, or the checkpoint in their place, ask for the color of the photograph."""
    choice, networks = config.reconstruct.color, hypothesis.networks
    if choice == "auto" and networks is not None:
        return networks.published.color == "photo"
    return choice == "photo"


def scaled(mesh: TriangleMesh, scale: float) -> TriangleMesh:
    """The mesh in other units, its frame the same."""
    like = mesh.vertices
    return mesh.transformed(
        Sim3(
            torch.tensor(scale, dtype=like.dtype, device=like.device),
            torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=like.dtype, device=like.device),
            torch.zeros(3, dtype=like.dtype, device=like.device),
        )
    )
