"""Which messages belong together: laws over random streams, edges of the slop, a CameraInfo that came once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cupid_ros.synchronizer import Synchronizer

MS, SECOND = 1_000_000, 1_000_000_000
ROLES = ("image", "camera_info", "depth")
Stream = list[tuple[str, int]]


def feed(synchronizer: Synchronizer, stream: Stream) -> list[dict[str, int]]:
    """The stamps of each result; every message is its own stamp."""
    results = (synchronizer.add(role, stamp, stamp) for role, stamp in stream)
    return [result for result in results if result is not None]


def moments(*stamps: int, roles: tuple[str, ...] = ROLES) -> Stream:
    return [(role, stamp) for stamp in stamps for role in roles]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ROLES), st.integers(0, 400)), max_size=60), st.integers(0, 30))
def test_results_are_within_the_slop_and_use_each_message_once(stream: Stream, slop: int) -> None:
    results = feed(Synchronizer(ROLES, queue=100, slop_s=slop / SECOND), stream)
    for result in results:
        assert tuple(result) == ROLES and max(result.values()) - min(result.values()) <= slop
    for role in ROLES:
        used = [result[role] for result in results]
        # A second message with the stamp of one that waits replaces it.
        assert all(used.count(stamp) <= stream.count((role, stamp)) for stamp in used)


@settings(deadline=None)
@given(st.permutations(moments(0, 33 * MS, 66 * MS)))
def test_equal_stamps_come_together_in_any_order(stream: Stream) -> None:
    results = feed(Synchronizer(ROLES, queue=20, slop_s=0.0), stream)
    assert sorted(result["image"] for result in results) == [0, 33 * MS, 66 * MS]
    assert all(len(set(result.values())) == 1 for result in results)


def test_the_nearest_of_several_is_taken_and_a_set_wider_than_the_slop_is_not() -> None:
    synchronizer = Synchronizer(("image", "depth"), queue=20, slop_s=0.02)
    assert feed(synchronizer, [("depth", 0), ("depth", 15 * MS), ("image", 10 * MS)]) == [
        {"image": 10 * MS, "depth": 15 * MS}
    ]
    wide = Synchronizer(ROLES, queue=20, slop_s=0.02)
    assert not feed(wide, [("depth", 0), ("image", 15 * MS), ("camera_info", 30 * MS)])
    # Nearest to the image is not good enough where it is too far from the third.
    assert feed(wide, [("depth", 34 * MS)]) == [{"image": 15 * MS, "camera_info": 30 * MS, "depth": 34 * MS}]


def test_the_queue_is_bounded_and_drops_the_oldest() -> None:
    synchronizer = Synchronizer(("image", "depth"), queue=3, slop_s=0.0)
    assert not feed(synchronizer, [("image", stamp) for stamp in range(5)])
    assert feed(synchronizer, [("depth", stamp) for stamp in range(5)]) == [
        {"image": stamp, "depth": stamp} for stamp in (2, 3, 4)
    ]


def test_a_camera_info_that_came_once_serves_every_later_image() -> None:
    synchronizer = Synchronizer(ROLES, queue=20, slop_s=0.02)
    stream = [("camera_info", 0), *moments(5 * SECOND, 6 * SECOND, roles=("image", "depth"))]
    assert feed(synchronizer, stream) == [
        {"image": stamp, "camera_info": 0, "depth": stamp} for stamp in (5 * SECOND, 6 * SECOND)
    ]
    synchronizer.clear()
    assert len(feed(synchronizer, moments(2 * SECOND, roles=("image", "depth")))) == 1


def test_a_camera_info_that_comes_late_and_once_serves_the_newest_image() -> None:
    synchronizer = Synchronizer(ROLES, queue=20, slop_s=0.02)
    stream = [*moments(5 * SECOND, 6 * SECOND, roles=("image", "depth")), ("camera_info", 0)]
    assert [result["image"] for result in feed(synchronizer, stream)] == [6 * SECOND]


def test_a_camera_that_sends_its_info_with_each_image_is_waited_for() -> None:
    synchronizer = Synchronizer(ROLES, queue=20, slop_s=0.02)
    feed(synchronizer, moments(0, SECOND // 30))
    assert not feed(synchronizer, moments(5 * SECOND, roles=("image", "depth")))
    (result,) = feed(synchronizer, [("camera_info", 5 * SECOND)])
    assert result["camera_info"] == 5 * SECOND
