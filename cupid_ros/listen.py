"""For Python programs that listen to /cupid/objects: meshes as numpy arrays, without a message object per vertex.

    from cupid_ros.listen import subscribe_objects

    def on_objects(message):  # fields as in cupid_ros/ObjectArray
        for item in message.objects:
            vertices = item.mesh.vertices       # (V, 3) float64, metres, object frame
            faces = item.mesh.triangles         # (F, 3) uint32
            colors = item.vertex_colors         # (V, 4) float32

    subscribe_objects(node, on_objects)

rclpy takes 70 ms or more to decode five objects; this takes about one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from cupid_ros.cdr import CdrMessageTypes, Record


def decode_objects(raw: bytes | memoryview) -> Record:
    """A cupid_ros/ObjectArray from its CDR bytes (of a raw subscription, or a bag).

    Fields are those of the message, as attributes; points, triangles and colors are read-only (N, k) arrays on the
    bytes that were given.

    Raises:
        InvalidMessageError: the bytes are no such message.
    """
    return _types().decode(raw, "cupid_ros/msg/ObjectArray")


def subscribe_objects(node: Any, on_objects: Callable[[Record], None], topic: str = "/cupid/objects") -> Any:
    """Subscribe to the objects; the newest is delivered to a late subscriber too.

    Args:
        node: an rclpy node.
        on_objects: gets each message, as `decode_objects` gives it.
        topic: of the node.

    Returns:
        The subscription.
    """
    from rclpy.qos import DurabilityPolicy, QoSProfile

    from cupid_ros.rclpy_messages import message_class

    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)

    def take(raw: bytes) -> None:
        on_objects(decode_objects(raw))

    return node.create_subscription(message_class("cupid_ros/msg/ObjectArray"), topic, take, latched, raw=True)


@cache
def _types() -> CdrMessageTypes:
    return CdrMessageTypes()
