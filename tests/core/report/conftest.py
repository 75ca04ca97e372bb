"""A scene of two boxes and its photograph, rendered: a perfect reconstruction without any network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from cupid_core.errors import StructureEmptyError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.se3 import SE3
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.reconstruct.results import Hypothesis, ObjectModel, ObjectState, Scene, SceneObject
from cupid_core.reconstruct.stages import Structure
from cupid_core.render.raycast import render_scene
from cupid_core.report.objects_json import RunRecord
from cupid_core.types import CameraSource, Quality, ScaleSource, TriangleMesh, Verdict

CAMERA = Camera.from_parameters(fx=210.0, fy=210.0, cx=79.5, cy=59.5, width=160, height=120)
CUBE_FACES = [
    [3, 2, 0], [1, 3, 0], [7, 5, 4], [6, 7, 4], [5, 1, 0], [4, 5, 0],
    [7, 6, 2], [3, 7, 2], [6, 4, 0], [2, 6, 0], [7, 3, 1], [5, 7, 1],
]  # fmt: skip
QUALITY = Quality(0.93, 21.5, 0.8, 0.97, 0.004, Verdict.GOOD)


def box(size: tuple[float, float, float], color: tuple[float, float, float]) -> TriangleMesh:
    """A closed box about the origin, faces outward."""
    corners = torch.cartesian_prod(*(torch.tensor([-0.5, 0.5]),) * 3) * torch.tensor(size)
    faces = torch.tensor(CUBE_FACES)
    return TriangleMesh(corners, faces, torch.tensor(color).expand(8, 3).clone())


def placed(
    id_: int, label: str, mesh: TriangleMesh, turn: Tensor, place: tuple[float, float, float]
) -> SceneObject:
    T = SE3.from_rotation_translation(turn, torch.tensor(place, dtype=torch.float64))
    pose = PoseEstimate(T, CAMERA, torch.eye(6, dtype=torch.float64) * 1e-4, 0.97, 0.8, "none")
    structure = Structure(0, 0, torch.zeros(1, 3, dtype=torch.int64), torch.full((1, 2), 0.5), 32, pose)
    hypothesis = Hypothesis(structure, pose, QUALITY, score=0.9, shape=mesh, watertight=True)
    return SceneObject(
        id=id_,
        model=ObjectModel(label, mesh, True, 0.2, ScaleSource.SENSOR, 0.002),
        state=ObjectState(T, pose.covariance),
        quality=QUALITY,
        hypotheses=(hypothesis,),
        failures={1: StructureEmptyError("Hypothesis 1 has 0 occupied voxels.", hint="Sample more.")},
        truncated=False,
    )


@pytest.fixture(scope="session")
def scene() -> Scene:
    # Objects stand on a table seen from above: their z axes point up in the image and towards the camera.
    c, s = 0.8, 0.6
    level = torch.tensor([[1.0, 0.0, 0.0], [0.0, -s, -c], [0.0, c, -s]], dtype=torch.float64)
    yaw = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    objects = (
        placed(2, "red box", box((0.2, 0.1, 0.15), (0.8, 0.2, 0.2)), level @ yaw, (-0.12, 0.02, 0.9)),
        placed(5, "<b>blue</b> & co", box((0.1, 0.1, 0.2), (0.2, 0.3, 0.8)), level, (0.1, 0.0, 1.0)),
    )
    seen = render_scene([(item.mesh, item.pose) for item in objects], CAMERA)
    assert seen.colors is not None
    photo = np.where(seen.mask[..., None], np.nan_to_num(seen.colors) * 255, 120).astype(np.uint8)
    numbers = np.array([0, *(item.id for item in objects)], dtype=np.int32)
    return Scene(
        objects=objects,
        failures={7: StructureEmptyError("No voxel.", hint="Check the mask.")},
        camera=CAMERA,
        camera_source=CameraSource.GIVEN,
        image=photo,
        labels=numbers[seen.labels],
        timings_s={"structure": 1.25, "decode": 0.5},
    )


@pytest.fixture
def nothing(scene: Scene) -> Scene:
    """The same photograph, of which nothing could be reconstructed."""
    return replace(scene, objects=())


@pytest.fixture(scope="session")
def run() -> RunRecord:
    return RunRecord(
        "photo.png", "0.1.0", "tabletop", "ab" * 32, 0, 2, {"pose": {"hypotheses": 64}}, {"mask": "m.png"}
    )
