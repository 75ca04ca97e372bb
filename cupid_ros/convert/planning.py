"""Objects to moveit_msgs/CollisionObject."""

from __future__ import annotations

from typing import Any, Literal

from cupid_core.serving.frames import Stamped
from cupid_core.serving.records import ObjectRecord
from cupid_ros.convert.header import make_header
from cupid_ros.convert.objects import make_mesh, make_pose, make_quaternion
from cupid_ros.messages import MessageTypes

_OPERATIONS = {"add": 0, "remove": 1, "move": 3}


def make_collision_object(
    types: MessageTypes,
    item: ObjectRecord,
    stamped: Stamped,
    *,
    operation: Literal["add", "remove", "move"],
    name: str,
) -> Any:
    """moveit_msgs/CollisionObject with the mesh of an object (add), its new pose (move), or neither (remove).

    Args:
        types: makes messages.
        item: an object with a metric scale.
        stamped: stamp of the image and the camera's optical frame.
        operation: what the planning scene does with it.
        name: id in the planning scene.

    Raises:
        ValueError: the object has no metric scale (the caller's mistake: it is not for a planning scene).
        UnknownMessageError: moveit_msgs is not installed.
    """
    if not item.is_metric:
        raise ValueError(f"object '{item.id}' has no metric scale")
    given: dict[str, Any] = {}
    if operation == "add":
        # The mesh stands at the object's pose, so its own pose is that of the object frame.
        origin = types.make("geometry_msgs/msg/Pose", orientation=make_quaternion(types, (0.0, 0.0, 0.0, 1.0)))
        given = {"meshes": [make_mesh(types, item)], "mesh_poses": [origin]}
    if operation != "remove":
        given["pose"] = make_pose(types, item.translation, item.quat_xyzw)
    return types.make(
        "moveit_msgs/msg/CollisionObject",
        header=make_header(types, stamped),
        id=name,
        operation=_OPERATIONS[operation],
        **given,
    )
