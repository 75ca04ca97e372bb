"""From messages to messages with a known object in the place of the networks: what is published lands on its mask.

Everything but the networks is the real thing: conversion of a distorted image, the server, the job with its
overlay, conversion back, the wire. The published mesh, drawn with the published transform and CameraInfo, must
meet the labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from box_objects import box_record

from cupid_core.config import CupidConfig, RosConfig
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.distortion import Distortion
from cupid_core.image.rectify import rectify
from cupid_core.perception.segmenters import build_segmenter
from cupid_core.reconstruct.cupid import Cupid
from cupid_core.reconstruct.results import PlacedObject, Reconstruction, SceneReconstruction
from cupid_core.render.raycast import render_mesh
from cupid_core.types import TriangleMesh
from cupid_ros.convert.camera import make_camera_info, read_camera
from cupid_ros.convert.detections import Detection, make_detections
from cupid_ros.convert.header import Stamped
from cupid_ros.convert.image import make_image
from cupid_ros.convert.objects import make_object_array
from cupid_ros.convert.transforms import make_transforms, pose_of, read_transform
from cupid_ros.errors import NoObjectsError
from cupid_ros.intake import FrameMessages, read_frame
from cupid_ros.job import CupidJob, SceneRequest
from cupid_ros.messages import BagMessageTypes
from cupid_ros.results import Observation
from cupid_ros.server import Server
from cupid_ros.tickets import InProcess

NOW = Stamped(1_700_000_000_000_000_003, "camera_optical")
TRUTH = box_record(1)
LENSES = {
    "none": None,
    "plumb_bob": Distortion("plumb_bob", (-0.25, 0.08, 0.002, -0.001, 0.0)),
    "equidistant": Distortion("equidistant", (-0.02, 0.003, 0.0, 0.0)),
}


@dataclass(frozen=True)
class KnowsTheTruth:
    """Stands for the networks: sees the rectified image and answers with the object as it is."""

    config: CupidConfig

    def reconstruct_scene(self, image: Any, masks: Mapping[int, Any], **given: Any) -> SceneReconstruction:
        labels = np.zeros(image.shape[:2], np.int32)
        for number, mask in masks.items():
            labels[np.asarray(mask)] = number
        straight = rectify(image, given["camera"], labels=labels, depth=given["depth"])
        assert straight.labels is not None and given["depth"] is not None
        placed = tuple(self._placed(number) for number in masks)
        return SceneReconstruction(placed, {}, straight.camera, True, straight.image, straight.labels, {})

    @staticmethod
    def _placed(number: int) -> PlacedObject:
        return PlacedObject(
            number, "box", cast("Reconstruction", None), true_mesh(), True, pose_of(TRUTH), torch.eye(6),
            TRUTH.scale, TRUTH.scale_source, TRUTH.scale_std, TRUTH.quality,
        )  # fmt: skip


def make_job() -> CupidJob:
    config = CupidConfig()
    return CupidJob(cast("Cupid", KnowsTheTruth(config)), build_segmenter(config.perception.segmenter))


def seen_through(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Labels and depth (mm) of the true object as the lens sees it: a pixel's ray in a finer pinhole drawing."""
    fine = replace(camera, distortion=None).resize(4 * camera.width, 4 * camera.height)
    drawn = render_mesh(true_mesh(), pose_of(TRUTH), fine)
    px = fine.project(camera.rays()).round().long().numpy()
    inside = ((px >= 0) & (px < [fine.width, fine.height])).all(axis=-1)
    column, row = np.where(inside[..., None], px, 0)[..., 0], np.where(inside[..., None], px, 0)[..., 1]
    labels = (drawn.mask[row, column] & inside).astype(np.uint8)
    depth = np.where(labels == 1, np.nan_to_num(drawn.depth[row, column]) * 1000, 0).astype(np.uint16)
    return labels, depth


def true_mesh() -> TriangleMesh:
    assert TRUTH.colours is not None
    vertices, colours = torch.from_numpy(TRUTH.vertices).float(), torch.from_numpy(TRUTH.colours)
    return TriangleMesh(vertices, torch.from_numpy(TRUTH.faces), colours)


@pytest.mark.parametrize("lens", LENSES)
def test_what_is_published_lands_on_the_mask(types: BagMessageTypes, lens: str) -> None:
    camera = Camera.from_parameters(
        fx=300.0, fy=303.0, cx=155.0, cy=123.0, width=320, height=240, distortion=LENSES[lens]
    )
    labels, depth = seen_through(camera)
    sent = {
        "image": make_image(types, np.full((240, 320, 3), 90, np.uint8), "bgr8", NOW),
        "camera_info": make_camera_info(types, camera, NOW),
        "depth": make_image(types, depth, "16UC1", NOW),
        "labels": make_image(types, labels, "mono8", NOW),
        "detections": make_detections(types, [Detection("mug_1", "mug", 0.9, None)], NOW),
    }
    wired = {name: types.decode(types.encode(message), message.__msgtype__) for name, message in sent.items()}
    server = Server(InProcess(make_job), RosConfig())
    server.offer(read_frame(FrameMessages(**wired)))
    (seen,) = server.collect()
    assert isinstance(seen, Observation) and not seen.failures
    objects, transforms = (
        types.decode(types.encode(message), message.__msgtype__)
        for message in (make_object_array(types, seen), make_transforms(types, seen, prefix="cupid/"))
    )
    (item,), (transform,) = objects.objects, transforms.transforms
    assert (item.id, item.class_id, transform.child_frame_id) == ("mug_1", "mug", "cupid/mug_1")
    vertices = torch.tensor([[p.x, p.y, p.z] for p in item.mesh.vertices], dtype=torch.float32)
    faces = torch.tensor(np.array([t.vertex_indices for t in item.mesh.triangles], dtype=np.int64))
    info = read_camera(wired["camera_info"])
    flat = rectify(np.zeros((240, 320, 3), np.uint8), info, labels=labels)
    assert flat.labels is not None
    drawn = render_mesh(TriangleMesh(vertices, faces), read_transform(transform), flat.camera).mask
    mask = flat.labels == 1
    iou = (drawn & mask).sum() / (drawn | mask).sum()
    assert iou > 0.97, f"{lens}: IoU {iou:.4f}"
    assert seen.overlay is not None and seen.overlay.shape == (240, 320, 3) and (seen.overlay != 90).any()


def test_the_job_says_which_objects_have_no_pixels() -> None:
    camera = Camera.from_parameters(fx=300.0, fy=300.0, cx=159.5, cy=119.5, width=320, height=240)
    labels, _ = seen_through(camera)
    pixels = {"image": np.zeros((240, 320, 3), np.uint8), "labels": labels.astype(np.int32)}
    job = make_job()
    with pytest.raises(NoObjectsError):
        job(SceneRequest(numbers=(7,)), pixels, lambda progress: None, lambda: False)
    with pytest.raises(NoObjectsError):
        job(SceneRequest(), pixels, lambda progress: None, lambda: False)
