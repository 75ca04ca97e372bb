"""Grasps as isaac_grasp files: every dialect is read and comes back, and what is no grasp is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cupid_core.errors import InputError, OutputError, UnreadableFileError
from cupid_core.geometry.se3 import SE3
from cupid_ros.isaac_grasp import Dialect, Grasp, GraspFile, read_grasps, write_grasps

# As the Grasp Editor of Isaac Sim, Isaac Manipulator and GraspGen write them.
TEXTS: dict[Dialect, str] = {
    "frame_link": "object_frame_link: /World/mug\ngripper_frame_link: /World/panda_hand",
    "frame": "object_frame: /World/mug\ngripper_frame: /World/panda_hand",
    "bare": "",
}
GRASPS = """
grasps:
  grasp_0:
    confidence: 0.95
    position: [-0.04346, 0.06759, 0.19895]
    orientation: {w: 0.00332, xyz: [0.98453, 0.16837, 0.04837]}
    cspace_position: {panda_finger_joint1: 0.00943}
    pregrasp_cspace_position: {panda_finger_joint1: 0.04}
  grasp_1:
    position: [1e-05, 0, 1]
    orientation: {w: 1.0, xyz: [0.0, 0.0, 0.0]}
"""


def write(path: Path, text: str) -> Path:
    path.write_text(f"format: isaac_grasp\nformat_version: 1.0\n{text}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("dialect", list(TEXTS))
def test_every_dialect_is_read_and_written(tmp_path: Path, dialect: Dialect) -> None:
    read = read_grasps(write(tmp_path / "in.yaml", TEXTS[dialect] + GRASPS))
    assert (read.dialect, read.object_frame) == (dialect, "" if dialect == "bare" else "/World/mug")
    first, second = read.grasps
    assert (first.name, first.confidence, second.confidence) == ("grasp_0", 0.95, None)
    assert first.joints == {"panda_finger_joint1": 0.00943} and first.open_joints == {"panda_finger_joint1": 0.04}
    # Where the file says the gripper is, in the frame of the object: approach along its own z, from above.
    np.testing.assert_allclose(
        first.T_object_gripper.apply(torch.zeros(3, dtype=torch.float64)), [-0.04346, 0.06759, 0.19895]
    )
    approach = first.T_object_gripper.rotation()[:, 2]
    np.testing.assert_allclose(approach, [0.0964, 0.0098, -0.9953], atol=2e-3)
    np.testing.assert_allclose(second.T_object_gripper.translation, [1e-5, 0.0, 1.0])
    again = read_grasps(write_grasps(tmp_path / "out.yaml", read))
    assert (again.dialect, again.object_frame, again.gripper_frame) == (
        read.dialect, read.object_frame, read.gripper_frame,
    )  # fmt: skip
    for one, other in zip(read.grasps, again.grasps, strict=True):
        assert (one.name, one.confidence, one.joints, one.open_joints) == (
            other.name, other.confidence, other.joints, other.open_joints,
        )  # fmt: skip
        np.testing.assert_allclose(one.T_object_gripper.matrix(), other.T_object_gripper.matrix(), atol=1e-14)
    keys = set(yaml.safe_load((tmp_path / "out.yaml").read_text())) - {"format", "format_version", "grasps"}
    assert keys == {line.split(":")[0] for line in TEXTS[dialect].splitlines()}


numbers = st.floats(-1e3, 1e3)


@given(
    quat=st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: math.hypot(*q) > 0.1), place=st.tuples(*[numbers] * 3)
)
@settings(max_examples=40, deadline=None)
def test_poses_round_trip(tmp_path_factory: pytest.TempPathFactory, quat: Any, place: Any) -> None:
    pose = SE3.from_quat_xyzw(*(torch.tensor(part, dtype=torch.float64) for part in (quat, place)))
    path = tmp_path_factory.mktemp("grasp") / "g.yaml"
    (back,) = read_grasps(write_grasps(path, GraspFile([Grasp("a", pose, 1.0)]))).grasps
    np.testing.assert_allclose(back.T_object_gripper.matrix(), pose.matrix(), atol=1e-12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grasps: {a: {position: [0, 0], orientation: {w: 1, xyz: [0, 0, 0]}}}", "a: position"),
        ("grasps: {a: {position: [0, 0, .nan], orientation: {w: 1, xyz: [0, 0, 0]}}}", "nan"),
        ("grasps: {a: {position: [0, 0, 0], orientation: {w: 2, xyz: [0, 0, 0]}}}", "length 2"),
        ("grasps: {a: {position: [0, 0, 0], orientation: {w: 0, xyz: [0, 0, 0]}}}", "length 0"),
        ("grasps: {a: {position: [0, 0, 0], orientation: [1, 0, 0, 0]}}", "no orientation"),
        ("grasps: {a: {position: [0, 0, 0]}}", "no orientation"),
        ("grasps: {a: {position: abc, orientation: {w: 1, xyz: [0, 0, 0]}}}", "abc"),
        ("grasps: {a: 3}", "a is no mapping"),
        ("grasps: [1]", "no mapping"),
        ("format_version: 2.0", "version 2"),
        ("format: something", "format: isaac_grasp"),
        ("grasps: {a: {position: [true, 0, 0], orientation: {w: 1, xyz: [0, 0, 0]}}}", "True"),
        ("a: [", "cannot be read"),
    ],
)
def test_what_is_no_grasp_is_refused_and_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UnreadableFileError, match=words) as caught:
        read_grasps(write(tmp_path / "in.yaml", text))
    assert "in.yaml" in str(caught.value) and caught.value.hint


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    pose = SE3.identity(dtype=torch.float64)
    path = tmp_path / "out.yaml"
    for grasps, words in (
        (GraspFile([Grasp("a", pose), Grasp("a", pose)]), "same name"),
        (GraspFile([Grasp("a", pose, math.nan)]), "not finite"),
        (GraspFile([], "mug", "hand", "bare"), "names no frames"),
    ):
        with pytest.raises(InputError, match=words):
            write_grasps(path, grasps)
    assert not path.exists()
    with pytest.raises(OutputError):
        write_grasps(tmp_path, GraspFile([]))
    with pytest.raises(UnreadableFileError):
        read_grasps(tmp_path / "absent.yaml")
