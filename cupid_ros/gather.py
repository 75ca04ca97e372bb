"""Brings the messages of a bag together that belong to one image; knows stamps and roles, not contents."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from typing import Any

from cupid_ros.convert.header import read_header
from cupid_ros.intake import FrameMessages

_SECOND_NS = 1_000_000_000
_KEPT = 64


class Gather:
    """Collects messages until all that belong to an image are there.

    Args:
        roles: those the bag has, among image, camera_info, depth, labels, detections.
        slop_s: how far stamps may differ.
    """

    def __init__(self, roles: Collection[str], slop_s: float) -> None:
        self._roles = [role for role in ("depth", "labels", "detections") if role in roles]
        self._needs_info = "camera_info" in roles
        self._slop_ns = round(slop_s * _SECOND_NS)
        self._info: Any | None = None
        self._images: deque[tuple[int, int, Any]] = deque(maxlen=_KEPT)
        self._others: dict[str, deque[tuple[int, Any]]] = {role: deque(maxlen=_KEPT) for role in self._roles}
        self.dropped = 0

    def add(self, role: str, message: Any, time_ns: int) -> Iterator[tuple[FrameMessages, int]]:
        """Take a message.

        Args:
            role: what it is.
            message: decoded.
            time_ns: when it was recorded.

        Yields:
            What is complete now, with the time at which its image was recorded.

        Raises:
            InvalidMessageError: its stamp is none.
        """
        stamp = read_header(message).stamp_ns
        if role == "camera_info":
            self._info = message
        elif role == "image":
            self.dropped += len(self._images) == _KEPT
            self._images.append((stamp, time_ns, message))
        else:
            self._others[role].append((stamp, message))
        yield from self._complete()

    def rest(self) -> Iterator[tuple[FrameMessages, int]]:
        """At the end: images that something is missing of, as far as something says where the objects are."""
        while self._images:
            stamp, time_ns, image = self._images.popleft()
            found = {role: self._near(role, stamp) for role in self._roles}
            if found.get("labels") is None and found.get("detections") is None:
                self.dropped += 1
                continue
            yield FrameMessages(image, self._info, **found), time_ns

    def _complete(self) -> Iterator[tuple[FrameMessages, int]]:
        for entry in list(self._images):
            stamp, time_ns, image = entry
            found = {role: self._near(role, stamp) for role in self._roles}
            if any(value is None for value in found.values()) or (self._needs_info and self._info is None):
                continue
            # Whatever is older than a complete frame will not be completed any more.
            while self._images[0] is not entry:
                self._images.popleft()
                self.dropped += 1
            self._images.popleft()
            yield FrameMessages(image, self._info, **found), time_ns

    def _near(self, role: str, stamp: int) -> Any | None:
        near = [(abs(other - stamp), index) for index, (other, _) in enumerate(self._others[role])]
        away, index = min(near, default=(self._slop_ns + 1, 0))
        return self._others[role][index][1] if away <= self._slop_ns else None
