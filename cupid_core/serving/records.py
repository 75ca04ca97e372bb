"""What the worker process gets and returns: arrays and plain values that can be pickled and published.

The results of `cupid_core.reconstruct` hold tensors and every hypothesis; records hold what is published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray

from cupid_core.config import Refine
from cupid_core.errors import CupidError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.distortion import Distortion
from cupid_core.geometry.se3 import SE3
from cupid_core.image.masks import Box
from cupid_core.reconstruct.results import Scene, SceneObject
from cupid_core.scene.shape_symmetry import ShapeSymmetry
from cupid_core.types import CameraSource, Quality, ScaleSource

_NEUTRAL_GRAY = 0.7


@dataclass(frozen=True)
class CameraValues:
    """A camera as plain numbers: comparable, and picklable without shared tensors.

    Attributes:
        K: row by row, pixels.
        width: pixels.
        height: pixels.
        lens: model and coefficients; None without distortion.
    """

    K: tuple[float, ...]
    width: int
    height: int
    lens: tuple[str, tuple[float, ...]] | None = None

    @classmethod
    def of(cls, camera: Camera) -> CameraValues:
        """From a camera; `camera` is the inverse."""
        K = tuple(float(value) for value in camera.K.reshape(9))
        # A lens of zeros and no lens are the same camera.
        lens = None if camera.lens is None else (camera.lens.model, camera.lens.coefficients)
        return cls(K, camera.width, camera.height, lens)

    def camera(self) -> Camera:
        """The camera, float64."""
        K = torch.tensor(self.K, dtype=torch.float64).reshape(3, 3)
        lens = None if self.lens is None else Distortion(cast("Any", self.lens[0]), self.lens[1])
        return Camera(K, self.width, self.height, lens)


@dataclass(frozen=True)
class SceneRequest:
    """What to reconstruct of one image. The image itself travels beside it, see `CameraFrame.arrays`.

    Attributes:
        camera: of the image; None where it is unknown.
        depth_scale_std: relative standard deviation of all depths together.
        numbers: objects to take from the label image.
        boxes: of the objects that are to be segmented, by number.
        names: of objects, by number.
        occluder_numbers: other objects of the label image, which may occlude those that are wanted.
        occluder_boxes: the same, to be segmented.
        seed: of the networks.
        samples: hypotheses per object.
        refine: what fits the placed objects to mask and depth.
        overlay: draw the result on the image.
        early_poses: report poses before the meshes are decoded.
        up: (3,) against gravity, camera frame; None where it is not known.
    """

    camera: CameraValues | None = None
    depth_scale_std: float = 0.0
    numbers: tuple[int, ...] = ()
    boxes: Mapping[int, Box] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    occluder_numbers: tuple[int, ...] = ()
    occluder_boxes: Mapping[int, Box] = field(default_factory=dict)
    seed: int = 0
    samples: int = 1
    refine: Refine = "none"
    overlay: bool = False
    early_poses: bool = False
    up: tuple[float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class ObjectRecord:
    """One object, ready to be published. Lengths are metres, unless the scale source is UNKNOWN.

    Attributes:
        number: its number in the request.
        vertices: (V, 3) float64, object frame, z up.
        faces: (F, 3) int64, counter-clockwise seen from outside.
        colors: (V, 3) float32 sRGB in [0, 1]; None where there are none.
        watertight: the mesh is closed.
        quat_xyzw: (4,) rotation of T_camera_object.
        translation: (3,) of T_camera_object.
        covariance: (6, 6) of x, y, z, rx, ry, rz in the camera frame.
        scale: metres per canonical unit, already applied to the vertices; 1 where the source is UNKNOWN.
        scale_source: where the scale comes from.
        scale_std: standard deviation of the scale; NaN where the source is UNKNOWN.
        quality: agreement with the image.
        id: stable over images.
        class_id: of the detection.
        score: of the detection; None where it has none.
        calibrated: covariance, scale deviation and verdict were measured on objects with truth.
        symmetry: of the shape, object frame.
    """

    number: int
    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    colors: NDArray[np.float32] | None
    watertight: bool
    quat_xyzw: NDArray[np.float64]
    translation: NDArray[np.float64]
    covariance: NDArray[np.float64]
    scale: float
    scale_source: ScaleSource
    scale_std: float
    quality: Quality
    id: str = ""
    class_id: str = ""
    score: float | None = None
    calibrated: bool = False
    symmetry: ShapeSymmetry = field(default_factory=ShapeSymmetry.none)

    @classmethod
    def of(cls, item: SceneObject) -> ObjectRecord:
        """From an object of a scene."""
        mesh = item.mesh
        return cls(
            number=item.id,
            vertices=mesh.vertices.detach().double().cpu().numpy(),
            faces=mesh.faces.cpu().numpy(),
            colors=None if mesh.colors is None else mesh.colors.detach().float().clamp(0, 1).cpu().numpy(),
            watertight=item.model.watertight,
            quat_xyzw=item.pose.quat_xyzw.detach().double().cpu().numpy(),
            translation=item.pose.translation.detach().double().cpu().numpy(),
            covariance=item.state.covariance.detach().double().cpu().numpy(),
            scale=item.model.scale,
            scale_source=item.model.scale_source,
            scale_std=item.model.scale_std,
            quality=item.quality,
            calibrated=item.state.calibrated,
            symmetry=item.model.symmetry,
            class_id=item.label,
        )

    @property
    def is_metric(self) -> bool:
        """Whether lengths are metres, so that a robot may act on the pose."""
        return self.scale_source is not ScaleSource.UNKNOWN

    @property
    def T_camera_object(self) -> SE3:
        """The pose, float64."""
        return SE3.from_quat_xyzw(torch.from_numpy(self.quat_xyzw), torch.from_numpy(self.translation))

    @property
    def dimensions(self) -> NDArray[np.float64]:
        """(3,) size of the box around the mesh, along the axes of the object frame."""
        size: NDArray[np.float64] = self.vertices.max(axis=0) - self.vertices.min(axis=0)
        return size

    @property
    def center(self) -> NDArray[np.float64]:
        """(3,) center of the box around the mesh, object frame."""
        center: NDArray[np.float64] = (self.vertices.max(axis=0) + self.vertices.min(axis=0)) / 2
        return center

    @property
    def center_camera(self) -> NDArray[np.float64]:
        """(3,) center of the box around the mesh, camera frame."""
        center: NDArray[np.float64] = self.T_camera_object.apply(torch.from_numpy(self.center)).numpy()
        return center

    def has_mesh_of(self, other: ObjectRecord) -> bool:
        """Whether both have the same mesh, so that only the pose may differ."""
        return np.array_equal(self.vertices, other.vertices) and np.array_equal(self.faces, other.faces)

    def surface_points(
        self, count: int, seed: int = 0
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Points on the mesh, uniformly by area; the same mesh and seed give the same points.

        Args:
            count: number of points N.
            seed: of the sampling.

        Returns:
            Points and outward unit normals, (N, 3) in the object frame, and colors (N, 3), sRGB in [0, 1].
        """
        mesh = trimesh.Trimesh(self.vertices, self.faces, process=False)
        points, faces = trimesh.sample.sample_surface(mesh, count, seed=seed)
        colors = np.full((count, 3), _NEUTRAL_GRAY)
        if self.colors is not None:
            weights = trimesh.triangles.points_to_barycentric(  # type: ignore[no-untyped-call]
                mesh.triangles[faces], points
            )
            colors = np.einsum("nk,nkc->nc", weights, self.colors[self.faces[faces]]).clip(0, 1)
        return np.asarray(points), mesh.face_normals[faces], colors


