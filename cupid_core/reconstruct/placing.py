"""The best hypothesis of an object becomes one that a robot can use: cleaned, placed, in metres, judged.

Knows meshes, depth and masks, no networks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from cupid_core.config import CupidConfig
from cupid_core.errors import EmptyMeshError, PlacementError
from cupid_core.geometry.sim3 import Sim3
from cupid_core.mesh.finish import finish_mesh
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.reconstruct.frame import Frame
from cupid_core.reconstruct.results import PlacedObject, Reconstruction
from cupid_core.render.raycast import render_mesh
from cupid_core.scene.place import Placement, place_up_to_scale, place_with_depth, place_with_size
from cupid_core.scene.quality import measure_quality
from cupid_core.scene.refine import Refinement, refine_placement
from cupid_core.types import DepthMap, Quality, ScaleSource, TriangleMesh, Verdict


@dataclass(frozen=True, eq=False)
class _Place:
    """A placement, and what is to be said of it."""

    placement: Placement
    refinement: Refinement | None = None
    remarks: tuple[str, ...] = ()

    @property
    def S_camera_object(self) -> Sim3:
        return self.placement.S_camera_object if self.refinement is None else self.refinement.S_camera_object


def place_object(
    frame: Frame,
    id_: int,
    result: Reconstruction,
    hidden: NDArray[np.bool_],
    config: CupidConfig,
    *,
    refine: bool,
) -> PlacedObject:
    """Clean, place, refine where asked, judge.

    Args:
        frame: image, labels, camera, depth.
        id_: which object.
        result: its hypotheses, with meshes.
        hidden: (H, W) where others may hide it.
        config: of the rooms mesh and scene.
        refine: move the object so that it meets depth and mask better.

    Raises:
        EmptyMeshError: cleaning left nothing.
        InputError: sizes differ.
    """
    best, mask = result.best, frame.mask(id_)
    if best.mesh is None:
        raise EmptyMeshError(f"Object {id_} has no mesh.", hint="Ask for more than the pose.")
    finished = finish_mesh(best.mesh, config.mesh)
    place = _place(finished.mesh, best.pose, frame, id_, config)
    metric = place.placement.scale_source is not ScaleSource.UNKNOWN
    depth = frame.depth if metric else None
    if refine:
        refinement = refine_placement(
            finished.mesh,
            place.S_camera_object,
            mask,
            depth,
            place.placement.camera,
            hidden=hidden,
            config=config.refine,
        )
        place = replace(place, refinement=refinement)
    S = place.S_camera_object
    mesh = scaled(finished.mesh, float(S.scale))
    quality = _judged(mesh, place, best.pose, (frame, mask, hidden), config)
    return PlacedObject(
        id=id_,
        label=frame.names.get(id_, f"object_{id_}"),
        reconstruction=result,
        mesh=mesh,
        watertight=finished.watertight,
        T_camera_object=S.rigid(),
        covariance=place.placement.covariance,
        scale=float(S.scale),
        scale_source=place.placement.scale_source,
        scale_std=place.placement.scale_std * float(S.scale) / place.placement.scale,
        quality=quality,
        refinement=place.refinement,
    )


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


def _place(mesh: TriangleMesh, pose: PoseEstimate, frame: Frame, id_: int, config: CupidConfig) -> _Place:
    """The best metric place that the frame allows: by depth, by a known size, or none and said so."""
    remarks: list[str] = []
    if frame.depth is not None:
        try:
            placement = place_with_depth(
                mesh,
                pose,
                frame.depth,
                frame.mask(id_),
                camera_known=frame.camera is not None,
                config=config.placement,
                similarity=config.similarity,
            )
            return _Place(placement)
        except PlacementError as error:
            remarks.append(f"no scale from depth: {error.problem}")
    if id_ in frame.sizes_m:
        return _Place(place_with_size(mesh, pose, frame.sizes_m[id_]), remarks=tuple(remarks))
    return _Place(place_up_to_scale(pose), remarks=tuple(remarks))


def _judged(
    mesh: TriangleMesh,
    place: _Place,
    pose: PoseEstimate,
    seen: tuple[Frame, NDArray[np.bool_], NDArray[np.bool_]],
    config: CupidConfig,
) -> Quality:
    """Quality at the final place; a missing scale beside depth is doubtful."""
    frame, mask, hidden = seen
    metric = place.placement.scale_source in (ScaleSource.SENSOR, ScaleSource.MODEL)
    depth: DepthMap | None = frame.depth if metric else None
    extent = float((mesh.vertices.amax(dim=0) - mesh.vertices.amin(dim=0)).max())
    quality = measure_quality(
        render_mesh(mesh, place.S_camera_object.rigid(), place.placement.camera),
        mask,
        frame.image,
        pose,
        hidden=hidden,
        depth=depth,
        size_m=extent if metric else None,
        config=config.quality,
    )
    if not place.remarks:
        return quality
    verdict = Verdict.DOUBTFUL if quality.verdict is Verdict.GOOD else quality.verdict
    return replace(quality, verdict=verdict, reasons=(*quality.reasons, *place.remarks))
