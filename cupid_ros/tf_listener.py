"""What TF says about a time: through tf2_ros where it is installed, else through `cupid_ros.tf_tree`."""

from __future__ import annotations

from typing import Any, Protocol

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time

from cupid_core.errors import CupidError
from cupid_core.geometry.se3 import SE3
from cupid_ros.convert.transforms import read_transform
from cupid_ros.errors import MissingTransformError
from cupid_ros.rclpy_messages import message_class
from cupid_ros.tf_tree import TransformTree

try:
    import tf2_ros
except ImportError:  # the ROS wheels of PyPI have none
    tf2_ros = None

_DEPTH = 100


class TransformListener(Protocol):
    """Collects /tf and /tf_static from its construction on."""

    def look_up(self, target: str, source: str, stamp_ns: int) -> SE3:
        """T_target_source at a time; does not wait, and never answers with an identity in the place of absence.

        Raises:
            MissingTransformError: TF does not connect the frames, or not at that time, or a rotation is invalid.
        """
        ...

    def close(self) -> None:
        """End the subscriptions."""
        ...


def listen(node: Any, memory_s: float) -> TransformListener:
    """A listener of an rclpy node that remembers transforms for some time."""
    return TreeListener(node, memory_s) if tf2_ros is None else Tf2Listener(node, memory_s)


class Tf2Listener:
    """See `TransformListener`; by tf2_ros."""

    def __init__(self, node: Any, memory_s: float) -> None:
        self.buffer = tf2_ros.Buffer(cache_time=Duration(seconds=memory_s))
        self._listener = tf2_ros.TransformListener(self.buffer, node)

    def look_up(self, target: str, source: str, stamp_ns: int) -> SE3:
        """See `TransformListener.look_up`."""
        try:
            return read_transform(self.buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns)))
        except (tf2_ros.TransformException, CupidError) as error:
            raise MissingTransformError(
                f"No transform from '{source}' to '{target}' at {stamp_ns} ns: {error}",
                hint="Publish the camera on TF at the stamps of its images; the objects are on /cupid/objects.",
            ) from error

    def close(self) -> None:
        """See `TransformListener.close`."""
        self._listener.unregister()


class TreeListener:
    """See `TransformListener`; by a tree of our own."""

    def __init__(self, node: Any, memory_s: float) -> None:
        self.tree = TransformTree(memory_s)
        self._node = node
        kind, group = message_class("tf2_msgs/msg/TFMessage"), ReentrantCallbackGroup()
        latched = QoSProfile(depth=_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions = [
            node.create_subscription(kind, "/tf", self._take, QoSProfile(depth=_DEPTH), callback_group=group),
            node.create_subscription(kind, "/tf_static", self._take_static, latched, callback_group=group),
        ]

    def look_up(self, target: str, source: str, stamp_ns: int) -> SE3:
        """See `TransformListener.look_up`."""
        return self.tree.look_up(target, source, stamp_ns)

    def close(self) -> None:
        """See `TransformListener.close`."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _take(self, message: Any, *, static: bool = False) -> None:
        for item in message.transforms:
            stamp, t, q = item.header.stamp, item.transform.translation, item.transform.rotation
            self.tree.insert(
                (item.header.frame_id, item.child_frame_id),
                stamp.sec * 1_000_000_000 + stamp.nanosec,
                (q.x, q.y, q.z, q.w),
                (t.x, t.y, t.z),
                static=static,
            )

    def _take_static(self, message: Any) -> None:
        self._take(message, static=True)