@dataclass(frozen=True, eq=False)
class SceneRecord:
    """All objects of one image, under the numbers of the request.

    Attributes:
        objects: by number.
        failures: why others are missing, by number.
        overlay: (H, W, 3) uint8, the undistorted image with outlines, axes and names; None where not asked for.
        timings_s: seconds of each step.
        gpu_memory_mb: peak allocation on the GPU; None on a CPU.
        camera_source: where the camera comes from; None where nothing was reconstructed.
    """

    objects: tuple[ObjectRecord, ...]
    failures: Mapping[int, CupidError] = field(default_factory=dict)
    overlay: NDArray[np.uint8] | None = None
    timings_s: Mapping[str, float] = field(default_factory=dict)
    gpu_memory_mb: float | None = None
    camera_source: CameraSource | None = None

    @classmethod
    def of(cls, scene: Scene, overlay: NDArray[np.uint8] | None = None) -> SceneRecord:
        """From the result of a reconstruction."""
        return cls(
            objects=tuple(ObjectRecord.of(item) for item in scene.objects),
            failures=dict(scene.failures),
            overlay=overlay,
            timings_s=dict(scene.timings_s),
            camera_source=scene.camera_source,
        )


@dataclass(frozen=True, eq=False)
class Observation:
    """What is published about one image: a `SceneRecord` with stamp, frame and the ids of the detections.

    Attributes:
        stamp_ns: of the image.
        frame_id: the camera's optical frame.
        objects: with ids, classes and scores.
        failures: why others are missing, by id.
        overlay: as in `SceneRecord`.
        timings_s: seconds of each step.
        gpu_memory_mb: as in `SceneRecord`.
        camera_source: as in `SceneRecord`.
    """

    stamp_ns: int
    frame_id: str
    objects: tuple[ObjectRecord, ...]
    failures: Mapping[str, CupidError] = field(default_factory=dict)
    overlay: NDArray[np.uint8] | None = None
    timings_s: Mapping[str, float] = field(default_factory=dict)
    gpu_memory_mb: float | None = None
    camera_source: CameraSource | None = None
