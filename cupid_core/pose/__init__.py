"""Object poses from 3D-2D pairs, with or without a known camera."""

from cupid_core.pose.estimate import PoseEstimate
from cupid_core.pose.solve import solve_pose, solve_poses

__all__ = ["PoseEstimate", "solve_pose", "solve_poses"]
