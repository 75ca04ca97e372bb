"""Observations to cupid_ros/ObjectArray and vision_msgs/Detection3DArray; knows no topics and no clocks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_core.types import Quality, ScaleSource, Verdict
from cupid_ros.convert.detections import make_hypothesis
from cupid_ros.convert.header import Stamped, make_header
from cupid_ros.messages import MessageTypes
from cupid_ros.results import ObjectRecord, Observation

SCALE_SOURCES = {
    ScaleSource.UNKNOWN: 0, ScaleSource.SENSOR: 1, ScaleSource.MODEL: 2, ScaleSource.KNOWN_SIZE: 3,
}  # fmt: skip
VERDICTS = {Verdict.GOOD: 0, Verdict.DOUBTFUL: 1, Verdict.FAILED: 2}


def make_object_array(types: MessageTypes, seen: Observation) -> Any:
    """cupid_ros/ObjectArray of everything that was reconstructed from an image, and what was not."""
    header = make_header(types, Stamped(seen.stamp_ns, seen.frame_id))
    return types.make(
        "cupid_ros/msg/ObjectArray",
        header=header,
        objects=[make_object(types, item, header) for item in seen.objects],
        failed_ids=list(seen.failures),
        failed_codes=[error.code for error in seen.failures.values()],
        failed_texts=[str(error) for error in seen.failures.values()],
    )


def make_object(types: MessageTypes, item: ObjectRecord, header: Any) -> Any:
    """cupid_ros/Object.

    Args:
        types: makes messages.
        item: what was reconstructed.
        header: std_msgs/Header with the stamp of the image and the camera's optical frame.
    """
    low, high = item.bounds
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
        dimensions=make_vector(types, high - low, "Vector3"),
        center=make_vector(types, (low + high) / 2, "Point"),
        mesh=make_mesh(types, item),
        vertex_colors=make_colors(types, item.colors),
        watertight=item.watertight,
        quality=make_quality(types, item.quality),
    )


def make_detections_3d(types: MessageTypes, seen: Observation) -> Any:
    """vision_msgs/Detection3DArray of the objects whose size and place are metric: boxes along their own axes.

    The pose of a hypothesis is that of the object frame; the box is around the mesh, whose middle is elsewhere.
    """
    header = make_header(types, Stamped(seen.stamp_ns, seen.frame_id))
    detections = []
    for item in (item for item in seen.objects if item.is_metric):
        low, high = item.bounds
        bbox = types.make(
            "vision_msgs/msg/BoundingBox3D",
            center=make_pose(types, item, offset=(low + high) / 2),
            size=make_vector(types, high - low, "Vector3"),
        )
        pose = make_pose_with_covariance(types, item)
        hypothesis = make_hypothesis(types, item.class_id, _or_nan(item.score), pose)
        detections.append(
            types.make("vision_msgs/msg/Detection3D", header=header, id=item.id, bbox=bbox, results=[hypothesis])
        )
    return types.make("vision_msgs/msg/Detection3DArray", header=header, detections=detections)


def make_pose(types: MessageTypes, item: ObjectRecord, offset: NDArray[Any] | None = None) -> Any:
    """geometry_msgs/Pose of the object frame in the camera frame, or of a point (3,) of the object frame."""
    place = item.translation if offset is None else item.translation + _turned(item.quat_xyzw, offset)
    return types.make(
        "geometry_msgs/msg/Pose",
        position=make_vector(types, place, "Point"),
        orientation=make_quaternion(types, item.quat_xyzw),
    )


def make_pose_with_covariance(types: MessageTypes, item: ObjectRecord) -> Any:
    """geometry_msgs/PoseWithCovariance of the object frame in the camera frame."""
    return types.make(
        "geometry_msgs/msg/PoseWithCovariance",
        pose=make_pose(types, item),
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
    faces = np.ascontiguousarray(item.faces, dtype=np.uint32)
    triangles = types.make_rows("shape_msgs/msg/MeshTriangle", vertex_indices=list(faces))
    return types.make("shape_msgs/msg/Mesh", triangles=triangles, vertices=make_points(types, item.vertices))


def make_points(types: MessageTypes, points: NDArray[Any]) -> list[Any]:
    """geometry_msgs/Point of each row of (N, 3)."""
    x, y, z = np.asarray(points, dtype=np.float64).T.tolist() if len(points) else ([], [], [])
    return types.make_rows("geometry_msgs/msg/Point", x=x, y=y, z=z)


def make_colors(types: MessageTypes, colors: NDArray[Any] | None) -> list[Any]:
    """std_msgs/ColorRGBA, opaque, of each row of (N, 3); empty where there are none."""
    if colors is None or not len(colors):
        return []
    r, g, b = np.asarray(colors, dtype=np.float64).T.tolist()
    return types.make_rows("std_msgs/msg/ColorRGBA", r=r, g=g, b=b, a=[1.0] * len(r))


def make_quality(types: MessageTypes, quality: Quality) -> Any:
    """cupid_ros/Quality; NaN where a figure was not measured."""
    return types.make(
        "cupid_ros/msg/Quality",
        verdict=VERDICTS[quality.verdict],
        silhouette_iou=float(quality.silhouette_iou),
        color_psnr_db=_or_nan(quality.color_psnr_db),
        reprojection_rms_px=float(quality.reprojection_rms_px),
        inlier_ratio=float(quality.inlier_ratio),
        depth_residual_m=_or_nan(quality.depth_residual_m),
        reasons=list(quality.reasons),
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _turned(quat_xyzw: NDArray[Any], point: NDArray[Any]) -> NDArray[np.float64]:
    """A point (3,) turned by a unit quaternion."""
    axis, w = np.asarray(quat_xyzw[:3], dtype=np.float64), float(quat_xyzw[3])
    twice = 2.0 * np.cross(axis, point)
    turned: NDArray[np.float64] = point + w * twice + np.cross(axis, twice)
    return turned
