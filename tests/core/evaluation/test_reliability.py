"""The reliability diagram shows stated probabilities beside what came true."""

import pytest

from cupid_core.evaluation.records import CaseRecord
from cupid_core.evaluation.reliability import reliability_bins, reliability_svg


def record(p_good: float, right: float) -> CaseRecord:
    return CaseRecord("train", 0, "box", {"p_good": p_good, "right": right})


RECORDS = [
    *[record(0.85, 1.0)] * 3,
    record(0.83, 0.0),
    record(1.0, 1.0),
    record(0.05, 0.0),
    CaseRecord("train", 0, "box", {"right": 1.0}),
]


def test_bins_hold_every_result_with_a_probability_once() -> None:
    low, high, top = reliability_bins(RECORDS)
    assert (low.count, high.count, top.count) == (1, 4, 1)
    assert high.stated == pytest.approx(0.845) and high.right == pytest.approx(0.75)
    assert top.right == 1.0 and top.std > 0.2, "one result proves little"


def test_the_picture_has_a_point_for_each_bin() -> None:
    picture = reliability_svg(RECORDS)
    assert picture.startswith("<svg") and picture.count("<circle") == 3
    assert 'cx="326.4" cy="96.0"' in picture, "85 % to the right, 75 % up"
