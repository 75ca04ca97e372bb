"""Grasps of an object as files in NVIDIA's isaac_grasp format, read and written; knows no ROS.

A grasp is where the gripper is in the frame of the object, so one that was found for a mesh of ours is good for
every later pose of the object: `T_base_gripper = T_base_object @ grasp.T_object_gripper`.

Programs write three dialects: with `object_frame` and `gripper_frame`, with `object_frame_link` and
`gripper_frame_link`, and without any name of a frame.

Source: "What is an Isaac Grasp file", Grasp Editor, documentation of Isaac Sim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from cupid_core.errors import InputError, UnreadableFileError
from cupid_core.files import write_text
from cupid_core.geometry.se3 import SE3

Dialect = Literal["frame", "frame_link", "bare"]
_KEYS: dict[Dialect, tuple[str, str]] = {
    "frame": ("object_frame", "gripper_frame"),
    "frame_link": ("object_frame_link", "gripper_frame_link"),
}
_FORMAT, _VERSION = "isaac_grasp", 1.0
# Quaternions are written with five digits by some programs.
_UNIT = 0.01


@dataclass(frozen=True, eq=False)
class Grasp:
    """One grasp.

    Attributes:
        name: unique in its file.
        T_object_gripper: the gripper in the frame of the object, metres, float64.
        confidence: 0 to 1 by custom; None where the file has none.
        joints: of the closed gripper, by name, rad or metres.
        open_joints: of the gripper before it closes.
    """

    name: str
    T_object_gripper: SE3
    confidence: float | None = None
    joints: Mapping[str, float] = field(default_factory=dict)
    open_joints: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class GraspFile:
    """The grasps of one object with one gripper.

    Attributes:
        grasps: in the order of the file.
        object_frame: name of the frame of the object; empty where the file has none.
        gripper_frame: name of the frame of the gripper; empty where the file has none.
        dialect: how the file names the frames.
    """

    grasps: Sequence[Grasp]
    object_frame: str = ""
    gripper_frame: str = ""
    dialect: Dialect = "frame"


def read_grasps(path: Path | str) -> GraspFile:
    """Read a file of any of the three dialects.

    Raises:
        UnreadableFileError: it is missing, no isaac_grasp file of version 1, or a grasp has no valid pose.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UnreadableFileError(
            f"{path} cannot be read: {error}.", hint="Give a YAML file with grasps."
        ) from error
    if not isinstance(data, dict) or data.get("format") != _FORMAT:
        raise UnreadableFileError(
            f"{path} does not say `format: {_FORMAT}`.", hint="Write it with the Grasp Editor or `write_grasps`."
        )
    version = _number(data.get("format_version", _VERSION), f"{path}: format_version")
    if version != _VERSION:
        raise UnreadableFileError(f"{path} has version {version}.", hint=f"Version {_VERSION} is read.")
    dialect: Dialect = next((name for name, keys in _KEYS.items() if set(keys) & data.keys()), "bare")
    names = [str(data.get(key) or "") for key in _KEYS.get(dialect, ())] or ["", ""]
    entries = data.get("grasps") or {}
    if not isinstance(entries, dict):
        raise UnreadableFileError(f"{path}: `grasps` is no mapping.", hint="Write `name: {position: ...}`.")
    grasps = [_grasp(str(name), entry, f"{path}: {name}") for name, entry in entries.items()]
    return GraspFile(tuple(grasps), names[0], names[1], dialect)


def write_grasps(path: Path | str, grasps: GraspFile) -> Path:
    """Write a file, atomically; `read_grasps` gives the same grasps back.

    Returns:
        The path.

    Raises:
        InputError: two grasps have the same name, a number is not finite, or frames are named in the dialect that
            has no place for them.
        OutputError: it cannot be written.
    """
    path = Path(path)
    if len({grasp.name for grasp in grasps.grasps}) != len(grasps.grasps):
        raise InputError("Two grasps have the same name.", hint="Give each a name of its own.")
    if grasps.dialect == "bare" and (grasps.object_frame or grasps.gripper_frame):
        raise InputError("The dialect 'bare' names no frames.", hint="Write 'frame' or 'frame_link', or no names.")
    names = dict(zip(_KEYS.get(grasps.dialect, ()), (grasps.object_frame, grasps.gripper_frame), strict=False))
    entries = {grasp.name: _entry(grasp) for grasp in grasps.grasps}
    data = {"format": _FORMAT, "format_version": _VERSION, **names, "grasps": entries}
    write_text(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=None))
    return path


def _grasp(name: str, entry: Any, where: str) -> Grasp:
    if not isinstance(entry, dict):
        raise UnreadableFileError(f"{where} is no mapping.", hint="Give position and orientation.")
    orientation = entry.get("orientation")
    if not isinstance(orientation, dict) or not {"w", "xyz"} <= orientation.keys():
        raise UnreadableFileError(f"{where} has no orientation.", hint="Write {w: W, xyz: [X, Y, Z]}.")
    xyz = _numbers(orientation["xyz"], f"{where}: xyz")
    quat_xyzw = [*xyz, _number(orientation["w"], f"{where}: w")]
    length = math.hypot(*quat_xyzw)
    if abs(length - 1.0) > _UNIT:
        raise UnreadableFileError(f"{where}: the quaternion has length {length:.3g}.", hint="Write a unit one.")
    position = _numbers(entry.get("position"), f"{where}: position")
    pose = SE3.from_quat_xyzw(*(torch.tensor(part, dtype=torch.float64) for part in (quat_xyzw, position)))
    confidence = entry.get("confidence")
    return Grasp(
        name,
        pose,
        None if confidence is None else _number(confidence, f"{where}: confidence"),
        _joints(entry.get("cspace_position"), f"{where}: cspace_position"),
        _joints(entry.get("pregrasp_cspace_position"), f"{where}: pregrasp_cspace_position"),
    )


def _entry(grasp: Grasp) -> dict[str, Any]:
    x, y, z, w = (float(value) for value in grasp.T_object_gripper.quat_xyzw)
    position = [float(value) for value in grasp.T_object_gripper.translation]
    joints, open_joints = ({k: float(v) for k, v in part.items()} for part in (grasp.joints, grasp.open_joints))
    confidence = [] if grasp.confidence is None else [float(grasp.confidence)]
    numbers = (x, y, z, w, *position, *confidence, *joints.values(), *open_joints.values())
    if not all(map(math.isfinite, numbers)):
        raise InputError(f"Grasp '{grasp.name[:40]}' has a number that is not finite.", hint="Leave it out.")
    return {
        **({"confidence": confidence[0]} if confidence else {}),
        "position": position,
        "orientation": {"w": w, "xyz": [x, y, z]},
        **({"cspace_position": joints} if joints else {}),
        **({"pregrasp_cspace_position": open_joints} if open_joints else {}),
    }


def _joints(values: Any, where: str) -> dict[str, float]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UnreadableFileError(f"{where} is no mapping.", hint="Write `joint: value`.")
    return {str(name): _number(value, f"{where}: {name}") for name, value in values.items()}


def _numbers(values: Any, where: str) -> list[float]:
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 3:
        raise UnreadableFileError(f"{where} is {values!r:.60}.", hint="Write three numbers.")
    return [_number(value, where) for value in values]


def _number(value: Any, where: str) -> float:
    """A finite number; also `1e-05`, which YAML 1.1 takes for a text and other programs write."""
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UnreadableFileError(f"{where} is {value!r:.60}.", hint="Write a finite number.")
    return number
