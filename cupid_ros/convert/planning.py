"""Objects to moveit_msgs/CollisionObject."""

from __future__ import annotations

from typing import Any, Literal

from cupid_core.serving.frames import Stamped
from cupid_core.serving.records import ObjectRecord
from cupid_ros.convert.header import make_header
from cupid_ros.convert.objects import make_mesh, make_pose
from cupid_ros.messages import MessageTypes

# Names of subframes; in MoveIt "cupid/3/canonical". No id can be mistaken for one, see `object_frame`.
SUBFRAMES = ("canonical", "center")
_OPERATIONS = {"add": 0, "remove": 1, "move": 3}
_NO_ROTATION = (0.0, 0.0, 0.0, 1.0)


def make_collision_object(
    types: MessageTypes,
    item: ObjectRecord,
    stamped: Stamped,
    *,
    operation: Literal["add", "remove", "move"],
    name: str,
) -> Any:
    """moveit_msgs/CollisionObject with the mesh of an object (add), its new pose (move), or neither (remove).

    Its subframes are the canonical frame of the object, and the same turned nowhere at the center of its box.

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
        origin, center = (make_pose(types, place, _NO_ROTATION) for place in ((0.0, 0.0, 0.0), item.center))
        given = {
            "meshes": [make_mesh(types, item)],
            "mesh_poses": [origin],
            "subframe_names": list(SUBFRAMES),
            "subframe_poses": [origin, center],
        }
    if operation != "remove":
        given["pose"] = make_pose(types, item.translation, item.quat_xyzw)
    return types.make(
        "moveit_msgs/msg/CollisionObject",
        header=make_header(types, stamped),
        id=name,
        operation=_OPERATIONS[operation],
        **given,
    )
