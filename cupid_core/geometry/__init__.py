"""Geometry: frames, cameras, points. Mathematics on tensors only."""

from cupid_core.geometry.camera import Camera
from cupid_core.geometry.distortion import Distortion
from cupid_core.geometry.pointmap import (
    check_depth_unit,
    depth_to_metres,
    normals,
    points_to_depth,
    unproject_depth,
    within_sensor_range,
)
from cupid_core.geometry.se3 import SE3
from cupid_core.geometry.sim3 import Sim3
from cupid_core.geometry.similarity import SimilarityEstimate, align, align_robust

__all__ = [
    "SE3",
    "Camera",
    "Distortion",
    "Sim3",
    "SimilarityEstimate",
    "align",
    "align_robust",
    "check_depth_unit",
    "depth_to_metres",
    "normals",
    "points_to_depth",
    "unproject_depth",
    "within_sensor_range",
]
