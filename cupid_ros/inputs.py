"""Subscriptions, and the synchronization of the messages that belong to one image."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions, QoSPolicyKind

from cupid_core.config.ros import RosConfig, RosTopicsConfig
from cupid_core.errors import ConfigError, CupidError
from cupid_ros.bag_topics import NO_TOPIC
from cupid_ros.convert.header import read_header
from cupid_ros.errors import InvalidMessageError, StampMismatchError
from cupid_ros.frame_messages import FrameMessages
from cupid_ros.rclpy_messages import message_class
from cupid_ros.synchronizer import Synchronizer

_JUMP_NS = 1_000_000_000
_SILENT_S = 5.0
_DEPTH = 5
_FIXED_TYPES = {
    "camera_info": "sensor_msgs/msg/CameraInfo",
    "detections": "vision_msgs/msg/Detection2DArray",
}
_COMPRESSED = ("/compressed", "/compressedDepth")
# Arrivals are compared over this many calls of `check`, once there is something to compare.
_COMPARED_CALLS = 5
_COMPARED_INFOS = 10
_ARRIVING = 0.8

OnFrame = Callable[[FrameMessages], None]
OnProblem = Callable[[CupidError], None]
OnMessage = Callable[[int, Any], None]
"""(stamp in nanoseconds, message)."""


def wanted_topics(topics: RosTopicsConfig) -> dict[str, str]:
    """Role -> name, of the inputs that are used.

    Raises:
        ConfigError: no image topic, or neither detections nor labels.
    """
    wanted = {role: name for role, name in topics.model_dump().items() if name not in ("", *NO_TOPIC)}
    if "image" not in wanted:
        raise ConfigError("ros.topics.image is empty.", hint="Name the topic of the color image.")
    if "detections" not in wanted and "labels" not in wanted:
        raise ConfigError(
            "Neither ros.topics.detections nor ros.topics.labels names a topic.",
            hint="Name one of them: something must say where the objects are.",
        )
    return wanted


class Input:
    """A subscription that lets only messages with a usable stamp through.

    Args:
        node: an rclpy node.
        topic: name, perhaps relative; one that ends in /compressed carries CompressedImage.
        role: image, camera_info, depth, labels or detections.
        on_message: gets each message.
        on_problem: called with a message whose stamp cannot be used.
        group: callback group.

    Attributes:
        topic: with its namespace.
        count: messages so far.
        newest_ns: stamp of the newest; None before the first.
        received: `time.monotonic` of the newest; None before the first.
        on_jump_back: called before a message whose stamp is older than that of the one before it.
    """

    def __init__(
        self, node: Any, topic: str, role: str, *, on_message: OnMessage, on_problem: OnProblem, group: Any
    ) -> None:
        self.topic = str(node.resolve_topic_name(topic))
        self.count = 0
        self.newest_ns: int | None = None
        self.received: float | None = None
        self.on_jump_back: Callable[[], None] = lambda: None
        self._on_message, self._on_problem = on_message, on_problem
        self._role = role
        image = "CompressedImage" if self.topic.endswith(_COMPRESSED) else "Image"
        kind = message_class(_FIXED_TYPES.get(role, f"sensor_msgs/msg/{image}"))
        policies = [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY]
        if role == "camera_info":  # of a camera that publishes it once, before this node starts
            policies.append(QoSPolicyKind.DURABILITY)
        self.subscription = node.create_subscription(
            kind,
            topic,
            self._take,
            # As qos_profile_sensor_data, but an object of our own: rclpy writes overrides into it.
            QoSProfile(depth=_DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT),
            callback_group=group,
            qos_overriding_options=QoSOverridingOptions(policies),
        )

    def _take(self, message: Any) -> None:
        self.count += 1
        self.received = time.monotonic()
        try:
            stamp_ns = read_header(message).stamp_ns
            if stamp_ns < 0:
                raise InvalidMessageError(f"The stamp on {self.topic} is negative.", hint="Set it to the time.")
            if self._role == "image" and stamp_ns == self.newest_ns:
                # What comes next could belong to either.
                raise StampMismatchError(
                    f"Two images on {self.topic} have the same stamp; the second is dropped.",
                    hint="Set header.stamp to the time of each image.",
                )
        except CupidError as error:
            self._on_problem(error)
            return
        if self.newest_ns is not None and stamp_ns < self.newest_ns - _JUMP_NS:
            self.on_jump_back()
        self.newest_ns = stamp_ns
        self._on_message(stamp_ns, message)


class Inputs:
    """Everything that the node subscribes to.

    Args:
        node: an rclpy node.
        config: topics, and how far their stamps may differ.
        on_frame: gets the messages of each image; must not raise, and return at once.
        on_problem: called with what cannot be used.
        group: callback group in which one callback runs at a time.

    Attributes:
        inputs: by role.
        frames: images with everything that belongs to them, so far.

    Raises:
        ConfigError: see `wanted_topics`.
        UnknownMessageError: a message package is not installed.
    """

    def __init__(
        self, node: Any, config: RosConfig, *, on_frame: OnFrame, on_problem: OnProblem, group: Any
    ) -> None:
        self._node, self._config = node, config
        self._on_frame, self._on_problem = on_frame, on_problem
        self.frames = 0
        self._frames_before = 0
        self._counts_at_frame: dict[str, int] = {}
        self._history: deque[dict[str, int]] = deque(maxlen=_COMPARED_CALLS + 1)
        # Held while a message is worked on, so that none is when `close` returns.
        self._working = threading.Lock()
        self._closed = False
        topics = wanted_topics(config.topics)
        self._synchronizer = Synchronizer(topics, queue=config.input.sync_queue, slop_s=config.input.sync_slop_s)
        self.inputs: dict[str, Input] = {}
        with self._working:
            for role, name in topics.items():
                on_message = partial(self._on_message, role)
                self.inputs[role] = Input(
                    node, name, role, on_message=on_message, on_problem=on_problem, group=group
                )
                self.inputs[role].on_jump_back = self._restart

    def close(self) -> None:
        """End the subscriptions, and drop the messages that wait; afterwards `on_frame` is not called any more."""
        with self._working:
            self._closed = True
        for input_ in self.inputs.values():
            self._node.destroy_subscription(input_.subscription)
        self.inputs = {}

    def counts(self) -> dict[str, int]:
        """Messages of each input so far, and whole frames."""
        return {**{role: input_.count for role, input_ in self.inputs.items()}, "frames": self.frames}

    def silent(self) -> dict[str, str]:
        """Inputs without a message for five seconds, or at all, with their topics."""
        late = time.monotonic() - _SILENT_S
        return {
            role: input_.topic
            for role, input_ in self.inputs.items()
            if (input_.received is None or input_.received < late) and not self._is_latched(role)
        }

    def _is_latched(self, role: str) -> bool:
        """A CameraInfo that came once and serves every image."""
        return role == "camera_info" and self.inputs[role].count == 1 and self.frames > 0

    def check(self) -> None:
        """Report when all inputs come but their stamps never match; to be called once a second."""
        quiet, self._frames_before = self.frames == self._frames_before, self.frames
        counts = self.counts()
        if not quiet or any(counts[role] == self._counts_at_frame.get(role, 0) for role in self.inputs):
            return
        self._counts_at_frame = counts
        stamps = ", ".join(f"{role} {input_.newest_ns}" for role, input_ in self.inputs.items())
        self._on_problem(
            StampMismatchError(
                f"No two inputs are within {self._config.input.sync_slop_s:g} s; newest stamps [ns]: {stamps}.",
                hint="Copy the header of the image, or raise ros.input.sync_slop_s or sync_queue.",
            )
        )

    def lossy(self) -> dict[str, str]:
        """The image, if clearly fewer come than of its CameraInfo, with "3 of 20".

        Raw images are large, and the middleware loses them first; see "Images do not arrive" in docs/ros.md. Depth
        and labels may well come less often. To be called once a second.
        """
        counts = self.counts()
        self._history.append(counts)
        came = {role: counts[role] - self._history[0].get(role, 0) for role in self.inputs}
        infos = came.get("camera_info", 0)
        if infos < _COMPARED_INFOS:
            return {}
        return {"image": f"{came['image']} of {infos}"} if came["image"] < _ARRIVING * infos else {}

    def _on_message(self, role: str, stamp_ns: int, message: Any) -> None:
        with self._working:
            if self._closed:  # it was on its way when the node was deactivated
                return
            messages = self._synchronizer.add(role, stamp_ns, message)
            if messages is None:
                return
            self.frames += 1
            self._counts_at_frame = self.counts()
            self._on_frame(FrameMessages(**messages))

    def _restart(self) -> None:
        """A bag started again, or a clock was set: messages that wait would block everything newer."""
        self._node.get_logger().info("stamps jumped back: waiting messages are dropped")
        with self._working:
            self._synchronizer.clear()
        for input_ in self.inputs.values():
            input_.newest_ns = None
