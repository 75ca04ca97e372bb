"""Messages of `ros_overhead.py`, and a job of the worker that computes nothing and returns prepared objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import trimesh

from cupid_core.geometry.camera import Camera
from cupid_core.reconstruct.progress import Cancelled, OnProgress
from cupid_core.serving.engine import Images, Job
from cupid_core.serving.frames import Detection, Stamped
from cupid_core.serving.records import ObjectRecord, SceneRecord, SceneRequest
from cupid_core.types import Quality, ScaleSource, Verdict
from cupid_ros.convert.camera import make_camera_info
from cupid_ros.convert.detections import make_detections
from cupid_ros.convert.image import make_image
from cupid_ros.messages import MessageTypes

FRAME_ID = "camera_color_optical_frame"


@dataclass(frozen=True)
class Cell:
    """One line of the table.

    Attributes:
        width: pixels.
        height: pixels.
        objects: in the image.
    """

    width: int
    height: int
    objects: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}, {self.objects} object{'s' if self.objects > 1 else ''}"


class Moments:
    """Messages of one camera with some objects in view.

    Args:
        cell: size and number of objects.
        types: makes messages.
    """

    def __init__(self, cell: Cell, types: MessageTypes) -> None:
        self._cell, self._types = cell, types
        rng = np.random.default_rng(0)
        height, width = cell.height, cell.width
        self._image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        self._depth_mm = rng.integers(500, 900, (height, width), dtype=np.uint16)
        self._labels = np.zeros((height, width), np.uint8)
        step = width // cell.objects
        self._boxes = [
            (number * step + step // 4, height // 4, number * step + 3 * step // 4, 3 * height // 4)
            for number in range(cell.objects)
        ]
        for number, (x0, y0, x1, y1) in enumerate(self._boxes, 1):
            self._labels[y0:y1, x0:x1] = number
        self._camera = Camera.from_focal(width, width, height)

    def messages(self, stamp_ns: int) -> dict[str, Any]:
        """One message of each role, raw RGB8, 16UC1 and mono8 images, all with this stamp."""
        types, now = self._types, Stamped(stamp_ns, FRAME_ID)
        found = [
            Detection(str(number), "box", 0.9, tuple(float(edge) for edge in box))  # type: ignore[arg-type]
            for number, box in enumerate(self._boxes, 1)
        ]
        return {
            "camera_info": make_camera_info(types, self._camera, now),
            "detections": make_detections(types, found, now),
            "labels": make_image(types, self._labels, "mono8", now),
            "depth": make_image(types, self._depth_mm, "16UC1", now),
            "image": make_image(types, self._image, "rgb8", now),
        }


@dataclass(frozen=True)
class MakeIdentity:
    """A job that answers at once with spheres, and with the image as its overlay.

    Attributes:
        subdivisions: of an icosahedron: 20 * 4^n triangles.
    """

    subdivisions: int = 4

    def __call__(self) -> Job:
        """The job; its meshes are made once."""
        ball = trimesh.creation.icosphere(self.subdivisions, radius=0.05)
        vertices = np.asarray(ball.vertices, dtype=np.float64)
        colors = (vertices / 0.1 + 0.5).astype(np.float32)
        faces = np.asarray(ball.faces, dtype=np.int64)

        def work(
            request: SceneRequest, pixels: Images, on_progress: OnProgress, cancelled: Cancelled
        ) -> SceneRecord:
            overlay = np.array(pixels["image"]) if request.overlay else None
            numbers = (*request.numbers, *request.boxes)
            return SceneRecord(tuple(_record(number, vertices, faces, colors) for number in numbers), {}, overlay)

        return work


def _record(number: int, vertices: Any, faces: Any, colors: Any) -> ObjectRecord:
    return ObjectRecord(
        number=number,
        vertices=vertices.copy(),  # each object has its own mesh to carry
        faces=faces.copy(),
        colors=colors.copy(),
        watertight=True,
        quat_xyzw=np.array([0.0, 0.0, 0.0, 1.0]),
        translation=np.array([0.01 * number, 0.0, 0.7]),
        covariance=np.eye(6) * 1e-6,
        scale=0.1,
        scale_source=ScaleSource.SENSOR,
        scale_std=0.001,
        quality=Quality(0.9, 25.0, 1.0, 0.9, 0.002, Verdict.GOOD, ()),
    )


Tick = Callable[[], None]
"""Called after each moment."""
