"""The node's part of `ros_overhead.py`: the real node in a process of its own, called through DDS on loopback.

Needs a sourced ROS 2 workspace with this package. As a program of its own it is the node, with `MakeIdentity`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from overhead_frames import Cell, MakeIdentity, Moments, Tick

TOPICS = {
    "image": "image",
    "camera_info": "info",
    "depth": "depth",
    "labels": "labels",
    "detections": "detections",
}
ANSWERS = {"to /tf": "/tf", "to /cupid/objects": "cupid/objects", "to the last output": "cupid/overlay"}
NAMESPACE = "overhead"
PATIENCE_S = 60.0
# After this time an answer counts as missing.
ANSWER_TIMEOUT_S = 5.0


def measure_node(
    cells: Sequence[Cell], moments: int, warm_up: int, tick: Tick
) -> dict[Cell, dict[str, list[float]]]:
    """Seconds from the first `publish` to the arrival of the answers, undecoded; all cells in turns."""
    times: dict[Cell, dict[str, list[float]]] = {cell: {} for cell in cells}
    with _client() as client:
        sources = {cell: Moments(cell, client.types) for cell in cells}
        stamp_ns = time.time_ns()
        for number in range(warm_up + moments):
            for cell, source in sources.items():
                seconds_of: dict[str, float] | None = None
                while seconds_of is None:  # images are sent best effort: one that DDS loses is sent again
                    stamp_ns += 33_000_000
                    seconds_of = client.moment(source.messages(stamp_ns))
                    client.lost += seconds_of is None
                    if client.lost > moments * len(cells):
                        raise TimeoutError("more moments are lost than arrive: raise net.core.rmem_max")
                for name, seconds in seconds_of.items():
                    if number >= warm_up:
                        times[cell].setdefault(name, []).append(seconds)
                tick()
        sys.stderr.write(f"{client.lost} moments were lost on the way and sent again\n")
    return times


class Client:
    """A camera and a detector that wait for their answer.

    Args:
        node: an rclpy node.

    Attributes:
        lost: moments without an answer.
    """

    def __init__(self, node: Any) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile

        from cupid_ros.rclpy_messages import RclpyMessageTypes, message_class

        self.types = RclpyMessageTypes()
        self.lost = 0
        self._node = node
        self._arrived: dict[str, float] = {}
        kinds = {"camera_info": "sensor_msgs/msg/CameraInfo", "detections": "vision_msgs/msg/Detection2DArray"}
        self._senders = {
            role: node.create_publisher(message_class(kinds.get(role, "sensor_msgs/msg/Image")), topic, 10)
            for role, topic in TOPICS.items()
        }
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        answers = {
            "/tf": ("tf2_msgs/msg/TFMessage", QoSProfile(depth=100)),
            "cupid/objects": ("cupid_ros/msg/ObjectArray", latched),
            "cupid/overlay": ("sensor_msgs/msg/Image", latched),
        }
        for topic, (kind, qos) in answers.items():
            node.create_subscription(message_class(kind), topic, self._arrival(topic), qos, raw=True)

    def moment(self, messages: dict[str, Any]) -> dict[str, float] | None:
        """Publish one moment and wait for its answers; seconds to each, None where they are missing."""
        self._arrived.clear()
        start = time.perf_counter()
        for role, message in messages.items():
            self._senders[role].publish(message)
        published = time.perf_counter()
        try:
            self.wait_for(lambda: len(self._arrived) == len(ANSWERS), "an answer", ANSWER_TIMEOUT_S)
        except TimeoutError:
            return None
        answers = {name: self._arrived[topic] - start for name, topic in ANSWERS.items()}
        return {"publish": published - start, **answers}

    def bring_up(self) -> None:
        """Configure and activate the node, and wait until it listens."""
        transitions = import_module("lifecycle_msgs.msg").Transition
        change = import_module("lifecycle_msgs.srv").ChangeState
        service = self._node.create_client(change, "recon_node/change_state")
        self.wait_for(service.service_is_ready, "the node")
        for number in (transitions.TRANSITION_CONFIGURE, transitions.TRANSITION_ACTIVATE):
            answer = service.call_async(change.Request(transition=transitions(id=number)))
            self.wait_for(answer.done, "a transition")
            assert answer.result().success
        self.wait_for(
            lambda: all(sender.get_subscription_count() for sender in self._senders.values()), "subscriptions"
        )

    def wait_for(self, what: Callable[[], bool], name: str, patience_s: float = PATIENCE_S) -> None:
        """Spin until it is true.

        Raises:
            TimeoutError: it does not get true in time.
        """
        import rclpy

        end = time.monotonic() + patience_s
        while not what():
            if time.monotonic() > end:
                raise TimeoutError(f"{name} did not come within {patience_s:g} s")
            rclpy.spin_once(self._node, timeout_sec=0.1)

    def _arrival(self, topic: str) -> Callable[[bytes], None]:
        def arrived(_: bytes) -> None:
            self._arrived[topic] = time.perf_counter()

        return arrived


@contextmanager
def _client() -> Iterator[Client]:
    """A client beside a running node, both in a DDS domain of their own on loopback."""
    import rclpy

    os.environ.update(ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST", ROS_DOMAIN_ID=str(1 + os.getpid() % 100))
    profile = Path(__file__).resolve().parents[1] / "config" / "fastdds.xml"
    os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(profile))
    given = {f"ros.topics.{role}": topic for role, topic in TOPICS.items()} | {"ros.update_poses": "true"}
    words = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
    command = [sys.executable, str(Path(__file__)), "--ros-args", "-r", f"__ns:=/{NAMESPACE}", *words]
    process = subprocess.Popen([*command, "--log-level", "warn"])
    rclpy.init()
    try:
        node = rclpy.create_node("overhead", namespace=NAMESPACE)
        client = Client(node)
        client.bring_up()
        yield client
        node.destroy_node()
    finally:
        process.terminate()
        process.wait()
        rclpy.try_shutdown()


if __name__ == "__main__":  # the worker process reads this file again
    from cupid_ros.node_process import main

    sys.exit(main(make_job=MakeIdentity()))
