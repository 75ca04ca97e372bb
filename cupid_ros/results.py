"""What comes out of the worker: arrays and plain values that cross the border of a process; knows no message.

The networks' own results hold tensors and every hypothesis; here is what is published, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cupid_core.errors import CupidError
from cupid_core.reconstruct.results import PlacedObject, SceneReconstruction
from cupid_core.types import Quality, ScaleSource


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
        scale: metres per canonical unit, already in the vertices; 1 where the source is UNKNOWN.
        scale_source: where it comes from.
        scale_std: standard deviation of the scale; NaN where the source is UNKNOWN.
        quality: agreement with what was seen.
        id: stable over images.
        class_id: of the detection.
        score: of the detection; None where it has none.
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

    @classmethod
    def of(cls, item: PlacedObject) -> ObjectRecord:
        """From an object of a scene."""
        mesh = item.mesh
        return cls(
            number=item.id,
            vertices=mesh.vertices.detach().double().cpu().numpy(),
            faces=mesh.faces.cpu().numpy(),
            colors=None if mesh.colors is None else mesh.colors.detach().float().clamp(0, 1).cpu().numpy(),
            watertight=item.watertight,
            quat_xyzw=item.T_camera_object.quat_xyzw.detach().double().cpu().numpy(),
            translation=item.T_camera_object.translation.detach().double().cpu().numpy(),
            covariance=item.covariance.detach().double().cpu().numpy(),
            scale=item.scale,
            scale_source=item.scale_source,
            scale_std=item.scale_std,
            quality=item.quality,
            class_id=item.label,
        )

    @property
    def is_metric(self) -> bool:
        """Whether lengths are metres, so that a robot may act on the pose."""
        return self.scale_source is not ScaleSource.UNKNOWN

    @property
    def bounds(self) -> NDArray[np.float64]:
        """(2, 3) lowest and highest corner of the mesh, object frame."""
        return np.stack([self.vertices.min(axis=0), self.vertices.max(axis=0)])


@dataclass(frozen=True, eq=False)
class SceneRecord:
    """All objects of one image.

    Attributes:
        objects: by number.
        failures: why others are missing, by number.
        overlay: (H, W, 3) uint8, the undistorted image with outlines, axes and names; None where not asked for.
        timings_s: seconds of each step.
        gpu_memory_mb: the most that was allocated on the GPU; None on a CPU.
    """

    objects: tuple[ObjectRecord, ...]
    failures: Mapping[int, CupidError] = field(default_factory=dict)
    overlay: NDArray[np.uint8] | None = None
    timings_s: Mapping[str, float] = field(default_factory=dict)
    gpu_memory_mb: float | None = None

    @classmethod
    def of(cls, scene: SceneReconstruction, overlay: NDArray[np.uint8] | None = None) -> SceneRecord:
        """From what `Cupid.reconstruct_scene` returns."""
        return cls(
            objects=tuple(ObjectRecord.of(item) for item in scene.objects),
            failures=dict(scene.failures),
            overlay=overlay,
            timings_s=dict(scene.timings_s),
        )


@dataclass(frozen=True, eq=False)
class Observation:
    """What is published about one image.

    Attributes:
        stamp_ns: of the image.
        frame_id: the camera's optical frame.
        objects: with ids, classes and scores.
        failures: why others are missing, by id.
        overlay: as in `SceneRecord`.
        timings_s: seconds of each step.
        gpu_memory_mb: as in `SceneRecord`.
    """

    stamp_ns: int
    frame_id: str
    objects: tuple[ObjectRecord, ...]
    failures: Mapping[str, CupidError] = field(default_factory=dict)
    overlay: NDArray[np.uint8] | None = None
    timings_s: Mapping[str, float] = field(default_factory=dict)
    gpu_memory_mb: float | None = None
