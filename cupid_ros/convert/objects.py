"""Observations to cupid_ros/ObjectArray and vision_msgs/Detection3DArray, and feedback to the action's fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_core.reconstruct.progress import ObjectPose
from cupid_core.scene.shape_symmetry import NO_SYMMETRY, TOLERANCE, ShapeSymmetry
from cupid_core.serving.frames import Stamped
from cupid_core.serving.records import ObjectRecord, Observation
from cupid_core.serving.requests import Feedback
from cupid_core.types import Quality, ScaleSource, Verdict
from cupid_ros.convert.detections import make_hypothesis
from cupid_ros.convert.header import make_header
from cupid_ros.messages import MessageTypes

SCALE_SOURCES = {
    ScaleSource.UNKNOWN: 0, ScaleSource.SENSOR: 1, ScaleSource.MODEL: 2, ScaleSource.KNOWN_SIZE: 3,
}  # fmt: skip
VERDICTS = {Verdict.GOOD: 0, Verdict.DOUBTFUL: 1, Verdict.FAILED: 2}


def make_object_array(
    types: MessageTypes,
    observation: Observation,
    *,
    meshes: bool = True,
    mesh_uri: Callable[[str], str] = lambda id_: "",
) -> Any:
    """cupid_ros/ObjectArray of everything that was reconstructed from an image, and what was not.

    Args:
        types: makes messages.
        observation: what was reconstructed.
        meshes: with their meshes and colors.
        mesh_uri: of the file with the mesh of an object, by its id.
    """
    header = make_header(types, Stamped(observation.stamp_ns, observation.frame_id))
    return types.make(
        "cupid_ros/msg/ObjectArray",
        header=header,
        objects=[
            make_object(types, item, header, mesh=meshes, mesh_uri=mesh_uri(item.id))
            for item in observation.objects
        ],
        failed_ids=list(observation.failures),
        failed_codes=[error.code for error in observation.failures.values()],
        failed_texts=[str(error) for error in observation.failures.values()],
        camera_source="" if observation.camera_source is None else observation.camera_source.value,
    )


def make_object(
    types: MessageTypes, item: ObjectRecord, header: Any, *, mesh: bool = True, mesh_uri: str = ""
) -> Any:
    """cupid_ros/Object.

    Args:
        types: makes messages.
        item: what was reconstructed.
        header: std_msgs/Header with the stamp of the image and the camera's optical frame.
        mesh: with mesh and colors.
        mesh_uri: of a file with the same mesh.
    """
    shape = {"mesh": make_mesh(types, item), "vertex_colors": make_colors(types, item.colors)} if mesh else {}
    return types.make(
        "cupid_ros/msg/Object",
        header=header,
        id=item.id,
        class_id=item.class_id,
        score=_or_nan(item.score),
        pose=make_pose_with_covariance(types, item),
        scale=float(item.scale),
        scale_stddev=float(item.scale_std),
        scale_source=SCALE_SOURCES[item.scale_source],
        dimensions=make_vector(types, item.dimensions, "Vector3"),
        center=make_vector(types, item.center, "Point"),
        mesh_uri=mesh_uri,
        **shape,
        watertight=item.watertight,
        calibrated=item.calibrated,
        **symmetry_fields(types, item.symmetry),
        quality=make_quality(types, item.quality),
    )


def symmetry_fields(types: MessageTypes, symmetry: ShapeSymmetry) -> dict[str, Any]:
    """The fields of cupid_ros/Object about symmetry, by name."""
    axis = symmetry.axis if symmetry.fold != NO_SYMMETRY else np.zeros(3)
    return {
        "symmetry_fold": symmetry.fold,
        "symmetry_axis": make_vector(types, axis, "Vector3"),
        "symmetry_center": make_vector(types, symmetry.center, "Point"),
        "mirror_normals": [make_vector(types, normal, "Vector3") for normal in symmetry.mirror_normals],
        "symmetry_tolerance": TOLERANCE,
    }


def make_detections_3d(types: MessageTypes, observation: Observation) -> Any:
    """vision_msgs/Detection3DArray of the objects whose size and place are metric: boxes along their own axes.

    The pose of a hypothesis is that of the object frame; the box is around the mesh, whose center is elsewhere.
    """
    header = make_header(types, Stamped(observation.stamp_ns, observation.frame_id))
    detections = []
    for item in (item for item in observation.objects if item.is_metric):
        bbox = types.make(
            "vision_msgs/msg/BoundingBox3D",
            center=make_pose(types, item.center_camera, item.quat_xyzw),
            size=make_vector(types, item.dimensions, "Vector3"),
        )
        pose = make_pose_with_covariance(types, item)
        hypothesis = make_hypothesis(types, item.class_id, _or_nan(item.score), pose)
        detections.append(
            types.make("vision_msgs/msg/Detection3D", header=header, id=item.id, bbox=bbox, results=[hypothesis])
        )
    return types.make("vision_msgs/msg/Detection3DArray", header=header, detections=detections)


def feedback_fields(types: MessageTypes, feedback: Feedback) -> dict[str, Any]:
    """Fields of Reconstruct.Feedback, by name; sequences as lists, one entry for each known pose.

    goal_handle.publish_feedback(Reconstruct.Feedback(**feedback_fields(types, feedback)))
    """
    header = make_header(types, feedback.stamped)
    poses = list(feedback.poses.values())
    return {
        "stage": feedback.stage,
        "fraction": float(feedback.fraction),
        "pose_ids": list(feedback.poses),
        "poses": [
            types.make(
                "geometry_msgs/msg/PoseWithCovarianceStamped",
                header=header,
                pose=make_pose_with_covariance(types, pose),
            )
            for pose in poses
        ],
        "scales": [float(pose.scale) for pose in poses],
        "scale_stddevs": [float(pose.scale_std) for pose in poses],
        "scale_sources": [SCALE_SOURCES[pose.scale_source] for pose in poses],
    }


def make_pose(types: MessageTypes, position: Iterable[Any], quat_xyzw: Iterable[Any]) -> Any:
    """geometry_msgs/Pose of a position (3,) and a rotation (4,)."""
    return types.make(
        "geometry_msgs/msg/Pose",
        position=make_vector(types, position, "Point"),
        orientation=make_quaternion(types, quat_xyzw),
    )


def make_pose_with_covariance(types: MessageTypes, item: ObjectRecord | ObjectPose) -> Any:
    """geometry_msgs/PoseWithCovariance of the object frame in the camera frame."""
    return types.make(
        "geometry_msgs/msg/PoseWithCovariance",
        pose=make_pose(types, item.translation, item.quat_xyzw),
        covariance=np.asarray(item.covariance, dtype=np.float64).reshape(36),
    )


def make_vector(types: MessageTypes, values: Iterable[Any], kind: str) -> Any:
    """geometry_msgs/Point or Vector3 of (3,) numbers."""
    x, y, z = (float(value) for value in values)
    return types.make(f"geometry_msgs/msg/{kind}", x=x, y=y, z=z)


def make_quaternion(types: MessageTypes, quat_xyzw: Iterable[Any]) -> Any:
    """geometry_msgs/Quaternion of (4,) numbers x, y, z, w."""
    x, y, z, w = (float(value) for value in quat_xyzw)
    return types.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def make_mesh(types: MessageTypes, item: ObjectRecord) -> Any:
    """shape_msgs/Mesh in the object frame."""
    triangles = types.make_rows("shape_msgs/msg/MeshTriangle", np.asarray(item.faces, dtype=np.uint32))
    return types.make("shape_msgs/msg/Mesh", triangles=triangles, vertices=make_points(types, item.vertices))


def make_points(types: MessageTypes, points: NDArray[Any]) -> Any:
    """geometry_msgs/Point of each row of (N, 3)."""
    return types.make_rows("geometry_msgs/msg/Point", np.asarray(points, dtype=np.float64).reshape(-1, 3))


def make_colors(types: MessageTypes, colors: NDArray[Any] | None) -> Any:
    """std_msgs/ColorRGBA, opaque, of each row of (N, 3); empty where there are none."""
    rgba = np.ones((0 if colors is None else len(colors), 4), dtype=np.float32)
    if colors is not None:
        rgba[:, :3] = colors
    return types.make_rows("std_msgs/msg/ColorRGBA", rgba)


def make_quality(types: MessageTypes, quality: Quality) -> Any:
    """cupid_ros/Quality; NaN where a figure was not measured."""
    return types.make(
        "cupid_ros/msg/Quality",
        verdict=VERDICTS[quality.verdict],
        silhouette_iou=float(quality.silhouette_iou),
        color_psnr_db=_or_nan(quality.color_psnr_db),
        reprojection_rms_px=float(quality.reprojection_rms_px),
        inlier_ratio=float(quality.inlier_ratio),
        p_good=_or_nan(quality.p_good),
        depth_residual_m=_or_nan(quality.depth_residual_m),
        reasons=list(quality.reasons),
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
