"""Which object is which over images: ids that stay the same, by the detector's ids or by overlap and position."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cupid_core.config.ros import RosTrackingConfig
from cupid_core.errors import CupidError
from cupid_core.geometry.grid import box_of
from cupid_core.image.masks import Box
from cupid_core.serving.errors import InvalidDetectionError, NoObjectsError
from cupid_core.serving.frames import CameraFrame, Detection

# Numbers of objects whose id brings none: above what label images hold, 32-bit ones of simulators too.
_FIRST_OWN_NUMBER = 2**30
_LARGEST_NUMBER = 2**31 - 1
_SECOND_NS = 1_000_000_000
# A box and a label are of one object if so much of the label is inside the box, and covers so much of it.
_INSIDE = 0.5
_COVERED = 0.3


@dataclass(frozen=True)
class Target:
    """An object of an image, before it is reconstructed.

    Attributes:
        number: unique among the objects that are remembered; markers and label images carry it.
        id: as published.
        class_id: empty where it is unknown.
        score: None where there is none.
        box: prompt for the segmenter; None where its pixels are in the label image.
    """

    number: int
    id: str
    class_id: str = ""
    score: float | None = None
    box: Box | None = None


@dataclass
class ObjectTracker:
    """Assigns ids and numbers to objects, and remembers them.

    Attributes:
        config: when two detections are the same object, and how many objects are remembered.
    """

    config: RosTrackingConfig = field(default_factory=RosTrackingConfig)
    _numbers: OrderedDict[str, int] = field(default_factory=OrderedDict)
    _next: int = _FIRST_OWN_NUMBER
    _tracks: dict[int, tuple[Region, int]] = field(default_factory=dict)

    def targets(self, frame: CameraFrame) -> tuple[list[Target], dict[str, CupidError]]:
        """The objects of a frame, and why other detections are refused, by id.

        Detections keep the ids they bring. One without an id is the object of an earlier image that it overlaps,
        or that is nearest, or else a new one. Without detections every value of the label image is an object.
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
            number = self._number_of(item.id, item.number if item.labeled else None, used)
            labeled = item.labeled and number in known and number == item.number
            target = _target(item, item.id, number, labeled=labeled)
            if target is None:
                why = f"no pixel of the label image is {item.number}"
                if item.number in known:
                    why = f"label {item.number} is that of another object"
                refused[item.id] = NoObjectsError(
                    f"Object '{item.id[:40]}' has no box, and {why}.",
                    hint="Send a box, or labels with the number of the id.",
                )
                continue
            used.add(number)
            targets.append(target)
        without_id = [item for item in frame.detections if not item.id]
        targets += self._associated(frame, without_id)
        return targets, refused

    def clear(self) -> None:
        """Forget everything."""
        self._numbers.clear()
        self._tracks.clear()

    def _number_of(self, id_: str, wanted: int | None, used: set[int]) -> int:
        """The number of an id, the same every time: the one at its end if it is free, else a number of our own."""
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
        self._next = self._next + 1 if self._next < _LARGEST_NUMBER else _FIRST_OWN_NUMBER
        return self._next

    def _associated(self, frame: CameraFrame, without_id: list[Detection]) -> list[Target]:
        """Detections without an id, as objects of earlier images or new ones."""
        now = frame.stamped.stamp_ns
        limit = self.config.forget_s * _SECOND_NS
        # Stamps jump back when a bag starts again: older tracks are then in the future, and are dropped too.
        self._tracks = {number: track for number, track in self._tracks.items() if 0 <= now - track[1] <= limit}
        regions = [region_of(item, frame.labels) for item in without_id]
        numbers = list(self._tracks)
        places = associate(
            [self._tracks[number][0] for number in numbers],
            regions,
            min_iou=self.config.min_iou,
            max_shift=self.config.max_shift,
        )
        targets: list[Target] = []
        for item, region, place in zip(without_id, regions, places, strict=True):
            number = self._new_number() if place is None else numbers[place]
            self._tracks[number] = (region, now)
            targets.append(Target(number, str(number), item.class_id, item.score, item.box))
        return targets


