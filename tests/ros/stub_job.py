"""A job without networks, for tests of what surrounds it: a box at the place of each object."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from box_objects import box_record

from cupid_core.errors import CupidError
from cupid_core.reconstruct.progress import Cancelled, ObjectPose, OnProgress, Progress
from cupid_core.types import ScaleSource
from cupid_ros.errors import NoObjectsError
from cupid_ros.job import SceneRequest
from cupid_ros.results import ObjectRecord, SceneRecord
from cupid_ros.tickets import Job, Pixels


def boxes(request: SceneRequest, pixels: Pixels, on_progress: OnProgress, cancelled: Cancelled) -> SceneRecord:
    """A box for each object, on the ray through the middle of its pixels, as deep as they are."""
    on_progress(Progress("structure", 1.0))
    assert pixels["image"].dtype == np.uint8 and pixels["image"].shape[2] == 3
    objects: list[ObjectRecord] = []
    failures: dict[int, CupidError] = {}
    for number in (*request.numbers, *request.boxes):
        mask = _mask(number, request, pixels)
        if not mask.any():
            failures[number] = NoObjectsError(f"No pixel is {number}.", hint="Check the labels.")
            continue
        depth = pixels["depth"][mask] if "depth" in pixels else np.full(1, np.nan)
        rows, columns = np.nonzero(mask)
        metric = bool(np.isfinite(depth).any()) and request.camera is not None
        z = float(np.nanmedian(depth)) if metric else 1.0
        K = np.eye(3) if request.camera is None else np.array(request.camera.K).reshape(3, 3)
        place = np.linalg.solve(K, np.array([columns.mean(), rows.mean(), 1.0])) * z
        record = box_record(number, metric=metric)
        source = ScaleSource.SENSOR if metric else ScaleSource.UNKNOWN
        pose = ObjectPose(
            number, tuple(record.quat_xyzw), tuple(place), tuple(record.covariance.reshape(-1)),
            record.scale, source, record.scale_std,
        )  # fmt: skip
        if request.early_poses:
            on_progress(Progress("pose", 1.0, (pose,)))
        objects.append(replace(record, translation=place, scale_source=source))
    overlay = np.array(pixels["image"]) if request.overlay else None
    return SceneRecord(tuple(objects), failures, overlay, {"structure": 0.0})


def make_boxes() -> Job:
    """Ready at once."""
    return boxes


def _mask(number: int, request: SceneRequest, pixels: Pixels) -> np.ndarray:
    if number in request.boxes:
        mask = np.zeros(pixels["image"].shape[:2], bool)
        x0, y0, x1, y1 = (max(0, round(value)) for value in request.boxes[number])
        mask[y0:y1, x0:x1] = True
        return mask
    return np.asarray(pixels["labels"] == number)
