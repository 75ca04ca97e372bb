"""An object to publish that is easy to reason about."""

from __future__ import annotations

import numpy as np

from cupid_core.types import Quality, ScaleSource, Verdict
from cupid_ros.results import ObjectRecord


def box_record(number: int = 3, *, metric: bool = True, half: float = 0.05) -> ObjectRecord:
    """A colored box of 1 : 2 : 3 beside its frame's origin, half a metre in front of the camera, turned."""
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
