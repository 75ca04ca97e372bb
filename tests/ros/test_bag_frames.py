"""Which messages of a bag belong together: laws over random recordings, late and repeated stamps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupid_core.errors import CupidError
from cupid_ros.bag_frames import Arrival, FramePlan, collect, plan_frames
from cupid_ros.bag_reader import RawMessage, Topic

MS, SECOND = 1_000_000, 1_000_000_000
Sent = list[tuple[int, str, int, int]]
"""(time of recording, role, stamp, content)."""


def plan_of(
    sent: Sent, slop_s: float = 0.02, roles: tuple[str, ...] = ()
) -> tuple[FramePlan, list[dict[str, int]]]:
    """The plan, and for each frame the contents of its messages by role."""
    arrivals: dict[str, list[Arrival]] = {role: [] for role in roles}
    for place, (time_ns, role, stamp, content) in enumerate(sorted(sent)):
        arrivals.setdefault(role, []).append(Arrival(place, stamp, time_ns, content))
    plan = plan_frames(arrivals, slop_s)
    contents = [item[3] for item in sorted(sent)]
    return plan, [{role: contents[place] for role, place in frame.items()} for frame in plan.frames]


def recorded(
    stamps: list[int], step: int = 100 * MS, *, delay: int = 5 * MS, roles: Any = ("labels", "depth")
) -> Sent:
    """An image every `step` with the given stamps; its other messages come `delay` later."""
    found: Sent = []
    for number, stamp in enumerate(stamps):
        now = 10 * SECOND + number * step
        found += [(now, "image", stamp, number), *((now + delay, role, stamp, number) for role in roles)]
    return found


@given(
    count=st.integers(1, 12), delays=st.lists(st.integers(0, 5000), min_size=12, max_size=12),
    lost=st.sets(st.integers(0, 11)), jitter=st.lists(st.integers(-9, 9), min_size=12, max_size=12),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_each_image_gets_its_own_messages_however_late_they_are(
    count: int, delays: list[int], lost: set[int], jitter: list[int]
) -> None:
    sent: Sent = []
    for number in range(count):
        stamp = number * 33 * MS
        sent.append((stamp, "image", stamp, number))
        sent.append((stamp + 5, "depth", stamp + jitter[number] * MS, number))
        if number not in lost:
            sent.append((stamp + delays[number] * MS, "detections", stamp, number))
    plan, frames = plan_of(sent, roles=("detections",))
    assert frames == [
        {"image": number, "depth": number, "detections": number} for number in range(count) if number not in lost
    ]
    left_out = len(lost & set(range(count)))
    assert not plan.problems and len(plan.warnings) == (left_out > 0)
    assert not left_out or plan.warnings[0].startswith(f"{left_out} images are left out: they have no detections")


def test_a_message_belongs_to_the_nearest_image_only() -> None:
    sent = [(k, "image", k * 16 * MS, k) for k in range(6)] + [(10, "labels", 33 * MS, 2)]
    _, frames = plan_of(sent)
    assert frames == [{"image": 2, "labels": 2}]


@pytest.mark.parametrize(
    "stamps",
    [[0, 100, 0, 100], [0] * 5, [7] * 3, [0, 100, 200, 0, 100, 200, 0, 100, 200], [0, 0, 100, 100]],
    ids=["starts again", "never set", "one stamp", "three times", "twice each"],
)
def test_repeated_stamps_are_matched_in_the_order_of_recording(stamps: list[int]) -> None:
    plan, frames = plan_of(recorded([stamp * MS for stamp in stamps]))
    assert frames == [{"image": k, "labels": k, "depth": k} for k in range(len(stamps))] and not plan.problems


@pytest.mark.parametrize("delay", [-20, 40, 90, 250])
def test_repeated_stamps_whose_order_leaves_a_doubt_are_refused(delay: int) -> None:
    plan, frames = plan_of(recorded([0] * 4, delay=delay * MS, roles=("labels",)))
    assert not frames and [error.code for error in plan.problems] == ["stamp_mismatch"] * 4
    assert "labels" in str(plan.problems[0]) and plan.problems[0].hint


def test_repeated_stamps_of_which_some_messages_are_lost_are_refused() -> None:
    sent = recorded([0, 100 * MS, 0, 100 * MS])
    sent.remove((10 * SECOND + 205 * MS, "labels", 0, 2))
    plan, frames = plan_of(sent)
    assert frames == [{"image": k, "labels": k, "depth": k} for k in (1, 3)]
    assert len(plan.problems) == 2


@pytest.mark.parametrize("offset", [0, 7 * MS])
def test_passes_of_a_looped_source_are_kept_apart_even_with_late_messages(offset: int) -> None:
    stamps = [k * 500 * MS for k in range(4)] + [k * 500 * MS + offset for k in range(4)]
    _, frames = plan_of(recorded(stamps, 500 * MS, delay=1700 * MS))
    assert frames == [{"image": k, "labels": k, "depth": k} for k in range(8)]
    # With detections of one pass only, nobody knows of which.
    sent = [item for item in recorded(stamps, 500 * MS, delay=1700 * MS) if item[1] == "image" or item[3] < 4]
    plan, frames = plan_of(sent)
    assert not frames and len(plan.problems) == 8


def test_a_clock_that_was_set_back_to_another_time_does_not_matter() -> None:
    stamps = [60 * SECOND, 60 * SECOND + 100 * MS, 3 * SECOND, 3 * SECOND + 100 * MS]
    sent = [item for item in recorded(stamps) if item[3] != 2 or item[1] == "image"]
    _, frames = plan_of(sent)
    assert [frame["image"] for frame in frames] == [0, 1, 3]


def test_a_message_that_is_recorded_twice_counts_once() -> None:
    sent = recorded([0, 100 * MS])
    plan, frames = plan_of([*sent, *((time + 1, role, stamp, content) for time, role, stamp, content in sent)])
    assert frames == [{"image": k, "labels": k, "depth": k} for k in (0, 1)]
    assert not plan.problems and not plan.warnings
    other = [*sent, (10 * SECOND + 6 * MS, "labels", 0, 99)]
    plan, frames = plan_of(other)
    assert frames[0]["labels"] == 0 and "1 labels have the stamp of others" in plan.warnings[0]


def test_the_camera_of_an_image_is_the_nearest_one() -> None:
    sent = recorded([0, SECOND, 2 * SECOND], SECOND)
    late = [(60 * SECOND, "camera_info", 0, 50)]
    assert [frame["camera_info"] for frame in plan_of([*sent, *late])[1]] == [50, 50, 50]
    zooming = [(k, "camera_info", k * SECOND, 50 + k) for k in range(3)]
    assert [frame["camera_info"] for frame in plan_of([*sent, *zooming])[1]] == [50, 51, 52]


def test_the_end_of_a_recording_that_was_cut_off_is_used_without_depth() -> None:
    sent = [item for item in recorded([0, 100 * MS, 200 * MS]) if item[1] != "depth" or item[3] != 2]
    plan, frames = plan_of(sent)
    assert (
        frames[-1] == {"image": 2, "labels": 2}
        and "1 images are used though they have no depth" in plan.warnings[0]
    )
    sent = [item for item in recorded([0, 100 * MS, 200 * MS]) if item[1] != "depth" or item[3] != 1]
    assert [frame["image"] for frame in plan_of(sent)[1]] == [0, 2]


def test_frames_come_in_the_order_of_their_images_as_soon_as_they_are_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    topics = {role: Topic(f"/{role}", "") for role in ("image", "labels", "camera_info")}
    order = ["camera_info", "image", "image", "image", "labels", "labels"]
    raws = [RawMessage(topics[role], place, bytes(10)) for place, role in enumerate(order)]
    plan = FramePlan([
        {"camera_info": 0, "image": 1, "labels": 5}, {"camera_info": 0, "image": 2, "labels": 4},
    ])  # fmt: skip
    found = list(collect(raws, plan))
    assert [raw for raw, frame in found if frame is None] == raws, "every message once"
    frames = [(raw.time_ns, {role: part.time_ns for role, part in frame.items()}) for raw, frame in found if frame]  # type: ignore[union-attr]
    assert frames == [(5, plan.frames[0]), (5, plan.frames[1])]
    # Whoever waits too long is given up, and does not fill the memory.
    monkeypatch.setattr("cupid_ros.bag_frames._MOST_WAITING_BYTES", 35)
    kinds = [type(frame) for _, frame in collect(raws, plan) if frame is not None]
    assert [issubclass(kind, CupidError) for kind in kinds] == [True, False]
