"""A coarse pose from predicted canonical points: a similarity where depth is measured, else from 3D-2D pairs."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from cupid_core.config import PoseConfig, SimilarityConfig
from cupid_core.errors import AlignmentError, BehindCameraError, PoseDegenerateError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.sim3 import Sim3
from cupid_core.geometry.similarity import align_robust
from cupid_core.pose.solve import solve_pose

# With fewer measured points their similarity is a guess.
_FEWEST_MEASURED = 12
# A coarse pose is corrected later: fewer samples than for a final one, and noise that would not do for that.
_SIMILARITY = SimilarityConfig(hypotheses=96)
_POSE = PoseConfig(hypotheses=16, max_noise=0.5)


class CoarsePose(NamedTuple):
    """A pose from predicted points.

    Attributes:
        S_camera_object: float64; in the unit of depth where that was used, else up to scale with scale 1.
        uses_depth: it is a similarity of predicted and measured points.
        residual: median distance of these points, canonical units; NaN without depth.
    """

    S_camera_object: Sim3
    uses_depth: bool
    residual: float


def coarse_pose(points: Tensor, uv: Tensor, weights: Tensor, depth: Tensor, camera: Camera) -> CoarsePose:
    """The pose of one object from the canonical points that a network predicts in its image.

    Args:
        points: (N, 3) predicted canonical points.
        uv: (N, 2) where they are seen, in [0, 1] of the camera's image.
        weights: (N,) how far each prediction is trusted, 0 for not at all.
        depth: (N,) measured z there, 0 where there is none.
        camera: of the image, without a lens.

    Raises:
        PoseError: the points determine no pose (see its kinds).
    """
    points, weights, depth = points.double(), weights.double(), depth.double()
    measured = (depth > 0) & (weights > 0)
    if int(measured.sum()) >= _FEWEST_MEASURED:
        pixels = camera.uv_to_px(uv.double())
        seen = camera.unproject(pixels, depth.clamp(min=1e-6))
        try:
            found = align_robust(points[measured], seen[measured], weights[measured], config=_SIMILARITY)
            if float(found.T_b_a.translation[2]) > 0:
                away = (found.T_b_a.apply(points[measured]) - seen[measured]).norm(dim=1) / found.T_b_a.scale
                return CoarsePose(found.T_b_a, True, float(away.median()))
        except AlignmentError:
            pass  # depth that contradicts the points says nothing about the pose
    trusted = weights > 0
    if int(trusted.sum()) < 6:
        raise PoseDegenerateError(
            f"Only {int(trusted.sum())} points of the object are predicted.",
            hint="Check that the mask covers the object.",
        )
    pose = solve_pose(points[trusted], uv.double()[trusted], weights=weights[trusted], camera=camera, config=_POSE)
    if float(pose.T_camera_object.translation[2]) <= 0:
        raise BehindCameraError(
            "The predicted points put the center of the object behind the camera.",
            hint="Check that the mask covers the object.",
        )
    return CoarsePose(Sim3.from_se3(pose.T_camera_object), False, math.nan)
