"""Stated deviations and verdicts: what a calibration says of the evidence, and wide ones without."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from cupid_core.geometry.sim3 import Sim3
from cupid_core.scene.certainty import DEVIATIONS, Calibration, assess, features
from cupid_core.scene.evidence import Evidence
from cupid_core.scene.shape_symmetry import CONTINUOUS, ShapeSymmetry
from cupid_core.types import Quality, Verdict

PLACE = Sim3.from_quat_xyzw(
    torch.tensor(0.2, dtype=torch.float64),
    torch.tensor([0.1, -0.3, 0.2, 0.9], dtype=torch.float64),
    torch.tensor([0.1, -0.05, 0.6], dtype=torch.float64),
)
SIZE_M = 0.18
UNKNOWN = {item.name: math.nan for item in fields(Evidence)}
KNOWN = UNKNOWN | {"measured": 0.9, "fitted": 1.0, "drawn": 0.0, "outline_after": 0.95, "seen": 0.4}
QUALITY = Quality(0.9, 20.0, 1.0, 0.9, 0.002, Verdict.GOOD, ())


def calibration(**changes):
    names = list(features(KNOWN))
    nothing = [0.0] * len(names)
    deviations = {name: [math.log(0.05), *nothing] for name in DEVIATIONS}
    made = Calibration(
        objects=100,
        features=names,
        means=nothing,
        stds=[1.0] * len(names),
        deviations=deviations,
        lost_deviations={name: [math.log(0.9), *nothing] for name in DEVIATIONS},
        lost=[-4.0, *nothing],
        lost_from=0.2,
        good=[2.0, *nothing],
        good_from=0.8,
        failed_below=0.1,
    )
    return replace(made, **changes)


def test_without_a_calibration_deviations_are_wide_and_nothing_is_good():
    found = assess(None, KNOWN, PLACE, SIZE_M, symmetry=ShapeSymmetry.none())
    assert not found.calibrated and math.isnan(found.p_good) and found.verdict is Verdict.DOUBTFUL
    assert float(found.covariance[3:, 3:].trace().sqrt()) > math.radians(60)
    assert float(found.covariance[:3, :3].trace().sqrt()) > SIZE_M / 2
    judged = found.judge(QUALITY, ())
    assert judged.p_good is None and judged.verdict is Verdict.DOUBTFUL and "not calibrated" in judged.reasons[0]


def test_calibrated_deviations_are_along_the_ray_and_about_the_axes_of_the_object():
    deviations = dict(calibration().deviations)
    deviations["along"] = [math.log(0.3), *deviations["along"][1:]]
    deviations["turn_z"] = [math.log(0.7), *deviations["turn_z"][1:]]
    found = assess(calibration(deviations=deviations), KNOWN, PLACE, SIZE_M, symmetry=ShapeSymmetry.none())
    ray = PLACE.translation / PLACE.translation.norm()
    assert float(ray @ found.covariance[:3, :3] @ ray) == pytest.approx((0.3 * SIZE_M) ** 2)
    up = PLACE.rigid().rotation()[:, 2]
    side = PLACE.rigid().rotation()[:, 0]
    assert float(up @ found.covariance[3:, 3:] @ up) == pytest.approx(0.7**2)
    assert float(side @ found.covariance[3:, 3:] @ side) == pytest.approx(0.05**2)
    assert float(found.covariance[:3, 3:].abs().max()) == 0 and found.scale_std == pytest.approx(0.05)


def test_where_the_frame_may_be_lost_the_deviations_are_those_of_lost_frames():
    model = calibration()
    names = list(model.features)
    trust = [-2.0 if name == "trust" else 0.0 for name in names]
    model = replace(model, lost=[0.0, *trust])
    sure, unsure = (
        assess(model, KNOWN | {"trust": value}, PLACE, SIZE_M, symmetry=None).covariance[3:, 3:].trace()
        for value in (0.95, 0.3)
    )
    assert float(sure) == pytest.approx(3 * 0.05**2) and float(unsure) == pytest.approx(3 * 0.9**2)


def test_evidence_changes_deviations_and_probability():
    names = list(features(KNOWN))
    weights = [0.0] * len(names)
    weights[names.index("outline_after")] = 1.0
    deviations = {name: [math.log(0.05), *(-value for value in weights)] for name in DEVIATIONS}
    model = calibration(deviations=deviations, good=[0.0, *weights])
    better, worse = (
        assess(model, KNOWN | {"outline_after": iou}, PLACE, SIZE_M, symmetry=None) for iou in (0.98, 0.6)
    )
    assert better.p_good > worse.p_good and better.scale_std < worse.scale_std
    unknown = assess(model, UNKNOWN | {"measured": 0.0, "drawn": 0.0}, PLACE, SIZE_M, symmetry=None)
    assert unknown.p_good == pytest.approx(0.5)  # what is not known counts as usual


def test_an_axis_of_free_rotation_is_wide_in_the_covariance():
    axis = np.array([0.0, 0.0, 1.0])
    symmetry = ShapeSymmetry(CONTINUOUS, axis, np.zeros(3), np.zeros((0, 3)))
    found = assess(calibration(), KNOWN, PLACE, SIZE_M, symmetry=symmetry)
    up = PLACE.rigid().rotation() @ torch.from_numpy(axis)
    assert float((up @ found.covariance[3:, 3:] @ up).sqrt()) == pytest.approx(math.pi / math.sqrt(3), rel=0.01)
    smallest = torch.linalg.eigvalsh(found.covariance[3:, 3:])[:2]
    assert smallest.tolist() == pytest.approx([0.05**2] * 2)


def test_an_uncertain_unit_stretches_the_position_and_the_scale():
    found = assess(calibration(), KNOWN, PLACE, SIZE_M, symmetry=None, unit_std=0.1)
    ray = PLACE.translation / PLACE.translation.norm()
    expected = (0.05 * SIZE_M) ** 2 + (0.1 * float(PLACE.translation.norm())) ** 2
    assert float(ray @ found.covariance[:3, :3] @ ray) == pytest.approx(expected)
    assert found.scale_std == pytest.approx(math.hypot(0.05, 0.1))


@pytest.mark.parametrize(
    ("log_odds", "verdict"), [(3.0, Verdict.GOOD), (0.0, Verdict.DOUBTFUL), (-3.0, Verdict.FAILED)]
)
def test_verdicts_are_thresholds_of_the_probability(log_odds, verdict):
    model = calibration(good=[log_odds, *calibration().good[1:]])
    found = assess(model, KNOWN, PLACE, SIZE_M, symmetry=None)
    assert found.verdict is verdict
    judged = found.judge(QUALITY, ())
    assert judged.verdict is verdict and judged.p_good == pytest.approx(1 / (1 + math.exp(-log_odds)))


def test_figures_that_failed_and_remarks_make_a_verdict_worse():
    good = assess(calibration(), KNOWN, PLACE, SIZE_M, symmetry=None)
    assert good.verdict is Verdict.GOOD
    failed = good.judge(replace(QUALITY, verdict=Verdict.FAILED, reasons=("silhouette IoU 0.10",)), ())
    assert failed.verdict is Verdict.FAILED and failed.reasons == ("silhouette IoU 0.10",)
    doubtful = good.judge(QUALITY, ("no scale from depth",))
    assert doubtful.verdict is Verdict.DOUBTFUL and doubtful.reasons == ("no scale from depth",)


def test_evidence_beyond_all_that_was_calibrated_is_not_extrapolated():
    names = list(features(KNOWN))
    weights = [1.0 if name == "longest" else 0.0 for name in names]
    model = calibration(deviations={name: [0.0, *weights] for name in DEVIATIONS})
    huge = assess(model, KNOWN | {"longest_m": 1e9}, PLACE, SIZE_M, symmetry=None)
    assert huge.scale_std == pytest.approx(math.exp(3.0))
