"""A small TF tree: histories of transforms between frames, and the transform between two frames at a time.

Used where tf2_ros is not installed; knows no ROS. Covers what the node asks for: look-ups at a given time, without
waiting and without extrapolation.
"""

from __future__ import annotations

import bisect
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from cupid_core.geometry import so3
from cupid_core.geometry.se3 import SE3
from cupid_ros.errors import MissingTransformError

_SECOND_NS = 1_000_000_000
_HINT = "Publish the camera on TF at the stamps of its images; the objects are on /cupid/objects."
# A quaternion whose length differs from 1 by more is no rotation; tf2 has the same limit.
_LENGTH_TOLERANCE = 0.01


@dataclass(frozen=True)
class _Sample:
    """T_parent_child; plain numbers, because many more come than are asked for."""

    parent: str
    quat_xyzw: tuple[float, ...]
    translation: tuple[float, ...]

    def transform(self) -> SE3:
        return SE3.from_quat_xyzw(
            torch.tensor(self.quat_xyzw, dtype=torch.float64), torch.tensor(self.translation, dtype=torch.float64)
        )


@dataclass
class _History:
    """Samples of one child frame in the order of their stamps; a static frame has one, valid at any time."""

    static: bool
    stamps_ns: list[int] = field(default_factory=list)
    samples: list[_Sample] = field(default_factory=list)


class TransformTree:
    """Transforms between frames; safe from any thread.

    Args:
        memory_s: how long samples are kept, counted from the newest of a frame.
    """

    def __init__(self, memory_s: float) -> None:
        self._memory_ns = round(memory_s * _SECOND_NS)
        self._lock = threading.Lock()
        self._histories: dict[str, _History] = {}

    def insert(
        self,
        frames: tuple[str, str],
        stamp_ns: int,
        quat_xyzw: Sequence[float],
        translation: Sequence[float],
        *,
        static: bool = False,
    ) -> bool:
        """Take T_parent_child.

        Args:
            frames: parent and child.
            stamp_ns: at which it is valid; without meaning where it is static.
            quat_xyzw: (4,) rotation.
            translation: (3,) metres.
            static: it is valid at any time.

        Returns:
            False where it was left out: an empty name, a frame in itself, a number that is not finite, or a
            quaternion that is not of unit length.
        """
        parent, child = (name.lstrip("/") for name in frames)
        sample = _Sample(parent, tuple(map(float, quat_xyzw)), tuple(map(float, translation)))
        length = math.hypot(*sample.quat_xyzw)
        if not parent or not child or parent == child or not math.isfinite(sum(sample.translation)):
            return False
        if not abs(length - 1.0) <= _LENGTH_TOLERANCE:
            return False
        with self._lock:
            history = self._histories.get(child)
            if history is None or history.static != static:
                history = self._histories[child] = _History(static)
            if static:
                history.stamps_ns, history.samples = [0], [sample]
            else:
                self._insert(history, stamp_ns, sample)
        return True

    def look_up(self, target: str, source: str, stamp_ns: int) -> SE3:
        """T_target_source at a time, float64; between two samples it is interpolated.

        Raises:
            MissingTransformError: a frame is unknown, the frames are not connected, or not at that time.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        with self._lock:
            parents = {sample.parent for history in self._histories.values() for sample in history.samples}
            for name in (target, source):
                if name not in self._histories and name not in parents:
                    raise MissingTransformError(f"TF does not know the frame '{name}'.", hint=_HINT)
            above_source, problem = self._ancestors(source, stamp_ns)
            above_target, other_problem = self._ancestors(target, stamp_ns)
        for name, T_name_source in above_source.items():
            if name in above_target:
                return above_target[name].inverse() @ T_name_source
        why = problem or other_problem or "They are not in one tree."
        raise MissingTransformError(
            f"No transform from '{source}' to '{target}' at {stamp_ns} ns: {why}", hint=_HINT
        )

    def _insert(self, history: _History, stamp_ns: int, sample: _Sample) -> None:
        if history.stamps_ns and stamp_ns < history.stamps_ns[-1] - self._memory_ns:
            # A bag that starts again, or a clock that was set: what is known belongs to another time.
            history.stamps_ns.clear()
            history.samples.clear()
        at = bisect.bisect_left(history.stamps_ns, stamp_ns)
        if at < len(history.stamps_ns) and history.stamps_ns[at] == stamp_ns:
            history.samples[at] = sample
        else:
            history.stamps_ns.insert(at, stamp_ns)
            history.samples.insert(at, sample)
        old = bisect.bisect_left(history.stamps_ns, history.stamps_ns[-1] - self._memory_ns)
        del history.stamps_ns[:old], history.samples[:old]

    def _ancestors(self, frame: str, stamp_ns: int) -> tuple[dict[str, SE3], str]:
        """T_ancestor_frame of the frame itself and all above it, and why there are no more."""
        T_ancestor_frame = SE3.identity(dtype=torch.float64)
        found = {frame: T_ancestor_frame}
        while (history := self._histories.get(frame)) is not None:
            step = _at(history, stamp_ns)
            if isinstance(step, str):
                return found, f"'{frame}' is known {step}."
            parent, T_parent_child = step
            if parent in found:
                return found, f"'{parent}' is above itself."
            T_ancestor_frame = T_parent_child @ T_ancestor_frame
            found[parent] = T_ancestor_frame
            frame = parent
        return found, ""


def _at(history: _History, stamp_ns: int) -> tuple[str, SE3] | str:
    """Parent and T_parent_child at a time, or when it is known instead."""
    stamps, samples = history.stamps_ns, history.samples
    if history.static:
        return samples[0].parent, samples[0].transform()
    after = bisect.bisect_left(stamps, stamp_ns)
    if after < len(stamps) and stamps[after] == stamp_ns:
        return samples[after].parent, samples[after].transform()
    if after in (0, len(stamps)):
        return f"from {stamps[0]} to {stamps[-1]} ns only"
    earlier, later = samples[after - 1], samples[after]
    if earlier.parent != later.parent:
        return earlier.parent, earlier.transform()
    share = (stamp_ns - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
    return earlier.parent, _between(earlier.transform(), later.transform(), share)


def _between(start: SE3, end: SE3, share: float) -> SE3:
    """Rotation along the shortest arc, and translation along the line, as tf2 interpolates."""
    turn = so3.log(so3.multiply(so3.conjugate(start.quat_xyzw), end.quat_xyzw))
    quat = so3.multiply(start.quat_xyzw, so3.exp(share * turn))
    return SE3.from_quat_xyzw(quat, start.translation + share * (end.translation - start.translation))
