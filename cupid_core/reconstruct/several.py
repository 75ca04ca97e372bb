"""Several objects of one image: reconstructed together, each placed at metric scale, with meshes ready for use.

Knows the order of the steps; every step lives in its own room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from cupid_core.config import CupidConfig
from cupid_core.errors import CupidError
from cupid_core.geometry.camera import Camera
from cupid_core.models.bundle import NetworkBundle
from cupid_core.reconstruct.early import pose_in_frame
from cupid_core.reconstruct.frame import Frame
from cupid_core.reconstruct.method import Request, reconstruct_views
from cupid_core.reconstruct.placing import place_object
from cupid_core.reconstruct.progress import ObjectPose, Run
from cupid_core.reconstruct.results import PlacedObject, Reconstruction, SceneReconstruction
from cupid_core.reconstruct.steps import Draw
from cupid_core.reconstruct.view import guessed_camera, look_at
from cupid_core.scene.occlusion import occlusion_masks

Found = dict[int, Reconstruction | CupidError]


def reconstruct_frame(
    networks: NetworkBundle, frame: Frame, config: CupidConfig, request: Request, run: Run, *, refine: bool = False
) -> SceneReconstruction:
    """All objects of a frame.

    Args:
        networks: of a checkpoint.
        frame: image, labels, camera, depth.
        config: of all steps.
        request: seed and number of hypotheses; never `pose_only`.
        run: told about progress.
        refine: move placed objects so that they meet depth and mask better.

    Raises:
        CancelledError: the caller wanted to stop.
    """
    hidden = occlusion_masks(frame.labels, frame.depth, config.placement)
    known = frame.camera is not None
    camera = frame.camera or agreed_camera(networks, frame, hidden, config, request, run)
    told = frame if request.early_poses else None
    found = _reconstruct(networks, replace(frame, camera=camera), hidden, config, request, run, told=told)
    placed: list[PlacedObject] = []
    failures: dict[int, CupidError] = {}
    with run.stage("place"):
        for number, (id_, result) in enumerate(found.items()):
            run.report("place", number / len(found))
            outcome = _placed(frame, id_, result, hidden[id_], config, refine)
            if isinstance(outcome, PlacedObject):
                placed.append(outcome)
            else:
                failures[id_] = outcome
    return SceneReconstruction(
        objects=tuple(placed),
        failures=failures,
        camera=camera,
        camera_known=known,
        image=frame.image,
        labels=frame.labels,
        timings_s=dict(run.timings_s),
    )


def agreed_camera(
    networks: NetworkBundle,
    frame: Frame,
    hidden: Mapping[int, NDArray[np.bool_]],
    config: CupidConfig,
    request: Request,
    run: Run,
) -> Camera:
    """One camera for all objects of a frame without one, from poses alone.

    Every object estimates the focal length by itself; their median in the logarithm, weighted by how well each one
    meets its mask, is taken for all. Where no object gives an estimate, it is the most likely camera.
    """
    alone = Request(seed=request.seed, samples=request.samples, pose_only=True)
    found = _reconstruct(networks, frame, hidden, config, alone, run)
    best = [result.best for result in found.values() if isinstance(result, Reconstruction)]
    height, width = frame.labels.shape
    guess = guessed_camera(width, height, config.pose)
    if not best:
        return guess
    focals = torch.tensor([float(hypothesis.pose.camera.K[0, 0]) for hypothesis in best]).log()
    weights = torch.tensor([hypothesis.quality.silhouette_iou + 1e-6 for hypothesis in best])
    order = focals.argsort()
    middle = int((weights[order].cumsum(0) < weights.sum() / 2).sum())
    focal = float(focals[order[middle]].exp())
    return Camera.from_focal(focal, width, height)


def _reconstruct(
    networks: NetworkBundle,
    frame: Frame,
    hidden: Mapping[int, NDArray[np.bool_]],
    config: CupidConfig,
    request: Request,
    run: Run,
    *,
    told: Frame | None = None,
) -> Found:
    """All objects through the networks, as many at once as the settings allow.

    Progress tells the poses as they are in the frame `told`; none where it is None.
    """
    ids = frame.ids()
    views = [
        look_at(
            frame.image,
            frame.mask(id_),
            config,
            camera=frame.camera,
            occlusion=hidden[id_] if hidden[id_].any() else None,
            depth=frame.depth if frame.camera is not None else None,
        )
        for id_ in ids
    ]
    each = max(1, config.reconstruct.batch // request.samples)
    results: list[Reconstruction | CupidError] = []
    for start in range(0, len(views), each):
        pose_of = None if told is None else partial(_pose, told, ids[start:], config)
        batch = views[start : start + each]
        results += reconstruct_views(networks, batch, config, request, run, pose_of=pose_of)
    return dict(zip(ids, results, strict=True))


def _pose(frame: Frame, ids: Sequence[int], config: CupidConfig, draw: Draw) -> ObjectPose:
    """What progress tells of the draw of one of these objects."""
    return pose_in_frame(frame, draw, ids[draw.view], config)


def _placed(
    frame: Frame,
    id_: int,
    result: Reconstruction | CupidError,
    hidden: NDArray[np.bool_],
    config: CupidConfig,
    refine: bool,
) -> PlacedObject | CupidError:
    """The object at its place, or why it is missing."""
    if isinstance(result, CupidError):
        return result
    try:
        return place_object(frame, id_, result, hidden, config, refine=refine)
    except CupidError as error:
        return error
