"""What surrounds the node in a test: a camera, a detector, and somebody who listens. Needs a ROS 2."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import rclpy
from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from patience import patient
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import MarkerArray

from cupid_core.geometry.camera import Camera
from cupid_core.serving.frames import Detection, Stamped
from cupid_ros.action import Reconstruct
from cupid_ros.convert.camera import make_camera_info
from cupid_ros.convert.detections import make_detections
from cupid_ros.convert.image import make_image
from cupid_ros.msg import ObjectArray, ObjectClouds
from cupid_ros.rclpy_messages import RclpyMessageTypes
from cupid_ros.srv import GetMesh

FRAME = "camera_color_optical_frame"
SECOND = 10**9
TOPICS = {
    "image": "/camera/image",
    "camera_info": "/camera/info",
    "depth": "/camera/depth",
    "labels": "/labels",
    "detections": "/detections",
}
try:
    from moveit_msgs.msg import CollisionObject
except ImportError:  # MoveIt is not part of every installation
    CollisionObject = None
_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_HEARD = {
    "/cupid/objects": (ObjectArray, _LATCHED),
    "/tf": (TFMessage, 100),
    "/tf_static": (TFMessage, _LATCHED),
    "/cupid/markers": (MarkerArray, 10),
    "/cupid/detections": (Detection3DArray, 10),
    "/cupid/overlay": (Image, 10),
    "/cupid/points": (PointCloud2, 10),
    "/cupid/clouds": (ObjectClouds, _LATCHED),
    "/diagnostics": (DiagnosticArray, 10),
}


def camera() -> Camera:
    return Camera.from_parameters(fx=80.0, fy=80.0, cx=31.5, cy=23.5, width=64, height=48)


def found(id_: str, x: float = 5.0, word: str = "mug") -> Detection:
    return Detection(id_, word, 0.5, (x, 10.0, x + 10.0, 20.0))


def wait_for(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first answer that counts as true."""
    end = time.monotonic() + patient(seconds)
    while not (answer := what()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return answer


class Robot:
    """A node that publishes to the one under test, and keeps everything that comes back."""

    def __init__(self) -> None:
        self.types = RclpyMessageTypes()
        self.node = rclpy.create_node("robot")
        self.heard: dict[str, list[Any]] = defaultdict(list)
        self.feedback: list[Any] = []
        self._results: dict[bytes, Any] = {}
        self._stamp_ns = time.time_ns()
        kinds = {"camera_info": CameraInfo, "detections": Detection2DArray}
        self.senders = {
            role: self.node.create_publisher(kinds.get(role, Image), topic, 10) for role, topic in TOPICS.items()
        }
        self.compressed = self.node.create_publisher(CompressedImage, "/camera/image/compressed", 10)
        self.tf = self.node.create_publisher(TFMessage, "/tf", 100)
        heard = {**_HEARD, **({"/collision_object": (CollisionObject, 10)} if CollisionObject else {})}
        for topic, (kind, qos) in heard.items():
            self.node.create_subscription(kind, topic, self.heard[topic].append, qos)
        self.action = ActionClient(self.node, Reconstruct, "cupid/reconstruct")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="robot-spin")
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.action.destroy()
        self._executor.shutdown()
        self.node.destroy_node()

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.05)

    # What it says.

    def messages(self, *detections: Detection, stamp_ns: int | None = None) -> dict[str, Any]:
        """One message of each role but labels, 10 ms after the one before."""
        self._stamp_ns = self._stamp_ns + SECOND // 100 if stamp_ns is None else stamp_ns
        now = Stamped(self._stamp_ns, FRAME)
        return {
            "image": make_image(self.types, np.full((48, 64, 3), 90, np.uint8), "bgr8", now),
            "camera_info": make_camera_info(self.types, camera(), now),
            "depth": make_image(self.types, np.full((48, 64), 700, np.uint16), "16UC1", now),
            "detections": make_detections(self.types, detections, now),
        }

    def send(self, messages: dict[str, Any]) -> None:
        for role, message in messages.items():
            wait_for(lambda role=role: self.senders[role].get_subscription_count())
            self.senders[role].publish(message)

    def see(self, *detections: Detection, **changes: Any) -> int:
        """Publish one moment; `depth=None` leaves a message out. Returns its stamp."""
        messages = {**self.messages(*detections), **changes}
        self.send({role: message for role, message in messages.items() if message is not None})
        return self._stamp_ns

    # What it hears.

    def wait(self, topic: str, count: int = 1, seconds: float = 30.0) -> list[Any]:
        """All messages of a topic, when there are so many."""
        wait_for(lambda: len(self.heard[topic]) >= count, seconds)
        return self.heard[topic]

    def forget(self) -> None:
        for messages in self.heard.values():
            messages.clear()
        self.feedback.clear()

    def status(self, part: str) -> Any | None:
        """The newest diagnostics of a part of the node."""
        for message in reversed(self.heard["/diagnostics"]):
            for status in message.status:
                if status.name.endswith(f": {part}"):
                    return status
        return None

    def values(self, part: str) -> dict[str, str]:
        status = self.status(part)
        return {} if status is None else {item.key: item.value for item in status.values}

    def count_of(self, code: str) -> int:
        """How often the diagnostics have counted a code."""
        return int(self.values("problems").get(f"count of {code}", 0))

    def wait_for_code(self, code: str, more_than: int = 0, seconds: float = 15.0) -> None:
        """Until the diagnostics warn of a code."""

        def warned() -> bool:
            status = self.status("problems")
            return self.count_of(code) > more_than and status is not None and status.level == b"\x01"

        wait_for(warned, seconds)

    # What it asks.

    def call(self, kind: Any, name: str, request: Any, seconds: float = 60.0) -> Any:
        client = self.node.create_client(kind, name)
        try:
            assert client.wait_for_service(timeout_sec=patient(20.0)), f"{name} is not there"
            future = client.call_async(request)
            wait_for(future.done, seconds)
            return future.result()
        finally:
            self.node.destroy_client(client)

    def change(self, word: str) -> bool:
        """A lifecycle transition: configure, activate, deactivate, cleanup."""
        number = getattr(Transition, f"TRANSITION_{word.upper()}")
        request = ChangeState.Request(transition=Transition(id=number))
        return bool(self.call(ChangeState, "/recon_node/change_state", request).success)

    def state(self) -> str:
        return str(self.call(GetState, "/recon_node/get_state", GetState.Request()).current_state.label)

    def set(self, name: str, value: Any) -> tuple[bool, str]:
        """A parameter: whether it was taken, and why not."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        (answer,) = self.call(SetParameters, "/recon_node/set_parameters", request).results
        return answer.successful, answer.reason

    def get_mesh(self, id_: str, kind: str = "") -> Any:
        return self.call(GetMesh, "/cupid/get_mesh", GetMesh.Request(id=id_, format=kind))

    def clear(self) -> Any:
        return self.call(Trigger, "/cupid/clear", Trigger.Request())

    def ask(self, **goal: Any) -> Any:
        """Send a goal; returns its handle when it was accepted."""
        assert self.action.wait_for_server(timeout_sec=patient(20.0))
        future = self.action.send_goal_async(
            Reconstruct.Goal(**goal), feedback_callback=lambda message: self.feedback.append(message.feedback)
        )
        future.add_done_callback(self._ask_for_result)
        wait_for(future.done)
        handle = future.result()
        assert handle.accepted
        wait_for(lambda: bytes(handle.goal_id.uuid) in self._results)
        return handle

    def _ask_for_result(self, future: Any) -> None:
        """In the thread that spins: rclpy drops an answer that is faster than the note of its request."""
        handle = future.result()
        self._results[bytes(handle.goal_id.uuid)] = handle.get_result_async() if handle.accepted else None

    def answer(self, handle: Any, seconds: float = 60.0) -> tuple[str, Any]:
        """What came of a goal: succeeded, aborted or canceled, and the result."""
        future = self._results[bytes(handle.goal_id.uuid)]
        wait_for(future.done, seconds)
        names = {
            GoalStatus.STATUS_SUCCEEDED: "succeeded",
            GoalStatus.STATUS_ABORTED: "aborted",
            GoalStatus.STATUS_CANCELED: "canceled",
        }
        return names[future.result().status], future.result().result


@contextmanager
def running(make_job: Any, *, active: bool = True, **parameters: Any) -> Iterator[Any]:
    """The node, spinning in this process, with its worker in another one.

    Args:
        make_job: what the worker runs.
        active: configure and activate it first.
        parameters: by name, with __ for the dot.
    """
    from cupid_ros.node import ReconNode
    from cupid_ros.node_process import spinning

    topics = {f"ros.topics.{role}": topic for role, topic in TOPICS.items() if role != "labels"}
    quick = {"ros.worker.grace_s": 0.2, "ros.worker.restart_pause_s": 0.0, "ros.input.sync_slop_s": 0.002}
    given = {**topics, **quick, **{name.replace("__", "."): value for name, value in parameters.items()}}
    node = ReconNode(
        make_job=make_job, parameter_overrides=[Parameter(name, value=value) for name, value in given.items()]
    )
    with spinning(node):
        try:
            if active:
                node.trigger_configure()
                node.trigger_activate()
            yield node
        finally:
            node.close()
    node.destroy_node()
