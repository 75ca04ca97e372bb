"""Brings together the messages of several topics that belong to one image; knows stamps, not ROS."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

_SECOND_NS = 1_000_000_000
# A CameraInfo that came once counts for images that are further away than this.
_LATCHED_NS = _SECOND_NS


class Synchronizer:
    """Finds messages, one of each role, whose stamps lie within a slop of each other.

    A message belongs to one result at most, with one exception: a camera that publishes its CameraInfo once, when
    it starts. As long as only one has come, it also serves images whose stamp is more than a second away from its
    own; from the second on each image waits for its own. Not safe from several threads at a time.

    Args:
        roles: that all must be there.
        queue: messages of each role that are kept while others are awaited; the oldest are dropped.
        slop_s: largest difference between the stamps of one result.
    """

    def __init__(self, roles: Collection[str], *, queue: int, slop_s: float) -> None:
        self._queue, self._slop_ns = queue, round(slop_s * _SECOND_NS)
        self._waiting: dict[str, dict[int, Any]] = {role: {} for role in roles}
        self._infos = 0
        self._info: tuple[int, Any] | None = None

    def add(self, role: str, stamp_ns: int, message: Any) -> dict[str, Any] | None:
        """Take a message.

        Args:
            role: one of those of the constructor.
            stamp_ns: of the message.
            message: any object.

        Returns:
            The messages that belong together, by role, if this one was the last of them.
        """
        mine = self._waiting[role]
        mine[stamp_ns] = message
        if len(mine) > self._queue:
            del mine[min(mine)]
        if role == "camera_info":
            self._infos += 1
            self._info = (stamp_ns, message)
        stamps = self._nearest_together(stamp_ns, list(self._waiting))
        if stamps is not None:
            return {name: self._waiting[name].pop(stamp) for name, stamp in stamps.items()}
        return self._with_latched_info(stamp_ns)

    def clear(self) -> None:
        """Drop what waits; a CameraInfo that came once is kept."""
        for waiting in self._waiting.values():
            waiting.clear()

    def _with_latched_info(self, stamp_ns: int) -> dict[str, Any] | None:
        if self._infos != 1 or self._info is None:
            return None
        info_ns, info = self._info
        others = [role for role in self._waiting if role != "camera_info"]
        # A CameraInfo that is the last to come serves the newest image that waits.
        pivots = [stamp_ns] if stamp_ns != info_ns else sorted(self._waiting["image"], reverse=True)
        for pivot in pivots:
            stamps = self._nearest_together(pivot, others)
            if stamps is not None and abs(stamps["image"] - info_ns) > _LATCHED_NS:
                found = {name: self._waiting[name].pop(stamp) for name, stamp in stamps.items()}
                return {role: info if role == "camera_info" else found[role] for role in self._waiting}
        return None

    def _nearest_together(self, stamp_ns: int, roles: Collection[str]) -> dict[str, int] | None:
        """One stamp of each role, all within the slop and that one among them: the nearest ones to it."""
        near = {
            role: [stamp for stamp in self._waiting[role] if abs(stamp - stamp_ns) <= self._slop_ns]
            for role in roles
        }
        if not all(near.values()):
            return None
        best: tuple[int, dict[str, int]] | None = None
        # Every set that fits lies in a window that begins at its earliest stamp.
        for start in {stamp for stamps in near.values() for stamp in stamps if stamp <= stamp_ns}:
            inside = {
                role: [stamp for stamp in stamps if start <= stamp <= start + self._slop_ns]
                for role, stamps in near.items()
            }
            if all(inside.values()):
                chosen = {
                    role: min(stamps, key=lambda stamp: (abs(stamp - stamp_ns), stamp))
                    for role, stamps in inside.items()
                }
                distance = sum(abs(stamp - stamp_ns) for stamp in chosen.values())
                if best is None or distance < best[0]:
                    best = distance, chosen
        return None if best is None else best[1]
