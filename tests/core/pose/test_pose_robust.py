"""Outliers, clamped borders, honest covariances, and what must be refused rather than answered."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from cupid_core.config import PoseConfig
from cupid_core.errors import (
    BehindCameraError,
    InvalidTensorError,
    PoseDegenerateError,
    TooFewCorrespondencesError,
)
from cupid_core.pose import solve_pose
from cupid_core.pose.refine import _inverses

KNOWN = pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])


@KNOWN
@pytest.mark.parametrize("thickness", [1.0, 0.05, 0.0])
def test_a_third_of_outliers_costs_little(thickness, known, problem) -> None:
    errors: dict[float, list[float]] = {0.0: [], 0.3: []}
    for seed in range(8):
        for outliers, found in errors.items():
            case = problem(seed, count=800, thickness=thickness, noise=0.003, outliers=outliers)
            estimate = solve_pose(case.points, case.uv, camera=case.camera if known else None)
            found.append(case.rotation_error_deg(estimate))
            assert estimate.inlier_ratio == pytest.approx(1.0 - outliers, abs=0.05)
    assert np.sqrt(np.mean(np.square(errors[0.3]))) < 1.5 * np.sqrt(np.mean(np.square(errors[0.0])))


@pytest.mark.parametrize("noise", [0.003, 0.01])
def test_clean_noise_of_any_size_makes_no_outliers(noise, problem) -> None:
    case = problem(1, count=2000, noise=noise)
    found = solve_pose(case.points, case.uv, camera=case.camera)
    assert found.inlier_ratio == 1.0
    expected_px = noise * np.sqrt(2.0) * case.camera.width
    assert found.reprojection_rms_px == pytest.approx(expected_px, rel=0.05)


@pytest.mark.parametrize(("thickness", "outliers"), [(1.0, 0.0), (0.0, 0.0), (0.3, 0.3)])
def test_covariance_is_honest(thickness, outliers, problem) -> None:
    squares = []
    for seed in range(60):
        case = problem(seed, count=200, thickness=thickness, noise=0.004, outliers=outliers)
        squares.append(case.squared_error(solve_pose(case.points, case.uv, camera=case.camera)))
    assert 0.7 < np.mean(squares) / 6.0 < 1.4


def test_covariance_is_honest_for_cameras_drawn_from_their_prior(problem) -> None:
    config = PoseConfig(intrinsics="prior", focal_std=0.03, principal_point_std=0.01)
    squares = []
    for seed in range(60):
        case = problem(seed, count=200, noise=0.004)
        random = np.random.default_rng(1000 + seed)
        K = case.camera.K.clone()
        K[0, 0] *= np.exp(0.03 * random.normal())
        K[1, 1] *= np.exp(0.03 * random.normal())
        K[:2, 2] += torch.from_numpy(0.01 * 518 * random.normal(size=2))
        guess = type(case.camera)(K, 518, 518)
        squares.append(case.squared_error(solve_pose(case.points, case.uv, camera=guess, config=config)))
    assert 0.7 < np.mean(squares) / 6.0 < 1.4


@pytest.mark.parametrize("noise", [0.003, 0.01])
@pytest.mark.parametrize("thickness", [1.0, 0.1])
def test_clamped_uv_of_a_cut_object_do_not_pull(thickness, noise, problem) -> None:
    """A third of the object beyond the border, uv clamped to [0, 1] and then noisy, as networks give them."""
    whole, cut, trusting = [], [], []
    for seed in range(10):
        case = problem(seed, count=1500, thickness=thickness)
        noisy = torch.from_numpy(np.random.default_rng(seed).normal(size=(1500, 2))) * noise
        x0 = float(case.uv[:, 0].quantile(1.0 / 3.0)) * 518
        crop = case.camera.crop(x0, 0.0, 518, 518)
        clamped = ((case.uv - torch.tensor([x0 / 518, 0.0])).clamp(0.0, 1.0) + noisy).clamp(0.0, 1.0)
        whole.append(case.rotation_error_deg(solve_pose(case.points, case.uv + noisy, camera=case.camera)))
        cut.append(case.rotation_error_deg(solve_pose(case.points, clamped, camera=crop)))
        without = solve_pose(case.points, clamped, camera=crop, config=PoseConfig(border_margin=0.0))
        trusting.append(case.rotation_error_deg(without))
    assert np.median(cut) < 2.0 * np.median(whole)
    assert np.median(cut) < np.median(trusting)


def test_pairs_at_the_border_that_belong_there_come_back(problem) -> None:
    """An object that touches the border from inside: all pairs are inliers and none is lost."""
    case = problem(3, count=1000)
    x0 = float(case.uv[:, 0].min() - 0.001) * 518
    crop = case.camera.crop(x0, 0.0, 518, 518)
    uv = case.uv - torch.tensor([x0 / 518, 0.0])
    config = PoseConfig(border_margin=0.1)
    assert int((uv < 0.1).any(dim=1).sum()) > 50
    found = solve_pose(case.points, uv, camera=crop, config=config)
    assert case.rotation_error_deg(found) < 1e-3


@KNOWN
def test_an_object_behind_the_camera_is_refused(known, problem) -> None:
    for thickness, noise in product((1.0, 0.1), (0.0, 0.003)):
        case = problem(2, count=400, thickness=thickness)
        behind = case.points.numpy() @ case.rotation.T - case.translation
        K = case.camera.K_normalized().numpy()
        uv = (behind @ K.T)[:, :2] / behind[:, 2:] + noise * np.random.default_rng(0).normal(size=(400, 2))
        with pytest.raises(BehindCameraError):
            solve_pose(case.points, torch.from_numpy(uv), camera=case.camera if known else None)


@KNOWN
def test_pairs_that_mean_nothing_are_refused(known, problem) -> None:
    case = problem(3)
    uv = torch.from_numpy(np.random.default_rng(3).uniform(0.02, 0.98, (500, 2)))
    with pytest.raises(PoseDegenerateError):
        solve_pose(case.points, uv, camera=case.camera if known else None)


@KNOWN
def test_points_on_a_line_or_in_one_place_are_refused(known, problem) -> None:
    case = problem(4)
    for direction in ((1.0, 0.0, 0.0), (1.0, -2.0, 0.5), (0.0, 0.0, 0.0)):
        points = (torch.linspace(-0.4, 0.4, 50)[:, None] * torch.tensor(direction) + 0.01).double()
        points_camera = points @ torch.from_numpy(case.rotation).T + torch.from_numpy(case.translation)
        uv = case.camera.px_to_uv(case.camera.project(points_camera))
        with pytest.raises(PoseDegenerateError):
            solve_pose(points, uv, camera=case.camera if known else None)


@KNOWN
def test_one_image_point_is_refused(known, problem) -> None:
    case = problem(5)
    with pytest.raises(PoseDegenerateError):
        solve_pose(case.points, torch.full_like(case.uv, 0.5), camera=case.camera if known else None)


def test_too_few_pairs_are_refused_however_they_are_few(problem) -> None:
    case = problem(6, count=40)
    weights = torch.zeros(40).double()
    weights[:5] = 1.0
    for points, uv, weight in (
        (case.points[:5], case.uv[:5], None),
        (case.points[:0], case.uv[:0], None),
        (case.points, case.uv, weights),
        (case.points, case.uv.round(), None),  # all clamped to the border
    ):
        with pytest.raises(TooFewCorrespondencesError):
            solve_pose(points, uv, weights=weight, camera=case.camera)


@pytest.mark.parametrize("where", ["points", "uv", "weights"])
def test_nan_and_infinity_are_refused(where, problem) -> None:
    case = problem(7)
    for bad in (torch.nan, torch.inf, -torch.inf):
        values = {"points": case.points.clone(), "uv": case.uv.clone(), "weights": torch.ones(500).double()}
        values[where].view(-1)[17] = bad
        with pytest.raises(InvalidTensorError):
            solve_pose(values["points"], values["uv"], weights=values["weights"], camera=case.camera)


def test_negative_weights_and_misfitting_shapes_are_refused(problem) -> None:
    case = problem(8)
    for points, uv, weights in (
        (case.points, case.uv, -torch.ones(500)),
        (case.points, case.uv, torch.ones(499)),
        (case.points, case.uv[:-1], None),
        (case.points.T, case.uv, None),
        (case.points[None], case.uv[None], None),
    ):
        with pytest.raises(InvalidTensorError):
            solve_pose(points, uv, weights=weights, camera=case.camera)


def test_one_start_that_diverges_does_not_end_the_others() -> None:
    """The inverse of a singular information matrix is NaN, those beside it are what they were."""
    matrices = np.stack([np.eye(3) * 2.0, np.zeros((3, 3)), np.diag([1.0, 4.0, 8.0])])
    inverses = _inverses(matrices)
    assert np.isnan(inverses[1]).all()
    np.testing.assert_allclose(inverses[0], np.eye(3) / 2)
    np.testing.assert_allclose(inverses[2], np.diag([1.0, 0.25, 0.125]))