def check_labels(
    detections: Sequence[Detection], labels: NDArray[np.int32] | None
) -> tuple[tuple[Detection, ...], list[CupidError]]:
    """Whether the numbers of ids name the pixels that the boxes mean.

    Ids of a tracker may end in digits that have nothing to do with the label image. A detection whose box is
    elsewhere than the label of its number is marked as not labeled, so that its box counts.

    Args:
        detections: of an image.
        labels: (H, W) int32 of the same image; None without.

    Returns:
        The detections, and an error for each that is not labeled.
    """
    if labels is None:
        return tuple(detections), []
    known = set(_values(labels))
    shares = {
        place: _shares(labels, item.box)
        for place, item in enumerate(detections)
        if item.number in known and item.box is not None
    }
    fitting = {place: {value for value, share in found.items() if _fits(share)} for place, found in shares.items()}
    claimed = {detections[place].number for place, values in fitting.items() if detections[place].number in values}
    checked, errors = list(detections), list[CupidError]()
    for place, item in ((place, detections[place]) for place in shares):
        inside, _ = shares[place].get(item.number or 0, (0.0, 0.0))
        # Mostly hidden objects cover little of their box; then the box must not be better filled by a free label.
        if item.number in fitting[place] or (inside >= _INSIDE and not fitting[place] - claimed):
            continue
        checked[place] = replace(item, labeled=False)
        errors.append(
            InvalidDetectionError(
                f"The box of detection '{item.id[:40]}' is elsewhere than label {item.number}; the box is used.",
                hint="Let ids end in the number that the label image has, or in no number.",
            )
        )
    return tuple(checked), errors


def _shares(labels: NDArray[np.int32], box: Box) -> dict[int, tuple[float, float]]:
    """Of each label in a box: share of its pixels inside, and share of the box that the extent of these covers."""
    height, width = labels.shape
    x0, y0 = max(int(box[0]) - 1, 0), max(int(box[1]) - 1, 0)
    part = labels[y0 : min(int(box[3]) + 2, height), x0 : min(int(box[2]) + 2, width)]
    found: dict[int, tuple[float, float]] = {}
    for value in _values(part):
        u0, v0, u1, v1 = box_of(part == value) or (0, 0, 0, 0)
        inside = np.count_nonzero(part == value) / np.count_nonzero(labels == value)
        found[value] = inside, (u1 - u0) * (v1 - v0) / max((box[2] - box[0]) * (box[3] - box[1]), 1.0)
    return found


def _fits(share: tuple[float, float]) -> bool:
    inside, covered = share
    return inside >= _INSIDE and covered >= _COVERED


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


def _target(item: Detection, id_: str, number: int, *, labeled: bool) -> Target | None:
    if labeled:
        return Target(number, id_, item.class_id, item.score)
    return None if item.box is None else Target(number, id_, item.class_id, item.score, item.box)


@dataclass(frozen=True, eq=False)
class Region:
    """Where an object is in an image.

    Attributes:
        box: x0, y0, x1, y1 in pixels, far edges excluded.
        mask: (H, W) bool; None where only the box is known.
    """

    box: Box
    mask: NDArray[np.bool_] | None = None

    @property
    def size(self) -> float:
        """Longer side of the box, pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @property
    def center(self) -> tuple[float, float]:
        """Middle of the box, pixels."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


def overlap(first: Region, second: Region) -> float:
    """Intersection over union, of masks where both have one of the same size, else of boxes; 0 to 1."""
    if first.mask is not None and second.mask is not None and first.mask.shape == second.mask.shape:
        union = int((first.mask | second.mask).sum())
        return int((first.mask & second.mask).sum()) / union if union else 0.0
    x0, y0, x1, y1 = first.box
    u0, v0, u1, v1 = second.box
    common = max(0.0, min(x1, u1) - max(x0, u0)) * max(0.0, min(y1, v1) - max(y0, v0))
    total = (x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - common
    return common / total if total > 0 else 0.0


def shift(first: Region, second: Region) -> float:
    """Distance of the centers as a share of the larger object's size; infinite for regions without size."""
    size = max(first.size, second.size)
    (x, y), (u, v) = first.center, second.center
    return float(np.hypot(x - u, y - v)) / size if size > 0 else float("inf")


def associate(
    earlier: Sequence[Region], now: Sequence[Region], *, min_iou: float, max_shift: float
) -> list[int | None]:
    """For each region its index in the earlier image, each index at most once.

    Pairs that overlap by `min_iou` come first, the best first; then those of the rest whose centers are nearest,
    up to `max_shift` and only between regions whose sizes differ by less than a factor of two.

    Args:
        earlier: regions of the earlier image.
        now: regions of this image.
        min_iou: smallest overlap.
        max_shift: largest shift, see `shift`; 0 uses overlap only.

    Returns:
        For each of `now` the index in `earlier`, or None for one that is new.
    """
    pairs: list[tuple[int, float, int, int]] = []
    for i, region in enumerate(now):
        for j, other in enumerate(earlier):
            iou, moved = overlap(region, other), shift(region, other)
            alike = 0.5 < region.size / other.size < 2.0 if other.size > 0 else False
            if iou >= min_iou:
                pairs.append((0, -iou, i, j))
            elif moved <= max_shift and alike:
                pairs.append((1, moved, i, j))
    found: list[int | None] = [None] * len(now)
    taken: set[int] = set()
    for _, _, i, j in sorted(pairs):
        if found[i] is None and j not in taken:
            found[i] = j
            taken.add(j)
    return found
