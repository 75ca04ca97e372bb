"""Frames to serve, and jobs without networks that answer with boxes. Worker processes import this module too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cupid_core.errors import CancelledError, CheckpointError, CupidError
from cupid_core.geometry.camera import Camera
from cupid_core.reconstruct.progress import Cancelled, ObjectPose, OnProgress, Progress
from cupid_core.serving.engine import Images, Job
from cupid_core.serving.errors import NoObjectsError
from cupid_core.serving.frames import CameraFrame, Detection, Stamped
from cupid_core.serving.records import ObjectRecord, SceneRecord, SceneRequest
from cupid_core.types import CameraSource, DepthMap, Quality, ScaleSource, Verdict

SECOND = 10**9
_SECONDS = {"slow": 30.0, "busy": 300.0}


def camera() -> Camera:
    return Camera.from_parameters(fx=80.0, fy=80.0, cx=31.5, cy=23.5, width=64, height=48)


def frame(*detections: Detection, at_s: float = 0.0, **changes: Any) -> CameraFrame:
    values: dict[str, Any] = {
        "stamped": Stamped(100 * SECOND + round(at_s * SECOND), "camera"),
        "image": np.zeros((48, 64, 3), np.uint8),
        "camera": camera(),
        "depth": DepthMap(torch.full((48, 64), 0.7), ScaleSource.SENSOR, 0.01),
        "labels": None,
        "detections": detections,
    }
    return CameraFrame(**{**values, **changes})


def detection(id_: str, x: float, score: float | None = 0.5, *, word: str = "mug") -> Detection:
    """A box of 10 x 10 pixels; `word` is its class, and what `act` does with it."""
    return Detection(id_, word, score, (x, 10.0, x + 10.0, 20.0))


def wait_for(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def resident_kb() -> int:
    """Resident memory of this process, from /proc."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def box_record(number: int = 3, *, metric: bool = True, half: float = 0.05) -> ObjectRecord:
    """A colored box of 1 : 2 : 3 beside its frame's origin, half a metre in front of the camera, rotated."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
    faces = [
        (0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1),
        (2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3),
    ]  # fmt: skip
    return ObjectRecord(
        number=number,
        vertices=corners * half * np.array([1.0, 2.0, 3.0]) + np.array([0.01, -0.02, 0.03]),
        faces=np.array(faces, dtype=np.int64),
        colors=((corners + 1) / 2).astype(np.float32),
        watertight=True,
        quat_xyzw=np.array([0.5, -0.5, 0.1, 0.7]) / np.linalg.norm([0.5, -0.5, 0.1, 0.7]),
        translation=np.array([0.02, -0.03, 0.5]),
        covariance=np.diag([1e-6, 1e-6, 4e-6, 1e-4, 1e-4, 1e-4]),
        scale=0.3 if metric else 1.0,
        scale_source=ScaleSource.SENSOR if metric else ScaleSource.UNKNOWN,
        scale_std=0.003 if metric else float("nan"),
        quality=Quality(0.9, None, 1.5, 0.8, 0.002, Verdict.DOUBTFUL, ("It is a box.",)),
        id=f"box_{number}",
        class_id="box",
        score=0.75,
    )


def boxes(request: SceneRequest, images: Images, on_progress: OnProgress, cancelled: Cancelled) -> SceneRecord:
    """A job: a box for each object, on the ray through the center of its pixels, at their depth."""
    on_progress(Progress("structure", 1.0))
    assert images["image"].dtype == np.uint8 and images["image"].shape[2] == 3
    objects: list[ObjectRecord] = []
    failures: dict[int, CupidError] = {}
    for number in (*request.numbers, *request.boxes):
        mask = _mask(number, request, images)
        if not mask.any():
            failures[number] = NoObjectsError(f"No pixel is {number}.", hint="Check the labels.")
            continue
        depth = images["depth"][mask] if "depth" in images else np.full(1, np.nan)
        rows, columns = np.nonzero(mask)
        metric = bool(np.isfinite(depth).any()) and request.camera is not None
        z = float(np.nanmedian(depth)) if metric else 1.0
        K = np.eye(3) if request.camera is None else np.array(request.camera.K).reshape(3, 3)
        position = np.linalg.solve(K, np.array([columns.mean(), rows.mean(), 1.0])) * z
        record = box_record(number, metric=metric)
        source = ScaleSource.SENSOR if metric else ScaleSource.UNKNOWN
        pose = ObjectPose(
            number, tuple(record.quat_xyzw), tuple(position), tuple(record.covariance.reshape(-1)),
            record.scale, source, record.scale_std,
        )  # fmt: skip
        if request.early_poses:
            on_progress(Progress("pose", 1.0, (pose,)))
        quality = record.quality
        if request.up is not None:
            up = " ".join(f"{value:.0f}" for value in request.up)
            quality = replace(quality, reasons=(*quality.reasons, f"up {up}"))
        objects.append(replace(record, translation=position, scale_source=source, quality=quality))
    overlay = np.array(images["image"]) if request.overlay else None
    camera_source = CameraSource.ESTIMATED if request.camera is None else CameraSource.GIVEN
    return SceneRecord(tuple(objects), failures, overlay, {"structure": 0.0}, camera_source=camera_source)


def _mask(number: int, request: SceneRequest, images: Images) -> np.ndarray:
    if number in request.boxes:
        mask = np.zeros(images["image"].shape[:2], bool)
        x0, y0, x1, y1 = (max(0, round(value)) for value in request.boxes[number])
        mask[y0:y1, x0:x1] = True
        return mask
    return np.asarray(images["labels"] == number)


def act(request: SceneRequest, images: Images, on_progress: OnProgress, cancelled: Cancelled) -> SceneRecord:
    """A job: `boxes`, after what the classes say: "hang" never stops, "slow" and "busy" stop when asked, "die"."""
    words = set(request.names.values())
    on_progress(Progress("encode", 0.5))
    if "hang" in words:
        time.sleep(600)
    if "die" in words:
        os._exit(3)
    end = time.monotonic() + max((_SECONDS.get(word, 0.0) for word in words), default=0.0)
    while time.monotonic() < end:
        time.sleep(0.005)
        if cancelled():
            raise CancelledError("Stopped as asked.", hint="Start again.")
    return boxes(request, images, on_progress, cancelled)


def make_boxes() -> Job:
    return boxes


def make_actor() -> Job:
    return act


@dataclass(frozen=True)
class MakeActorLate:
    """Takes some seconds to load."""

    seconds: float

    def __call__(self) -> Job:
        time.sleep(self.seconds)
        return act


@dataclass(frozen=True)
class MakeActorWhenThere:
    """Fails to load until a file exists."""

    path: Path

    def __call__(self) -> Job:
        if not self.path.exists():
            raise CheckpointError("The checkpoint is missing.", hint="Put it there.")
        return act
