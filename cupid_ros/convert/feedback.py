"""Feedback to the fields of the action Reconstruct; knows no action server."""

from __future__ import annotations

from typing import Any

import numpy as np

from cupid_core.reconstruct.progress import ObjectPose
from cupid_ros.convert.header import make_header
from cupid_ros.convert.objects import SCALE_SOURCES, make_quaternion, make_vector
from cupid_ros.feedback import Feedback
from cupid_ros.messages import MessageTypes


def feedback_fields(types: MessageTypes, feedback: Feedback) -> dict[str, Any]:
    """Fields of Reconstruct.Feedback, by name; sequences as lists, one entry for each known pose.

        goal_handle.publish_feedback(Reconstruct.Feedback(**feedback_fields(types, feedback)))

    Args:
        types: makes messages.
        feedback: how far it is.
    """
    header = make_header(types, feedback.stamped)
    poses = list(feedback.poses.values())
    return {
        "stage": feedback.stage,
        "fraction": float(feedback.fraction),
        "pose_ids": list(feedback.poses),
        "poses": [
            types.make(
                "geometry_msgs/msg/PoseWithCovarianceStamped", header=header, pose=_with_covariance(types, pose)
            )
            for pose in poses
        ],
        "scales": [float(pose.scale) for pose in poses],
        "scale_stddevs": [float(pose.scale_std) for pose in poses],
        "scale_sources": [SCALE_SOURCES[pose.scale_source] for pose in poses],
    }


def _with_covariance(types: MessageTypes, pose: ObjectPose) -> Any:
    """geometry_msgs/PoseWithCovariance of the object frame in the camera's optical frame."""
    place = types.make(
        "geometry_msgs/msg/Pose",
        position=make_vector(types, pose.translation, "Point"),
        orientation=make_quaternion(types, pose.quat_xyzw),
    )
    covariance = np.array(pose.covariance, dtype=np.float64)
    return types.make("geometry_msgs/msg/PoseWithCovariance", pose=place, covariance=covariance)
