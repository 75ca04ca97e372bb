"""Meshes to points sampled on the surface: sensor_msgs/PointCloud2, and what planners want to know beside them."""

from __future__ import annotations

import sys
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cupid_core.serving.frames import Stamped
from cupid_core.serving.records import ObjectRecord, Observation
from cupid_ros.convert.header import make_header
from cupid_ros.messages import MessageTypes

_FLOAT32 = 7
_POINT = np.dtype(
    [
        ("x", "f4"),
        ("y", "f4"),
        ("z", "f4"),
        ("normal_x", "f4"),
        ("normal_y", "f4"),
        ("normal_z", "f4"),
        ("rgb", "u4"),
    ]
)


def make_object_clouds(types: MessageTypes, observation: Observation, *, count: int) -> Any:
    """cupid_ros/ObjectClouds of the objects with a metric scale: all in the frame of the camera.

    Args:
        types: makes messages.
        observation: what was reconstructed.
        count: points of one object.
    """
    stamped = Stamped(observation.stamp_ns, observation.frame_id)
    items = [item for item in observation.objects if item.is_metric]
    return types.make(
        "cupid_ros/msg/ObjectClouds",
        header=make_header(types, stamped),
        ids=[item.id for item in items],
        clouds=[make_point_cloud(types, item, stamped, count=count, in_camera=True) for item in items],
    )


def make_point_cloud(
    types: MessageTypes, item: ObjectRecord, stamped: Stamped, *, count: int, in_camera: bool = False
) -> Any:
    """sensor_msgs/PointCloud2 with x, y, z, normals and rgb, evenly by area; the same mesh gives the same points.

    Args:
        types: makes messages.
        item: the object.
        stamped: stamp of the image, and the frame of the points.
        count: number of points.
        in_camera: points in the frame of the camera, else in that of the object.
    """
    values = _point_values(item, count, in_camera)
    fields = [
        types.make(
            "sensor_msgs/msg/PointField",
            name=name,
            offset=_POINT.fields[name][1],  # type: ignore[index]
            # RViz and PCL want the packed color declared as a float.
            datatype=_FLOAT32,
            count=1,
        )
        for name in _POINT.names or ()
    ]
    return types.make(
        "sensor_msgs/msg/PointCloud2",
        header=make_header(types, stamped),
        height=1,
        width=count,
        fields=fields,
        is_bigendian=sys.byteorder == "big",
        point_step=_POINT.itemsize,
        row_step=_POINT.itemsize * count,
        data=values.view(np.uint8).reshape(-1),
        is_dense=True,
    )


def read_points(message: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points and outward unit normals, (N, 3) each, of a cloud that was made here."""
    values = np.frombuffer(message.data, dtype=_POINT)
    points, normals = (
        np.stack([values[part + axis] for axis in "xyz"], axis=1).astype(np.float64) for part in ("", "normal_")
    )
    return points, normals


def view_points(
    points: NDArray[Any], normals: NDArray[Any], distance_m: float = 0.5
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """View points all around an object, and which of them sees each point: what GPD asks for beside a cloud.

    GPD turns normals towards the view point of their point. On a whole surface one view point would turn those of
    the far side inwards.

    Args:
        points: (N, 3) on the surface.
        normals: (N, 3) outward.
        distance_m: of the view points from the middle, beyond the largest distance of a point.

    Returns:
        (14, 3) view points, in the frame of the points, and (N,) the index of the one most in front of each.

    Source: atenpas/gpd_ros, CloudSources.msg (camera_source, view_points).
    """
    axes = np.concatenate([np.eye(3), np.array(list(product((-1.0, 1.0), repeat=3))) / np.sqrt(3)])
    directions = np.concatenate([axes[:3], -axes[:3], axes[3:]])
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    radius = float(np.linalg.norm(points - middle, axis=1).max()) + distance_m
    views = middle + radius * directions
    rays = views[None] - points[:, None]
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    return views, np.einsum("nvk,nk->nv", rays, normals).argmax(axis=1)


def _point_values(item: ObjectRecord, count: int, in_camera: bool) -> NDArray[Any]:
    """Structured array (count,) of x, y, z, normals (float32) and rgb (0x00rrggbb)."""
    points, normals, colors = item.surface_points(count)
    if in_camera:
        pose = item.T_camera_object
        points = pose.apply(torch.from_numpy(points)).numpy()
        normals = normals @ pose.rotation().numpy().T
    values = np.zeros(count, dtype=_POINT)
    for axis, name in enumerate("xyz"):
        values[name] = points[:, axis]
        values[f"normal_{name}"] = normals[:, axis]
    red, green, blue = (colors * 255).round().astype(np.uint32).T
    values["rgb"] = red << 16 | green << 8 | blue
    return values
