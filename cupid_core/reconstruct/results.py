"""What a reconstruction hands out, from one draw to a whole scene; knows no networks and no steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cupid_core.errors import CupidError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.se3 import SE3
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.scene.refine import Refinement
from cupid_core.types import Quality, ScaleSource, TriangleMesh


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One draw: an object and where the camera stands. The unit of length is the edge of the canonical cube.

    Attributes:
        mesh: canonical frame, with colors; None where only the pose was asked for.
        pose: of the object; its camera is that of the whole image without lens distortion.
        coords: (N, 3) int64 occupied voxels.
        uv: (N, 2) image position of each voxel in the crop, in [0, 1], as stage 1 sampled it.
        resolution: voxels per edge of the cube.
        crop_camera: of the square that the networks saw, at the resolution of the image.
        quality: agreement with what was seen.
        score: what hypotheses are ranked by; more is better.
        number: which draw, from 0.
    """

    mesh: TriangleMesh | None
    pose: PoseEstimate
    coords: Tensor
    uv: Tensor
    resolution: int
    crop_camera: Camera
    quality: Quality
    score: float
    number: int


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """One object, up to scale.

    Attributes:
        hypotheses: best first, at least one.
        truncated: the object touches the border of the image.
        lost: why draws that are not among the hypotheses gave nothing, by number.
        timings_s: seconds of each step, of all objects and draws of the call together.
    """

    hypotheses: tuple[Hypothesis, ...]
    truncated: bool
    lost: Mapping[int, CupidError]
    timings_s: Mapping[str, float]

    @property
    def best(self) -> Hypothesis:
        """The one that agrees best with the image."""
        return self.hypotheses[0]


@dataclass(frozen=True, eq=False)
class PlacedObject:
    """One object of a scene, ready for use.

    Attributes:
        id: its number in the label image or among the masks.
        label: its name.
        reconstruction: all hypotheses, up to scale.
        mesh: object frame, z up, cleaned; in metres unless `scale_source` is UNKNOWN, then in canonical units.
        watertight: the mesh is closed.
        T_camera_object: rigid; the scale is in the mesh.
        covariance: (6, 6) of x, y, z, rx, ry, rz in the camera frame, as `PoseEstimate`, in the unit of the mesh.
        scale: metres per canonical unit (1 where the source is UNKNOWN).
        scale_source: where the scale comes from.
        scale_std: its standard deviation, same unit; NaN where the source is UNKNOWN.
        quality: of the mesh as it is here, at this place.
        refinement: what `refine` changed, or why it changed nothing; None where it was not asked for.
    """

    id: int
    label: str
    reconstruction: Reconstruction
    mesh: TriangleMesh
    watertight: bool
    T_camera_object: SE3
    covariance: Tensor
    scale: float
    scale_source: ScaleSource
    scale_std: float
    quality: Quality
    refinement: Refinement | None = None


@dataclass(frozen=True, eq=False)
class SceneReconstruction:
    """All objects of one image.

    Attributes:
        objects: in the order of their ids.
        failures: why the others are missing, by id.
        camera: of `image`; without lens distortion. Given, or the estimate of the best object.
        camera_known: it was given.
        image: (H, W, 3) uint8 without lens distortion.
        labels: (H, W) int32, the id of the object at each pixel of `image`, 0 for none.
        timings_s: seconds of each step.
    """

    objects: tuple[PlacedObject, ...]
    failures: Mapping[int, CupidError]
    camera: Camera
    camera_known: bool
    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    timings_s: Mapping[str, float]
