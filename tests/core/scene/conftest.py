"""Generated truth for the scene tests: one RGB-D frame with exact meshes and poses of all its objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from true_surfaces import surface_of

from cupid_core.data.tabletop.scene import SceneObject, SceneSettings, TabletopScene, draw_scene
from cupid_core.geometry import SE3, Camera, Sim3
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.types import DepthMap, ScaleSource, TriangleMesh


@dataclass(frozen=True)
class Truth:
    """One object of a frame: mesh of its distance function, metric place, and the pose a perfect stage 1 gives."""

    item: SceneObject
    mesh: TriangleMesh
    S_camera_object: Sim3
    pose: PoseEstimate
    mask: np.ndarray

    def error_m(self, place: Sim3) -> float:
        """Mean distance of the surface at a place from the surface at the true place."""
        vertices = self.mesh.vertices.double()
        return float((place.apply(vertices) - self.S_camera_object.apply(vertices)).norm(dim=1).mean())


@dataclass(frozen=True)
class Frame:
    """One RGB-D frame with truth."""

    scene: TabletopScene
    camera: Camera
    depth: DepthMap
    labels: np.ndarray
    objects: tuple[Truth, ...]


def pose_of(rigid: SE3, camera: Camera, std: float = 1e-3) -> PoseEstimate:
    return PoseEstimate(rigid, camera, std**2 * torch.eye(6, dtype=torch.float64), 0.9, 0.7, "none")


@pytest.fixture(scope="session")
def frame() -> Frame:
    families = ("sugar_box", "can", "mug", "bowl", "brick")
    scene = draw_scene(2, SceneSettings(width=320, height=240, resolution=16), seed=5, families=families)
    camera = Camera(scene.K.double(), 320, 240)
    metres = torch.where(scene.depth > 0, scene.depth, torch.nan)
    labels = scene.labels.numpy().astype(np.int32)
    objects = []
    for item in scene.objects:
        matrix = item.T_camera_object.double()
        place = Sim3.from_se3(SE3.from_matrix(matrix), torch.tensor(item.scale_m, dtype=torch.float64))
        rigid = SE3(place.quat_xyzw, place.translation / item.scale_m)
        mask = labels == item.label
        objects.append(Truth(item, surface_of(item), place, pose_of(rigid, camera), mask))
    return Frame(scene, camera, DepthMap(metres, ScaleSource.SENSOR), labels, tuple(objects))
