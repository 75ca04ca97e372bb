"""Raw images between two processes: python image_traffic.py send|receive WIDTH HEIGHT COUNT PERIOD_S.

The receiver subscribes as the node does and prints how many came; the sender ends when all are sent.
"""

from __future__ import annotations

import sys
import time

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

TOPIC, LAST = "/traffic/image", "/traffic/last"
_DEADLINE_S = 120.0


def send(width: int, height: int, count: int, period_s: float) -> None:
    """Publish images at a fixed rate, as soon as somebody listens, and then a small message."""
    node = rclpy.create_node("camera")
    images, last = node.create_publisher(Image, TOPIC, 10), node.create_publisher(CameraInfo, LAST, 10)
    end = time.monotonic() + _DEADLINE_S
    while not (images.get_subscription_count() and last.get_subscription_count()):
        assert time.monotonic() < end, "nobody listens"
        time.sleep(0.05)
    message = Image(width=width, height=height, encoding="rgb8", step=3 * width)
    message.data.frombytes(bytes(3 * width * height))
    at = time.monotonic()
    for number in range(count):
        message.header.stamp.sec = number
        images.publish(message)
        at += period_s
        time.sleep(max(0.0, at - time.monotonic()))
    last.publish(CameraInfo())
    time.sleep(1.0)


def receive() -> int:
    """Count images until the small message comes."""
    node = rclpy.create_node("listener")
    came: set[int] = set()
    ended: list[CameraInfo] = []
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_subscription(Image, TOPIC, lambda message: came.add(message.header.stamp.sec), qos)
    node.create_subscription(CameraInfo, LAST, ended.append, 10)
    end = time.monotonic() + _DEADLINE_S
    while not ended:
        assert time.monotonic() < end, f"the sender did not end; {len(came)} images came"
        rclpy.spin_once(node, timeout_sec=0.1)
    return len(came)


if __name__ == "__main__":
    role, *numbers = sys.argv[1:]
    rclpy.init()
    if role == "send":
        send(int(numbers[0]), int(numbers[1]), int(numbers[2]), float(numbers[3]))
    else:
        sys.stdout.write(f"{receive()}\n")
