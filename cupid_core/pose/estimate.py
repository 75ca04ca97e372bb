"""The result of the pose solvers: a pose with its camera, uncertainty and quality."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from cupid_core.geometry.camera import Camera
from cupid_core.geometry.se3 import SE3
from cupid_core.pose.correspondences import Degeneracy


@dataclass(frozen=True, eq=False)
class PoseEstimate:
    """The pose of one object.

    Attributes:
        T_camera_object: maps object points to the camera frame (x right, y down, z forward); the unit of length is
            that of the object points.
        camera: the given camera, with refined intrinsics where some were free; without lens distortion and skew
            unless they were given. The estimated pinhole camera when none was given.
        covariance: (6, 6) of x, y, z, rx, ry, rz in the camera frame, the perturbation t + dt, Exp(dr) R, radians:
            as ROS PoseWithCovariance. Uncertainty of refined intrinsics is included.
        inlier_ratio: share of the pairs that count with a residual below `PoseConfig.tukey_cutoff` deviations.
        reprojection_rms_px: root mean square distance of measured and predicted image points of those, pixels.
        degeneracy: "none", "planar" (points in one plane: fine for known cameras), "few_points" (covariance is
            unreliable). "line" is never returned, it raises.
    """

    T_camera_object: SE3
    camera: Camera
    covariance: Tensor
    inlier_ratio: float
    reprojection_rms_px: float
    degeneracy: Degeneracy
