"""The fit of a calibration finds deviations and probabilities that records were drawn from."""

import math

import numpy as np
import pytest

from cupid_core.errors import InputError
from cupid_core.evaluation.calibrate import fit_calibration, restated
from cupid_core.evaluation.certainty_figures import EVIDENCE
from cupid_core.evaluation.records import CaseRecord
from cupid_core.evaluation.report import summarize
from cupid_core.scene.certainty import DEVIATIONS


def drawn_records(count, seed):
    """Results near the truth where the frame is recognized, nearer where the outline agrees, or far off."""
    random = np.random.default_rng(seed)
    records = []
    for index in range(count):
        outline, trust = random.uniform(0.5, 0.98), random.uniform(0.2, 0.98)
        lost = random.uniform() > 1.2 * trust
        deviation = 0.8 if lost else 0.2 * (1.02 - outline)
        errors = {name: deviation * random.normal() for name in DEVIATIONS}
        errors["across"] = deviation * math.hypot(random.normal(), random.normal())
        evidence = {
            "size_px": 100.0, "measured": 0.9, "foreign": 0.0, "hidden_outline": 0.0, "seen": 0.4,
            "outline_before": 0.8, "outline_after": outline, "depth_before": 0.01, "depth_after": 0.01,
            "color_db": 15.0, "reprojection": 0.0, "fitted": 1.0, "turned_rad": 0.1, "stretched": 0.0,
            "resized": 0.0, "completed": 1.0, "trust": trust, "gap": 0.02, "residual": 0.02, "drawn": 0.0,
            "longest_m": 0.1, "middle": 0.5, "shortest": 0.4, "turns_freely": 0.0, "fold": 0.0,
        }  # fmt: skip
        figures = {f"error_{name}": value for name, value in errors.items()}
        right = not lost
        figures |= {f"{EVIDENCE}{name}": value for name, value in evidence.items()} | {"right": float(right)}
        records.append(CaseRecord("train", index, "box", figures))
    return records


@pytest.fixture(scope="module")
def calibrated():
    return fit_calibration(drawn_records(400, seed=1))


def test_deviations_hold_on_new_objects(calibrated):
    values = summarize(restated(drawn_records(600, seed=2), calibrated)).values
    assert 2.0 < values["nees_median"] < 7.0
    assert 85.0 < values["nees_inside"] < 96.0
    assert 60.0 < values["scale_inside"] < 78.0


def test_good_means_good_on_new_objects(calibrated):
    fresh = drawn_records(600, seed=3)
    values = summarize(restated(fresh, calibrated)).values
    assert values["right_if_good"] > 82.0 and values["good_if_right"] > 25.0
    chances = [record.figures["p_good"] for record in restated(fresh, calibrated)]
    right = [record.figures["right"] for record in fresh]
    likely = np.array(chances) > np.median(chances)
    assert np.mean(np.array(right)[likely]) > np.mean(np.array(right)[~likely]) + 0.3


def test_each_model_uses_the_evidence_that_matters(calibrated):
    def strongest(weights):
        return calibrated.features[int(np.argmax(np.abs(weights[1:])))]

    assert strongest(calibrated.lost) == "trust" and strongest(calibrated.good) == "trust"
    assert strongest(calibrated.deviations["turn_x"]) == "outline_after"


def test_too_few_objects_are_refused():
    with pytest.raises(InputError, match="12 objects"):
        fit_calibration(drawn_records(12, seed=1))


def test_results_that_are_all_right_are_refused():
    records = drawn_records(60, seed=1)
    for record in records:
        record.figures["right"] = 1.0
    with pytest.raises(InputError, match="All results are right"):
        fit_calibration(records)
