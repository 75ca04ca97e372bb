"""Meshes to sensor_msgs/PointCloud2: points sampled on the surface, in the object frame."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_core.serving.frames import Stamped
from cupid_core.serving.records import ObjectRecord
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


def make_point_cloud(types: MessageTypes, item: ObjectRecord, stamped: Stamped, *, count: int) -> Any:
    """sensor_msgs/PointCloud2 with x, y, z, normals and rgb, evenly by area; the same mesh gives the same points.

    Args:
        types: makes messages.
        item: the object.
        stamped: stamp of the image and TF frame of the object.
        count: number of points.
    """
    values = _point_values(item, count)
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


def _point_values(item: ObjectRecord, count: int) -> NDArray[Any]:
    """Structured array (count,) of x, y, z, normals (float32) and rgb (0x00rrggbb)."""
    points, normals, colors = item.surface_points(count)
    values = np.zeros(count, dtype=_POINT)
    for axis, name in enumerate("xyz"):
        values[name] = points[:, axis]
        values[f"normal_{name}"] = normals[:, axis]
    red, green, blue = (colors * 255).round().astype(np.uint32).T
    values["rgb"] = red << 16 | green << 8 | blue
    return values
