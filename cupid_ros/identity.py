"""Ids of objects that stay the same over images; knows detections and label images, not what is done with them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cupid_core.config.ros import RosTrackingConfig
from cupid_core.errors import CupidError
from cupid_core.geometry.grid import box_of
from cupid_core.image.masks import Box
from cupid_core.scene.association import Region, associate
from cupid_ros.convert.detections import Detection
from cupid_ros.errors import InvalidDetectionError, NoObjectsError
from cupid_ros.intake import CameraFrame

# Above every value of a 16-bit label image.
_FIRST_OWN_NUMBER = 100_000
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Target:
    """An object of an image, before it is reconstructed.

    Attributes:
        number: unique among the objects that are remembered; markers and label images carry it.
        id: what everybody calls it.
        class_id: empty where it is unknown.
        score: None where there is none.
        box: to segment it by; None where its pixels stand in the label image.
    """

    number: int
    id: str
    class_id: str = ""
    score: float | None = None
    box: Box | None = None


@dataclass
class Identities:
    """Gives objects their ids and numbers, and remembers them.

    Attributes:
        config: when it is the same object, and how many are remembered.
    """

    config: RosTrackingConfig = field(default_factory=RosTrackingConfig)
    _numbers: OrderedDict[str, int] = field(default_factory=OrderedDict)
    _next: int = _FIRST_OWN_NUMBER
    _tracks: dict[int, tuple[Region, int]] = field(default_factory=dict)

    def targets(self, frame: CameraFrame) -> tuple[list[Target], dict[str, CupidError]]:
        """The objects of a frame, and why others are none, by id.

        Detections keep the ids they bring. One without an id is the object of an earlier image that it overlaps,
        or is nearest to, or else a new one. Without any detection every value of the label image is an object.
        """
        known = _values(frame.labels)
        if not frame.detections:
            return [Target(value, str(value)) for value in known], {}
        targets: list[Target] = []
        refused: dict[str, CupidError] = {}
        used: set[int] = set()
        for item in (item for item in frame.detections if item.id):
            if item.id in {target.id for target in targets}:
                refused[item.id] = InvalidDetectionError(
                    f"Two detections have the id '{item.id[:40]}'.", hint="Give every object an id of its own."
                )
                continue
            number = self._number_of(item.id, item.number, used)
            target = _target(item, item.id, number, labelled=number in known and number == item.number)
            if target is None:
                refused[item.id] = NoObjectsError(
                    f"Object '{item.id[:40]}' has no box, and no pixel of the label image is {item.number}.",
                    hint="Send a box, or labels with the number of the id.",
                )
                continue
            used.add(number)
            targets.append(target)
        nameless = [item for item in frame.detections if not item.id]
        targets += self._followed(frame, nameless)
        return targets, refused

    def clear(self) -> None:
        """Forget everything."""
        self._numbers.clear()
        self._tracks.clear()

    def _number_of(self, id_: str, wanted: int | None, used: set[int]) -> int:
        """The number of an id: the one at its end if it is free, else one of ours; the same every time."""
        if id_ in self._numbers and self._numbers[id_] not in used:
            self._numbers.move_to_end(id_)
            return self._numbers[id_]
        free = wanted is not None and wanted not in used and wanted not in self._numbers.values()
        number = wanted if free and wanted is not None and wanted < _FIRST_OWN_NUMBER else self._new_number()
        self._numbers[id_] = number
        while len(self._numbers) > self.config.remember:
            self._numbers.popitem(last=False)
        return number

    def _new_number(self) -> int:
        self._next = self._next + 1 if self._next < 2**31 - 1 else _FIRST_OWN_NUMBER
        return self._next

    def _followed(self, frame: CameraFrame, nameless: list[Detection]) -> list[Target]:
        """Detections without an id, as objects of earlier images or new ones."""
        now = frame.stamped.stamp_ns
        limit = self.config.forget_s * _SECOND_NS
        # A clock that jumps back (a bag that starts again) makes a new world.
        self._tracks = {number: track for number, track in self._tracks.items() if 0 <= now - track[1] <= limit}
        regions = [region_of(item, frame.labels) for item in nameless]
        numbers = list(self._tracks)
        places = associate(
            [self._tracks[number][0] for number in numbers],
            regions,
            min_iou=self.config.min_iou,
            max_shift=self.config.max_shift,
        )
        targets: list[Target] = []
        for item, region, place in zip(nameless, regions, places, strict=True):
            number = self._new_number() if place is None else numbers[place]
            self._tracks[number] = (region, now)
            targets.append(Target(number, str(number), item.class_id, item.score, item.box))
        return targets


def region_of(item: Detection, labels: NDArray[np.int32] | None) -> Region:
    """Where a detection is: the label that fills most of its box, if there is any, else the box.

    Raises:
        InvalidDetectionError: it has no box.
    """
    if item.box is None:
        raise InvalidDetectionError("A detection has neither a box nor an id.", hint="Send one of them.")
    if labels is None:
        return Region(item.box)
    height, width = labels.shape
    x0, y0 = max(int(item.box[0]), 0), max(int(item.box[1]), 0)
    inside = labels[y0 : min(int(item.box[3]) + 1, height), x0 : min(int(item.box[2]) + 1, width)]
    values, counts = np.unique(inside[inside > 0], return_counts=True)
    if not len(values):
        return Region(item.box)
    mask = labels == values[counts.argmax()]
    box = box_of(mask)
    assert box is not None, "the label was counted in this image"
    return Region(box, mask)


def _values(labels: NDArray[np.int32] | None) -> list[int]:
    return [] if labels is None else [int(value) for value in np.unique(labels) if value > 0]


def _target(item: Detection, id_: str, number: int, *, labelled: bool) -> Target | None:
    if labelled:
        return Target(number, id_, item.class_id, item.score)
    return None if item.box is None else Target(number, id_, item.class_id, item.score, item.box)
