"""A known object in the place of the networks, and the image of it through a lens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from serving_stubs import box_record

from cupid_core.config import CupidConfig
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.distortion import Distortion
from cupid_core.image.rectify import rectify
from cupid_core.perception.segmenters import build_segmenter
from cupid_core.reconstruct.pipeline import Cupid
from cupid_core.reconstruct.results import ObjectModel, ObjectState, Scene, SceneObject
from cupid_core.render.raycast import render_mesh
from cupid_core.serving.jobs import CupidJob
from cupid_core.types import CameraSource, TriangleMesh

TRUTH = box_record(1)
LENSES = {
    "none": None,
    "plumb_bob": Distortion("plumb_bob", (-0.25, 0.08, 0.002, -0.001, 0.0)),
    "equidistant": Distortion("equidistant", (-0.02, 0.003, 0.0, 0.0)),
}


@dataclass(frozen=True)
class TrueSceneCupid:
    """Takes the place of the networks: rectifies the image, and answers with the true object."""

    config: CupidConfig

    def __call__(self, image: Any, *, masks: Mapping[int, Any], **given: Any) -> Scene:
        labels = np.zeros(image.shape[:2], np.int32)
        for number, mask in masks.items():
            labels[np.asarray(mask)] = number
        straight = rectify(image, given["camera"], labels=labels, depth=given["depth"])
        assert straight.labels is not None and given["depth"] is not None
        placed = tuple(self._placed(number) for number in masks)
        return Scene(placed, {}, straight.camera, CameraSource.GIVEN, straight.image, straight.labels, {})

    @staticmethod
    def _placed(number: int) -> SceneObject:
        model = ObjectModel("box", true_mesh(), True, TRUTH.scale, TRUTH.scale_source, TRUTH.scale_std)
        state = ObjectState(TRUTH.T_camera_object, torch.eye(6))
        return SceneObject(number, model, state, TRUTH.quality, (), {}, False)


def make_golden_job() -> CupidJob:
    """Everything of the real job but its networks."""
    config = CupidConfig()
    return CupidJob(cast("Cupid", TrueSceneCupid(config)), build_segmenter(config.perception.segmenter))


def render_truth(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Labels and depth (mm) of the true object as the lens sees it: a pixel's ray in a finer pinhole drawing."""
    fine = replace(camera, distortion=None).resize(4 * camera.width, 4 * camera.height)
    drawn = render_mesh(true_mesh(), TRUTH.T_camera_object, fine)
    px = fine.project(camera.rays()).round().long().numpy()
    inside = ((px >= 0) & (px < [fine.width, fine.height])).all(axis=-1)
    column, row = np.where(inside[..., None], px, 0)[..., 0], np.where(inside[..., None], px, 0)[..., 1]
    labels = (drawn.mask[row, column] & inside).astype(np.uint8)
    depth = np.where(labels == 1, np.nan_to_num(drawn.depth[row, column]) * 1000, 0).astype(np.uint16)
    return labels, depth


def true_mesh() -> TriangleMesh:
    assert TRUTH.colors is not None
    vertices, colors = torch.from_numpy(TRUTH.vertices).float(), torch.from_numpy(TRUTH.colors)
    return TriangleMesh(vertices, torch.from_numpy(TRUTH.faces), colors)


def camera_with(lens: str) -> Camera:
    """A camera of 320 x 240 pixels with one of `LENSES`."""
    return Camera.from_parameters(
        fx=300.0, fy=303.0, cx=155.0, cy=123.0, width=320, height=240, distortion=LENSES[lens]
    )
