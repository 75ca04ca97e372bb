"""Which messages of a bag belong to one image: planned from their stamps before any is converted.

A recording is complete when it is read, so nothing has to be guessed from what came so far: detections may come
seconds after their image. Stamps alone do not always say what belongs together: a source that loops repeats them,
and some drivers leave them at zero. Then the order of recording decides where it is clear; where it is not, the
images are refused.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from cupid_core.errors import CupidError
from cupid_core.serving.frames import Stamped
from cupid_ros.bag_reader import RawMessage
from cupid_ros.errors import StampMismatchError

MATCHED = ("depth", "labels", "detections")
_SECOND_NS = 1_000_000_000
# Messages that wait for others of their image; a recording whose detections were appended as a whole needs more.
_MOST_WAITING_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Arrival:
    """A message of a bag without its content.

    Attributes:
        place: in the stream of all messages that are read.
        stamp_ns: of its header.
        time_ns: when it was recorded.
        digest: of its bytes.
    """

    place: int
    stamp_ns: int
    time_ns: int
    digest: int = 0

    @classmethod
    def of(cls, place: int, raw: RawMessage, stamped: Stamped) -> Arrival:
        """From a recorded message."""
        return cls(place, stamped.stamp_ns, raw.time_ns, zlib.crc32(raw.data))


@dataclass
class FramePlan:
    """What belongs together.

    Attributes:
        frames: for each image that is used, by role, the places of its messages, in the order of the images.
        warnings: how many images are left out or incomplete, and why.
        problems: images whose messages cannot be told apart.
    """

    frames: list[dict[str, int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[CupidError] = field(default_factory=list)


def plan_frames(arrivals: Mapping[str, Sequence[Arrival]], slop_s: float) -> FramePlan:
    """Find the messages of each image.

    Args:
        arrivals: messages of each role, in the order of recording; a role that the bag does not have is absent.
        slop_s: how far stamps may differ.
    """
    plan, slop_ns = FramePlan(), round(slop_s * _SECOND_NS)
    images = _without_repeats(arrivals.get("image", ()))
    roles = [role for role in MATCHED if role in arrivals]
    matches: dict[str, dict[int, int]] = {}
    unclear: set[int] = set()
    for role in roles:
        others = _without_repeats(arrivals[role])
        matches[role], refused = _match(images, others, slop_ns, derived=role != "depth")
        plan.problems += [_unclear(role, image) for image in images if image.place in refused - unclear]
        unclear |= refused
        if surplus := _surplus(images, others):
            plan.warnings.append(
                f"{surplus} {role} have the stamp of others for the same image; the first are used."
            )
    candidates = [image for image in images if image.place not in unclear]
    lacks = {
        image.place: tuple(role for role in roles if image.place not in matches[role]) for image in candidates
    }
    last_complete = max((place for place, roles_ in lacks.items() if not roles_), default=-1)
    counts: Counter[tuple[str, bool]] = Counter()
    for image in candidates:
        frame = {role: matches[role][image.place] for role in roles if image.place in matches[role]}
        # At the end of a recording that was cut off the rest of an image may be missing.
        used = not lacks[image.place] or (image.place > last_complete and frame.keys() - {"depth"} != set())
        if lacks[image.place]:
            counts[" and no ".join(lacks[image.place]), used] += 1
        if used:
            plan.frames.append({"image": image.place, **frame, **_nearest_info(image, arrivals)})
    plan.warnings += [
        f"{count} images {'are used though they have' if used else 'are left out: they have'} no {roles_} "
        f"within {slop_s:g} s of their stamp."
        for (roles_, used), count in counts.items()
    ]
    return plan


def collect(
    messages: Iterable[RawMessage], plan: FramePlan
) -> Iterator[tuple[RawMessage, dict[str, RawMessage] | CupidError | None]]:
    """Go through a bag and bring the messages of each frame together.

    Args:
        messages: all that were planned with, in the same order.
        plan: of these messages.

    Yields:
        Each message; with it each frame that is complete then, or why one cannot be. A message with which several
        frames are complete comes several times.
    """
    uses = Counter(place for frame in plan.frames for place in frame.values())
    waiting: dict[int, RawMessage] = {}
    size, number = 0, 0
    for place, raw in enumerate(messages):
        if place in uses:
            waiting[place] = raw
            size += len(raw.data)
        yield raw, None
        while number < len(plan.frames):
            frame = plan.frames[number]
            complete = all(part in waiting for part in frame.values())
            if not complete and size <= _MOST_WAITING_BYTES:
                break
            yield raw, {role: waiting[part] for role, part in frame.items()} if complete else _too_far_apart()
            number += 1
            uses.subtract(frame.values())
            for part in [part for part in frame.values() if not uses[part]]:
                del uses[part]
                if part in waiting:
                    size -= len(waiting.pop(part).data)


def _without_repeats(arrivals: Sequence[Arrival]) -> list[Arrival]:
    """Without messages that are the one before them, byte for byte: drivers and merged bags repeat them."""
    return [
        item
        for item, before in zip(arrivals, [None, *arrivals], strict=False)
        if before is None or (item.stamp_ns, item.digest) != (before.stamp_ns, before.digest)
    ]


def _match(
    images: Sequence[Arrival], others: Sequence[Arrival], slop_ns: int, *, derived: bool
) -> tuple[dict[int, int], set[int]]:
    """Place of an image -> place of its message, and places of images for which that is not clear.

    Args:
        images: in the order of recording.
        others: of one role, likewise.
        slop_ns: how far stamps may differ.
        derived: the messages are made from the images, so none is recorded before its image.
    """
    passes = _common_passes(images, others, slop_ns)
    if passes is None:
        return {}, {image.place for image in images} if others else set()
    found: dict[int, int] = {}
    unclear: set[int] = set()
    for some_images, some_others in passes:
        by_stamp, other_by_stamp = _by_stamp(some_images), _by_stamp(some_others)
        stamps, other_stamps = sorted(by_stamp), sorted(other_by_stamp)
        for stamp in stamps:
            other = _nearest(other_stamps, stamp)
            if other is None or abs(other - stamp) > slop_ns or _nearest(stamps, other) != stamp:
                continue
            pairs = _pairs(by_stamp[stamp], other_by_stamp[other], derived)
            if pairs is None:
                unclear |= {image.place for image in by_stamp[stamp]}
            else:
                found.update(pairs)
    return found, unclear


def _common_passes(
    images: Sequence[Arrival], others: Sequence[Arrival], slop_ns: int
) -> list[tuple[Sequence[Arrival], Sequence[Arrival]]] | None:
    """Images and others of each pass of a looped source; None where it is not clear which passes they are of."""
    image_passes, other_passes = _passes(images), _passes(others)
    if len(image_passes) == len(other_passes):
        return list(zip(image_passes, other_passes, strict=True))
    # Passes do not matter where no stamp comes in two of them.
    stamps = sorted((image.stamp_ns, number) for number, part in enumerate(image_passes) for image in part)
    if any(later[0] - stamp[0] <= slop_ns and stamp[1] != later[1] for stamp, later in pairwise(stamps)):
        return None
    return [(images, others)]


def _pairs(images: Sequence[Arrival], others: Sequence[Arrival], derived: bool) -> dict[int, int] | None:
    """Images and messages of one stamp, in the order of recording; None where that order leaves a doubt."""
    if len(images) == 1:
        return {images[0].place: others[0].place}
    if len(images) != len(others):
        return None
    for number, (image, other) in enumerate(zip(images, others, strict=True)):
        if derived and other.time_ns < image.time_ns:
            return None
        away = 2 * abs(other.time_ns - image.time_ns)
        for rivals, one in ((others, image), (images, other)):
            if any(away > abs(rival.time_ns - one.time_ns) for k, rival in enumerate(rivals) if k != number):
                return None
    return {image.place: other.place for image, other in zip(images, others, strict=True)}


def _passes(arrivals: Sequence[Arrival]) -> list[list[Arrival]]:
    """Parts between which the stamps jump back by more than a second: a looped source, or a clock that was set."""
    passes: list[list[Arrival]] = [[]]
    for item in arrivals:
        if passes[-1] and item.stamp_ns < passes[-1][-1].stamp_ns - _SECOND_NS:
            passes.append([])
        passes[-1].append(item)
    return passes


def _by_stamp(arrivals: Sequence[Arrival]) -> dict[int, list[Arrival]]:
    found: dict[int, list[Arrival]] = defaultdict(list)
    for item in arrivals:
        found[item.stamp_ns].append(item)
    return found


def _nearest(stamps: Sequence[int], stamp: int) -> int | None:
    """The nearest of sorted stamps, the earlier of two; None where there is none."""
    place = bisect_left(stamps, stamp)
    return min(stamps[max(place - 1, 0) : place + 1], key=lambda other: (abs(other - stamp), other), default=None)


def _nearest_info(image: Arrival, arrivals: Mapping[str, Sequence[Arrival]]) -> dict[str, int]:
    """The CameraInfo that is nearest in stamp, then in time; however far, because some cameras send it once."""
    nearest = min(
        arrivals.get("camera_info", ()),
        key=lambda info: (abs(info.stamp_ns - image.stamp_ns), abs(info.time_ns - image.time_ns)),
        default=None,
    )
    return {} if nearest is None else {"camera_info": nearest.place}


def _surplus(images: Sequence[Arrival], others: Sequence[Arrival]) -> int:
    """How many messages have the stamp of one before them, where only one image has it."""
    counts = Counter(image.stamp_ns for image in images)
    return sum(len(same) - 1 for stamp, same in _by_stamp(others).items() if counts[stamp] == 1)


def _unclear(role: str, image: Arrival) -> StampMismatchError:
    return StampMismatchError(
        f"Stamps start again or repeat, and it is not clear which {role} belong to the image with the stamp "
        f"{image.stamp_ns / _SECOND_NS:.9f} s.",
        hint="Record with header stamps that are set and do not start again.",
    )


def _too_far_apart() -> StampMismatchError:
    return StampMismatchError(
        f"The messages of an image are more than {_MOST_WAITING_BYTES / 2**30:g} GiB of other messages apart.",
        hint="Write a bag in which they follow their image.",
    )
