"""The TF tree: chains, inverses, interpolation, what is refused, and agreement with tf2_ros where there is one."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest
import torch

from cupid_core.geometry.se3 import SE3
from cupid_ros.errors import MissingTransformError
from cupid_ros.tf_tree import TransformTree

SECOND = 1_000_000_000


def random_transform(seed: int) -> SE3:
    generator = torch.Generator().manual_seed(seed)
    return SE3.exp(torch.randn(6, generator=generator, dtype=torch.float64))


def insert(tree: TransformTree, frames: tuple[str, str], stamp_ns: int, T: SE3, *, static: bool = False) -> None:
    assert tree.insert(frames, stamp_ns, T.quat_xyzw.tolist(), T.translation.tolist(), static=static)


def assert_same(actual: SE3, expected: SE3) -> None:
    torch.testing.assert_close(actual.matrix(), expected.matrix(), atol=1e-12, rtol=0.0)


def robot_tree() -> tuple[TransformTree, dict[str, SE3]]:
    """map -> base -> camera and base -> tool; the camera is static."""
    tree = TransformTree(10.0)
    known = {"base": random_transform(1), "camera": random_transform(2), "tool": random_transform(3)}
    insert(tree, ("map", "base"), SECOND, known["base"])
    insert(tree, ("base", "camera"), 0, known["camera"], static=True)
    insert(tree, ("base", "tool"), SECOND, known["tool"])
    return tree, known


def test_transforms_compose_along_the_tree_and_invert() -> None:
    tree, known = robot_tree()
    T_map_camera = tree.look_up("map", "camera", SECOND)
    assert_same(T_map_camera, known["base"] @ known["camera"])
    assert_same(tree.look_up("camera", "map", SECOND), T_map_camera.inverse())
    assert_same(tree.look_up("tool", "camera", SECOND), known["tool"].inverse() @ known["camera"])
    assert_same(tree.look_up("/tool", "tool", SECOND), SE3.identity(dtype=torch.float64))


def test_between_two_samples_the_motion_is_uniform() -> None:
    tree = TransformTree(10.0)
    start, turn = random_transform(4), torch.tensor([0.0, 0.0, 0.9], dtype=torch.float64)
    spin = SE3.exp(torch.cat((torch.zeros(3, dtype=torch.float64), turn)))
    end = SE3((start @ spin).quat_xyzw, start.translation + 2.0)
    insert(tree, ("map", "base"), 0, start)
    # The other quaternion of the same rotation: the shortest arc is taken.
    assert tree.insert(("map", "base"), SECOND, (-end.quat_xyzw).tolist(), end.translation.tolist())
    part = SE3.exp(torch.cat((torch.zeros(3, dtype=torch.float64), 0.25 * turn)))
    expected = SE3((start @ part).quat_xyzw, start.translation + 0.5)
    assert_same(tree.look_up("map", "base", SECOND // 4), expected)
    assert_same(tree.look_up("map", "base", SECOND), end)


@pytest.mark.parametrize(
    ("target", "source", "stamp_ns", "why"),
    [
        ("map", "nowhere", SECOND, "does not know the frame 'nowhere'"),
        ("map", "camera", SECOND + 1, "'base' is known from 1000000000 to 1000000000 ns only"),
        ("map", "camera", SECOND - 1, "only"),
        ("map", "island", SECOND, "not in one tree"),
    ],
)
def test_what_is_not_known_is_an_error_that_says_why(target: str, source: str, stamp_ns: int, why: str) -> None:
    tree, known = robot_tree()
    insert(tree, ("sea", "island"), 0, known["base"], static=True)
    with pytest.raises(MissingTransformError, match=why):
        tree.look_up(target, source, stamp_ns)


def test_a_loop_is_an_error() -> None:
    tree = TransformTree(10.0)
    insert(tree, ("a", "b"), 0, random_transform(1), static=True)
    insert(tree, ("b", "a"), 0, random_transform(2), static=True)
    insert(tree, ("c", "d"), 0, random_transform(2), static=True)
    with pytest.raises(MissingTransformError, match="above itself"):
        tree.look_up("d", "a", 0)


@pytest.mark.parametrize(
    ("frames", "quat", "translation"),
    [
        (("", "b"), (0, 0, 0, 1), (0, 0, 0)),
        (("a", ""), (0, 0, 0, 1), (0, 0, 0)),
        (("a", "/a"), (0, 0, 0, 1), (0, 0, 0)),
        (("a", "b"), (0, 0, 0, 0), (0, 0, 0)),
        (("a", "b"), (0, 0, 0, 2), (0, 0, 0)),
        (("a", "b"), (0, 0, math.nan, 1), (0, 0, 0)),
        (("a", "b"), (0, 0, 0, 1), (0, math.inf, 0)),
    ],
)
def test_unusable_transforms_are_left_out(frames: Any, quat: Any, translation: Any) -> None:
    tree = TransformTree(10.0)
    assert not tree.insert(frames, 0, quat, translation)
    with pytest.raises(MissingTransformError):
        tree.look_up("a", "b", 0)


def test_old_samples_are_forgotten_and_a_clock_set_back_starts_anew() -> None:
    tree = TransformTree(2.0)
    for second in range(100, 105):
        insert(tree, ("map", "base"), second * SECOND, random_transform(second))
    tree.look_up("map", "base", 102 * SECOND)
    with pytest.raises(MissingTransformError, match="from 102000000000"):
        tree.look_up("map", "base", 101 * SECOND)
    insert(tree, ("map", "base"), 5 * SECOND, random_transform(5))
    assert_same(tree.look_up("map", "base", 5 * SECOND), random_transform(5))


def test_it_agrees_with_tf2() -> None:
    tf2_ros = pytest.importorskip("tf2_ros", reason="tf2_ros is not installed")
    messages, times = importlib.import_module("geometry_msgs.msg"), importlib.import_module("rclpy.time")
    tree, buffer = TransformTree(10.0), tf2_ros.Buffer()
    links = [("map", "base", False), ("base", "arm", False), ("arm", "tool", False), ("base", "camera", True)]
    for number, (parent, child, static) in enumerate(links):
        for step in range(1 if static else 5):
            T = random_transform(10 * number + step)
            insert(tree, (parent, child), step * SECOND, T, static=static)
            message = messages.TransformStamped(child_frame_id=child)
            message.header.frame_id, message.header.stamp.sec = parent, step
            t, q = message.transform.translation, message.transform.rotation
            t.x, t.y, t.z = T.translation.tolist()
            q.x, q.y, q.z, q.w = T.quat_xyzw.tolist()
            (buffer.set_transform_static if static else buffer.set_transform)(message, "test")
    for target, source in (("map", "tool"), ("tool", "camera"), ("camera", "map")):
        for stamp_ns in (0, SECOND, 1_300_000_000, 3_999_999_999):
            found = buffer.lookup_transform(target, source, times.Time(nanoseconds=stamp_ns)).transform
            quat = torch.tensor([found.rotation.x, found.rotation.y, found.rotation.z, found.rotation.w])
            move = torch.tensor([found.translation.x, found.translation.y, found.translation.z])
            expected = SE3.from_quat_xyzw(quat.double(), move.double())
            torch.testing.assert_close(
                tree.look_up(target, source, stamp_ns).matrix(), expected.matrix(), atol=1e-6, rtol=0.0
            )
