"""Ids of objects over images, and the association of regions behind them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_stubs import detection, frame

from cupid_core.config.ros import RosTrackingConfig
from cupid_core.serving.frames import Detection
from cupid_core.serving.tracking import ObjectTracker, Region, associate, check_labels, overlap, shift


def test_detections_and_labels_are_matched_by_the_number_of_the_id() -> None:
    labels = np.zeros((48, 64), np.int32)
    labels[10:20, 5:15], labels[30:40, 40:50] = 7, 9
    targets, _ = ObjectTracker().targets(frame(labels=labels))
    assert [(target.number, target.id, target.box) for target in targets] == [(7, "7", None), (9, "9", None)]
    mixed = (
        replace(detection("track_7", 5), box=None), detection("mug", 40),
        replace(detection("nine", 0), box=None), detection("mug", 1),
    )  # fmt: skip
    targets, refused = ObjectTracker().targets(frame(*mixed, labels=labels))
    assert [(target.id, target.box is None) for target in targets] == [("track_7", True), ("mug", False)]
    assert targets[0].number == 7 and targets[1].number >= 100_000
    assert {id_: error.code for id_, error in refused.items()} == {
        "nine": "no_objects",
        "mug": "invalid_detection",
    }


def scene_labels() -> np.ndarray:
    """1: a large object; 2: a small one in front of it; 3: one that is mostly hidden behind the large one."""
    labels = np.zeros((48, 64), np.int32)
    labels[5:40, 5:40], labels[20:30, 10:20], labels[5:40, 40:45] = 1, 2, 3
    return labels


@pytest.mark.parametrize(
    ("boxes", "labeled"),
    [
        ({"mug_1": (5, 5, 40, 40), "mug_2": (10, 20, 20, 30)}, [True, True]),
        ({"track_2": (5, 5, 40, 40), "track_1": (10, 20, 20, 30)}, [False, False]),
        ({"1": (2, 3, 44, 42), "2": (9, 18, 23, 31)}, [True, True]),
        ({"1": (5, 5, 40, 40), "3": (12, 5, 45, 40)}, [True, True]),
        ({"3": (5, 5, 40, 40)}, [False]),
        ({"2": (50, 5, 60, 15)}, [False]),
        ({"2": (-1e9, -1e9, 1e9, 1e9)}, [True]),
        ({"77": (5, 5, 40, 40)}, [True]),
    ],
    ids=[
        "numbers agree",
        "numbers of a tracker",
        "loose boxes",
        "mostly hidden",
        "other object",
        "beside",
        "around all",
        "no label",
    ],
)
def test_boxes_say_whether_numbers_of_ids_are_those_of_labels(boxes: dict[str, Any], labeled: list[bool]) -> None:
    detections = [Detection(id_, "mug", 0.5, box) for id_, box in boxes.items()]
    checked, errors = check_labels(detections, scene_labels())
    assert [item.labeled for item in checked] == labeled
    assert [error.code for error in errors] == ["invalid_detection"] * labeled.count(False)
    assert check_labels(detections, None) == (tuple(detections), [])
    targets, refused = ObjectTracker().targets(frame(*checked, labels=scene_labels()))
    assert not refused and len({target.number for target in targets}) == len(targets)
    assert [target.box is None for target in targets] == [
        flag and item.number in (1, 2, 3) for flag, item in zip(labeled, checked, strict=True)
    ]


def test_an_id_whose_box_is_elsewhere_leaves_its_number_to_the_object_that_has_it() -> None:
    wrong, right = Detection("track_2", "", None, (50, 5, 60, 15)), Detection("2", "", None, (10, 20, 20, 30))
    checked, _ = check_labels([wrong, right], scene_labels())
    targets, _ = ObjectTracker().targets(frame(*checked, labels=scene_labels()))
    assert [(target.number, target.box is None) for target in targets][1] == (2, True)
    assert targets[0].box == wrong.box


def test_two_ids_that_end_in_one_number_do_not_share_its_label() -> None:
    same = [replace(detection(id_, 0), box=None) for id_ in ("mug_2", "bowl_2")]
    targets, refused = ObjectTracker().targets(frame(*same, labels=scene_labels()))
    assert [(target.id, target.number) for target in targets] == [("mug_2", 2)]
    assert "label 2 is that of another object" in str(refused["bowl_2"])


def test_values_of_32_bit_labels_and_numbers_without_an_id_do_not_meet() -> None:
    labels = scene_labels() * 70_000
    tracker = ObjectTracker()
    tracker.targets(frame(*(detection("", x) for x in (0, 20, 40)), labels=labels))
    target = tracker.targets(frame(replace(detection("140000", 0), box=None), detection("", 20), labels=labels))[0]
    assert (target[0].number, target[0].box) == (140_000, None) and target[1].number > 2**30


def test_detections_without_ids_are_tracked() -> None:
    tracker = ObjectTracker(RosTrackingConfig(forget_s=1.0))
    first, _ = tracker.targets(frame(detection("", 5), detection("", 40)))
    moved, _ = tracker.targets(frame(detection("", 42), detection("", 8), at_s=0.5))
    assert [target.id for target in moved] == [first[1].id, first[0].id]
    third, _ = tracker.targets(frame(detection("", 8), detection("", 42), detection("", 25), at_s=0.9))
    assert [target.id for target in third[:2]] == [first[0].id, first[1].id]
    assert third[2].id not in {target.id for target in first}
    late, _ = tracker.targets(frame(detection("", 8), at_s=3.0))
    assert late[0].id not in {target.id for target in third}
    again, _ = tracker.targets(frame(detection("", 8), at_s=-50.0))
    assert again[0].id != late[0].id, "tracks end where stamps jump back"


def test_numbers_are_stable_and_memory_is_bounded() -> None:
    tracker = ObjectTracker(RosTrackingConfig(remember=8))
    numbers = {id_: tracker.targets(frame(detection(id_, 5)))[0][0].number for id_ in ("a", "b", "a3", "b3")}
    assert len(set(numbers.values())) == 4
    assert {id_: tracker.targets(frame(detection(id_, 5)))[0][0].number for id_ in numbers} == numbers
    for number in range(1000):
        tracker.targets(frame(detection(f"object_{number}x", 5)))
    assert len(tracker._numbers) <= 8


boxes = st.builds(
    lambda x, y, w, h: Region((x, y, x + w, y + h)),
    st.floats(-50, 50), st.floats(-50, 50), st.floats(1, 30), st.floats(1, 30),
)  # fmt: skip


@given(first=boxes, second=boxes)
@settings(max_examples=60, deadline=None)
def test_overlap_is_symmetric_and_one_for_itself(first: Region, second: Region) -> None:
    assert overlap(first, first) == pytest.approx(1.0) and shift(first, first) == 0.0
    assert overlap(first, second) == overlap(second, first) and 0.0 <= overlap(first, second) <= 1.0 + 1e-9
    (x0, y0, x1, y1) = first.box
    half = Region((x0, y0, x1 + (x1 - x0), y1))
    assert overlap(first, half) == pytest.approx(0.5)
    assert overlap(first, Region((x0 + 1000, y0, x1 + 1000, y1))) == 0.0


@given(regions=st.lists(boxes, max_size=5), order=st.randoms())
@settings(max_examples=60, deadline=None)
def test_the_same_regions_are_associated_in_any_order(regions: list[Region], order: Any) -> None:
    regions = [region for i, region in enumerate(regions) if all(overlap(region, r) < 0.99 for r in regions[:i])]
    places = list(range(len(regions)))
    order.shuffle(places)
    again = associate(regions, [regions[place] for place in places], min_iou=0.3, max_shift=0.5)
    assert again == places


def test_masks_decide_where_boxes_are_equal() -> None:
    mask = np.zeros((10, 10), bool)
    mask[:, :5] = True
    left, right = Region((0.0, 0.0, 10.0, 10.0), mask), Region((0.0, 0.0, 10.0, 10.0), ~mask)
    assert overlap(left, right) == 0.0 and overlap(left, Region(left.box)) == 1.0
