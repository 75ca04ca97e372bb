"""The solver of one kernel against truth and against the torch solver, which stays the reference."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from cupid_core.errors import InvalidTensorError, TooFewCorrespondencesError
from cupid_core.pose import PoseEstimate, solve_pose
from cupid_core.pose import solve_poses as solve_poses_in_torch

pytest.importorskip("warp", reason="NVIDIA Warp is not installed (extra `warp`)")

from cupid_core.pose import warp_solve
from cupid_core.pose.warp_solve import solve_poses


@pytest.fixture
def by_kernel_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The torch solver must not be needed."""

    def refuse(*given, **more):
        raise AssertionError("the kernel was not sure")

    monkeypatch.setattr(warp_solve, "solve_poses_in_torch", refuse)


def one(problem, *, known: bool = True, **more) -> PoseEstimate:
    (found,) = solve_poses([problem.points], [problem.uv], cameras=problem.camera if known else None, **more)
    assert isinstance(found, PoseEstimate), found
    return found


@pytest.mark.parametrize("known", [True, False])
def test_exact_pairs_give_the_exact_pose(problem: Callable, by_kernel_alone, known: bool) -> None:
    for seed in range(5):
        given = problem(seed)
        if not known:
            given = problem(seed, focal=1.0)
        found = one(given, known=known)
        # Pairs are float32, and their rounding is a part in ten million of the image.
        assert given.rotation_error_deg(found) < (2e-4 if known else 0.05)
        assert given.translation_error(found) < (1e-5 if known else 2e-2)
        assert found.inlier_ratio == 1.0


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("count", [200, 3000, 20000])
def test_as_accurate_as_the_torch_solver(problem: Callable, by_kernel_alone, known: bool, count: int) -> None:
    ours, reference, between = [], [], []
    for seed in range(12):
        given = problem(seed, count=count, noise=0.003, focal=1.0)
        found = one(given, known=known)
        expected = solve_pose(given.points, given.uv, camera=given.camera if known else None)
        ours.append(given.rotation_error_deg(found))
        reference.append(given.rotation_error_deg(expected))
        deviation = np.degrees(np.sqrt(float(expected.covariance[3:, 3:].trace())))
        turn = found.T_camera_object.rotation() @ expected.T_camera_object.rotation().mT
        angle = np.degrees(float(torch.arccos(((turn.trace() - 1) / 2).clamp(-1, 1))))
        between.append(angle / deviation)
        ratio = found.covariance.diagonal() / expected.covariance.diagonal()
        # Without a camera the other solver allows for a principal point that is not in the middle.
        assert bool(((ratio > (0.6 if known else 0.05)) & (ratio < 1.7)).all())
        assert found.reprojection_rms_px == pytest.approx(expected.reprojection_rms_px, rel=0.05)
        assert found.degeneracy == expected.degeneracy
    assert np.median(ours) < 1.2 * np.median(reference)
    # The curvature of many pairs comes from a sample, another one in each solver: a few percent of the last step.
    assert np.median(between) < (0.3 if count <= 3000 else 0.5)


def test_the_covariance_is_honest(problem: Callable, by_kernel_alone) -> None:
    errors = []
    for seed in range(100):
        given = problem(seed, count=500, noise=0.004)
        errors.append(given.squared_error(one(given)))
    assert 4.8 < np.mean(errors) < 7.4


def test_a_batch_gives_what_each_gives_alone(problem: Callable) -> None:
    given = [problem(seed, count=100 + 400 * seed, noise=0.003, dtype=torch.float32) for seed in range(4)]
    together = solve_poses(
        [item.points for item in given], [item.uv for item in given], cameras=[item.camera for item in given]
    )
    for item, found in zip(given, together, strict=True):
        assert torch.equal(found.T_camera_object.translation, one(item).T_camera_object.translation)
        assert found.T_camera_object.translation.dtype == torch.float32


def test_weights_count(problem: Callable, by_kernel_alone) -> None:
    given = problem(3, count=400, noise=0.002)
    wrong = given.uv.clone()
    wrong[:150] = 0.5
    weights = torch.ones(400, dtype=torch.float64)
    weights[:150] = 0.0
    (found,) = solve_poses([given.points], [wrong], weights=[weights], cameras=given.camera)
    (kept,) = solve_poses([given.points[150:]], [given.uv[150:]], cameras=given.camera)
    assert given.rotation_error_deg(found) < 0.3
    close = torch.allclose(found.T_camera_object.translation, kept.T_camera_object.translation, rtol=0, atol=1e-3)
    assert close


@pytest.mark.parametrize(
    "case",
    [
        {"thickness": 0.0},  # a plane
        {"outliers": 0.3},
        {"thickness": 0.05},
    ],
)
def test_what_the_kernel_is_not_sure_of_is_what_torch_finds(problem: Callable, case: dict[str, float]) -> None:
    given = problem(1, noise=0.003, **case)
    found, expected = one(given), solve_pose(given.points, given.uv, camera=given.camera)
    assert torch.equal(found.T_camera_object.translation, expected.T_camera_object.translation)
    assert found.degeneracy == expected.degeneracy


def test_clamped_pairs_are_left_to_torch(problem: Callable) -> None:
    given = problem(2, noise=0.002)
    moved = given.uv + torch.tensor([0.35, 0.0])
    camera = given.camera
    clamped = moved.clamp(0.0, 1.0)
    assert bool((clamped == 1.0).any())
    (found,) = solve_poses([given.points], [clamped], cameras=camera)
    (expected,) = solve_poses_in_torch([given.points], [clamped], cameras=camera)
    assert torch.equal(found.T_camera_object.translation, expected.T_camera_object.translation)


def test_errors_are_those_of_the_torch_solver(problem: Callable) -> None:
    given = problem(0)
    few, good = solve_poses([given.points[:4], given.points], [given.uv[:4], given.uv], cameras=[given.camera] * 2)
    assert isinstance(few, TooFewCorrespondencesError) and isinstance(good, PoseEstimate)
    with pytest.raises(InvalidTensorError):
        solve_poses([given.points], [given.uv, given.uv])
    bad = given.points.clone()
    bad[3, 0] = torch.nan
    for solver in (solve_poses, solve_poses_in_torch):
        with pytest.raises(InvalidTensorError):
            solver([bad], [given.uv])
