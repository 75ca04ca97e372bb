"""Meshes to sensor_msgs/PointCloud2: points sampled on the surface in the object frame; knows no topics."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from cupid_ros.convert.header import Stamped, make_header
from cupid_ros.messages import MessageTypes
from cupid_ros.results import ObjectRecord

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


def make_point_cloud(types: MessageTypes, item: ObjectRecord, stamped: Stamped, *, count: int) -> Any:
    """sensor_msgs/PointCloud2 with x, y, z, normals and rgb, evenly by area; the same mesh gives the same points.

    Args:
        types: makes messages.
        item: the object.
        stamped: stamp of the image and TF frame of the object.
        count: number of points.
    """
    values = sample_surface(item, count)
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


def sample_surface(item: ObjectRecord, count: int, seed: int = 0) -> NDArray[Any]:
    """Points on a mesh as a structured array (count,) of x, y, z, normals (float32) and rgb (0x00rrggbb)."""
    mesh = trimesh.Trimesh(item.vertices, item.faces, process=False)
    points, faces = trimesh.sample.sample_surface(mesh, count, seed=seed)
    values = np.zeros(count, dtype=_POINT)
    normals = mesh.face_normals[faces]
    for axis, name in enumerate("xyz"):
        values[name] = points[:, axis]
        values[f"normal_{name}"] = normals[:, axis]
    colors = np.full((count, 3), 0.7)
    if item.colors is not None:
        weights = trimesh.triangles.points_to_barycentric(  # type: ignore[no-untyped-call]
            mesh.triangles[faces], points
        )
        colors = np.einsum("nk,nkc->nc", weights, item.colors[item.faces[faces]])
    red, green, blue = (colors.clip(0, 1) * 255).round().astype(np.uint32).T
    values["rgb"] = red << 16 | green << 8 | blue
    return values
