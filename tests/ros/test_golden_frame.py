"""From messages to messages with a known object in the place of the networks: what is published lands on its mask.

Everything but the networks is the real thing: conversion of a distorted image, the server, the job with its
overlay, conversion back, the wire. The published mesh, drawn with the published transform and CameraInfo, must
meet the labels.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_scene import LENSES, camera_with, make_golden_job, render_truth

from cupid_core.config import RosConfig
from cupid_core.image.rectify import rectify
from cupid_core.render.raycast import render_mesh
from cupid_core.serving.engine import InProcessEngine
from cupid_core.serving.errors import NoObjectsError
from cupid_core.serving.frames import Detection, Stamped
from cupid_core.serving.records import Observation, SceneRequest
from cupid_core.serving.server import Server
from cupid_core.types import TriangleMesh
from cupid_ros.convert.camera import make_camera_info, read_camera
from cupid_ros.convert.detections import make_detections
from cupid_ros.convert.image import make_image
from cupid_ros.convert.objects import make_object_array
from cupid_ros.convert.transforms import make_transforms, read_transform
from cupid_ros.frame_messages import FrameMessages, read_frame
from cupid_ros.messages import BagMessageTypes

NOW = Stamped(1_700_000_000_000_000_003, "camera_optical")


@pytest.mark.parametrize("lens", LENSES)
def test_the_published_mesh_covers_the_mask(types: BagMessageTypes, lens: str) -> None:
    camera = camera_with(lens)
    labels, depth = render_truth(camera)
    sent = {
        "image": make_image(types, np.full((240, 320, 3), 90, np.uint8), "bgr8", NOW),
        "camera_info": make_camera_info(types, camera, NOW),
        "depth": make_image(types, depth, "16UC1", NOW),
        "labels": make_image(types, labels, "mono8", NOW),
        "detections": make_detections(types, [Detection("mug_1", "mug", 0.9, None)], NOW),
    }
    wired = {name: types.decode(types.encode(message), message.__msgtype__) for name, message in sent.items()}
    server = Server(InProcessEngine(make_golden_job), RosConfig())
    server.offer(read_frame(FrameMessages(**wired)))
    (observation,) = server.collect()
    assert isinstance(observation, Observation) and not observation.failures
    objects, transforms = (
        types.decode(types.encode(message), message.__msgtype__)
        for message in (
            make_object_array(types, observation),
            make_transforms(types, observation, prefix="cupid/"),
        )
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
    assert (
        observation.overlay is not None
        and observation.overlay.shape == (240, 320, 3)
        and (observation.overlay != 90).any()
    )


def test_objects_without_pixels_are_an_error() -> None:
    labels, _ = render_truth(camera_with("none"))
    pixels = {"image": np.zeros((240, 320, 3), np.uint8), "labels": labels.astype(np.int32)}
    job = make_golden_job()
    with pytest.raises(NoObjectsError):
        job(SceneRequest(numbers=(7,)), pixels, lambda progress: None, lambda: False)
    with pytest.raises(NoObjectsError):
        job(SceneRequest(), pixels, lambda progress: None, lambda: False)
