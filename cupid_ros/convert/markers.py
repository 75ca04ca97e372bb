"""Observations to visualization_msgs/MarkerArray: the meshes as triangle lists with colors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cupid_core.serving.frames import Stamped
from cupid_core.serving.records import ObjectRecord, Observation
from cupid_ros.convert.header import make_header
from cupid_ros.convert.objects import make_colors, make_points, make_pose, make_vector
from cupid_ros.messages import MessageTypes

NAMESPACE = "cupid"
_TRIANGLE_LIST, _ADD, _DELETE = 11, 0, 2
_NEUTRAL = (0.7, 0.7, 0.7)
_SECOND_NS = 1_000_000_000


def make_markers(
    types: MessageTypes, observation: Observation, *, lifetime_s: float = 0.0, removed: Iterable[int] = ()
) -> Any:
    """visualization_msgs/MarkerArray of the objects with a metric scale.

    Args:
        types: makes messages.
        observation: what was reconstructed.
        lifetime_s: how long a marker is displayed; 0 until it is replaced.
        removed: numbers of objects whose markers are deleted.
    """
    header = make_header(types, Stamped(observation.stamp_ns, observation.frame_id))
    sec, nanosec = divmod(round(lifetime_s * _SECOND_NS), _SECOND_NS)
    lifetime = types.make("builtin_interfaces/msg/Duration", sec=sec, nanosec=nanosec)
    markers = [
        types.make("visualization_msgs/msg/Marker", header=header, ns=NAMESPACE, id=number, action=_DELETE)
        for number in removed
    ]
    markers += [_marker(types, item, header, lifetime) for item in observation.objects if item.is_metric]
    return types.make("visualization_msgs/msg/MarkerArray", markers=markers)


def _marker(types: MessageTypes, item: ObjectRecord, header: Any, lifetime: Any) -> Any:
    corners = item.faces.reshape(-1)
    r, g, b = _NEUTRAL
    return types.make(
        "visualization_msgs/msg/Marker",
        header=header,
        ns=NAMESPACE,
        id=item.number,
        type=_TRIANGLE_LIST,
        action=_ADD,
        pose=make_pose(types, item.translation, item.quat_xyzw),
        scale=make_vector(types, (1.0, 1.0, 1.0), "Vector3"),
        color=types.make("std_msgs/msg/ColorRGBA", r=r, g=g, b=b, a=1.0),
        lifetime=lifetime,
        points=make_points(types, item.vertices[corners]),
        colors=make_colors(types, None if item.colors is None else item.colors[corners]),
    )
