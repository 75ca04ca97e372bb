"""Laws of `solve_pose`: exactness, equivariance, what cameras and batches mean."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cupid_core.config import PoseConfig
from cupid_core.errors import InvalidTensorError, PoseError, TooFewCorrespondencesError
from cupid_core.geometry import Camera, Distortion
from cupid_core.pose import PoseEstimate, solve_pose, solve_poses

THICKNESSES = [1.0, 0.3, 0.05, 0.0]
TOLERANCE_DEG = {torch.float32: 2e-2, torch.float64: 1e-3}


def estimates(results: list[PoseEstimate | PoseError]) -> list[PoseEstimate]:
    assert all(isinstance(result, PoseEstimate) for result in results)
    return [result for result in results if isinstance(result, PoseEstimate)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_exact_pairs_give_the_exact_pose_from_any_rotation(known, dtype, problem) -> None:
    for seed, thickness in product(range(4, 8), THICKNESSES):
        # Flat and nearly parallel to the image (within about 15 degrees) hides the focal length; these are not.
        case = problem(seed, thickness=thickness, dtype=dtype)
        assert abs(case.rotation[2, 2]) < 0.9 or thickness > 0.0
        found = solve_pose(case.points, case.uv, camera=case.camera if known else None)
        tolerance = TOLERANCE_DEG[dtype] * (1.0 if known else 5.0)
        assert case.rotation_error_deg(found) < tolerance
        assert case.translation_error(found) < 10.0 * np.radians(tolerance)
        assert found.reprojection_rms_px < 0.05
        assert found.T_camera_object.dtype == found.covariance.dtype == dtype
        assert found.degeneracy == ("planar" if thickness == 0.0 else "none")
        if known:
            assert found.camera is case.camera
        else:
            assert float(found.camera.K[0, 0]) == pytest.approx(float(case.camera.K[0, 0]), rel=2e-3)


@given(seed=st.integers(0, 10_000), thickness=st.sampled_from(THICKNESSES))
@settings(max_examples=25, deadline=None)
def test_turning_moving_and_scaling_the_object_moves_only_the_pose(seed, thickness, problem) -> None:
    case = problem(seed, count=200, thickness=thickness, noise=0.001)
    random = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    shift, scale = random.normal(size=3), float(random.uniform(0.01, 100.0))
    moved_points = torch.from_numpy(scale * (case.points.numpy() @ turn.T + shift))
    plain = solve_pose(case.points, case.uv, camera=case.camera)
    moved = solve_pose(moved_points, case.uv, camera=case.camera)
    image = [
        case.camera.project(estimate.T_camera_object[None].apply(points))
        for estimate, points in ((plain, case.points), (moved, moved_points))
    ]
    # Both fits see the same noise, so they agree far below it.
    assert float((image[0] - image[1]).abs().max()) < 0.05
    assert float(moved.T_camera_object.apply(moved_points[:1])[0, 2]) == pytest.approx(
        scale * float(plain.T_camera_object.apply(case.points[:1])[0, 2]), rel=1e-2
    )


def test_any_number_of_pairs_from_six_on(problem) -> None:
    for count, thickness in product((6, 7, 20, 1024, 1025, 50_000), (1.0, 0.0)):
        case = problem(11, count=count, thickness=thickness)
        found = solve_pose(case.points, case.uv, camera=case.camera)
        assert case.rotation_error_deg(found) < 0.01, (count, thickness)
        assert (found.degeneracy == "few_points") == (count < 12), (count, thickness)


def test_more_pairs_give_a_better_pose_in_one_step(problem) -> None:
    """Pairs outside the sample count fully: errors fall with the root of the number of all pairs."""
    errors = {}
    for count in (1000, 16_000):
        cases = [problem(seed, count=count, noise=0.01) for seed in range(12)]
        found = estimates(
            solve_poses([c.points for c in cases], [c.uv for c in cases], cameras=[c.camera for c in cases])
        )
        squares = [case.rotation_error_deg(one) ** 2 for case, one in zip(cases, found, strict=True)]
        errors[count] = np.sqrt(np.mean(squares))
    assert errors[16_000] < 0.4 * errors[1000]


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_a_batch_equals_its_objects_one_by_one(known, problem) -> None:
    cases = [
        problem(seed, count=count, thickness=thickness, noise=0.002)
        for seed, (count, thickness) in enumerate([(300, 1.0), (80, 0.0), (3000, 0.3), (300, 0.05)])
    ]
    cameras = [case.camera if known else None for case in cases]
    together = estimates(solve_poses([c.points for c in cases], [c.uv for c in cases], cameras=cameras))
    for case, camera, one in zip(cases, cameras, together, strict=True):
        alone = solve_pose(case.points, case.uv, camera=camera)
        torch.testing.assert_close(one.T_camera_object.matrix(), alone.T_camera_object.matrix(), rtol=0, atol=1e-4)
        # The covariance is taken where the last step started, which may be one step on in a batch.
        deviations = [estimate.covariance.diagonal().sqrt() for estimate in (one, alone)]
        torch.testing.assert_close(*deviations, rtol=0.1, atol=0.0)


def test_padding_with_weight_zero_and_mixed_cameras(problem) -> None:
    cases = [problem(seed, count=400, noise=0.002) for seed in range(3)]
    points = torch.stack([torch.cat((case.points, torch.zeros(100, 3).double())) for case in cases])
    uv = torch.stack([torch.cat((case.uv, torch.full((100, 2), 0.5).double())) for case in cases])
    weights = torch.ones(3, 500).double()
    weights[:, 400:] = 0.0
    cameras = [cases[0].camera, None, cases[2].camera]
    for case, camera, one in zip(
        cases, cameras, estimates(solve_poses(points, uv, weights=weights, cameras=cameras)), strict=True
    ):
        alone = solve_pose(case.points, case.uv, camera=camera)
        torch.testing.assert_close(one.T_camera_object.matrix(), alone.T_camera_object.matrix(), rtol=0, atol=1e-6)


def test_one_bad_object_spoils_no_other(problem) -> None:
    good, bad = problem(0), problem(1, count=5)
    results = solve_poses([good.points, bad.points], [good.uv, bad.uv], cameras=good.camera)
    assert good.rotation_error_deg(estimates(results[:1])[0]) < 1e-3
    assert isinstance(results[1], TooFewCorrespondencesError)


def test_numbers_of_inputs_must_agree(problem) -> None:
    case = problem(0)
    with pytest.raises(InvalidTensorError):
        solve_poses([case.points], [case.uv, case.uv])
    with pytest.raises(InvalidTensorError):
        solve_poses([case.points], [case.uv], cameras=[None, None])


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (1920, 1080)])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_images_need_not_be_square(size, known, problem) -> None:
    case = problem(5, thickness=0.3, size=size)
    config = PoseConfig(image_width_px=size[0], image_height_px=size[1])
    found = solve_pose(case.points, case.uv, camera=case.camera if known else None, config=config)
    assert case.rotation_error_deg(found) < 5e-3
    assert (found.camera.width, found.camera.height) == size
    torch.testing.assert_close(found.camera.K, case.camera.K, rtol=2e-3, atol=0.5)


def test_repeating_a_solve_repeats_its_bits(problem) -> None:
    case = problem(6, noise=0.005, outliers=0.3)
    one, other = (solve_pose(case.points, case.uv, camera=case.camera) for _ in range(2))
    assert torch.equal(one.T_camera_object.matrix(), other.T_camera_object.matrix())


@pytest.mark.parametrize(
    "lens",
    [
        Distortion("plumb_bob", (-0.25, 0.08, 1e-3, -5e-4, 0.0)),
        Distortion("equidistant", (0.02, -0.01, 0.003, 0.0)),
    ],
    ids=["plumb_bob", "equidistant"],
)
def test_the_lens_is_taken_off(lens, problem) -> None:
    case = problem(7, thickness=0.3)
    camera = replace(case.camera, distortion=lens)
    seen = case.points @ torch.from_numpy(case.rotation).T + torch.from_numpy(case.translation)
    uv = camera.px_to_uv(camera.project(seen))
    with_lens = solve_pose(case.points, uv, camera=camera)
    without = solve_pose(case.points, uv, camera=case.camera)
    assert case.rotation_error_deg(with_lens) < 1e-3
    assert with_lens.reprojection_rms_px < 1e-2
    assert case.rotation_error_deg(without) > 10.0 * case.rotation_error_deg(with_lens)
    assert without.reprojection_rms_px > 0.1


def test_skew_of_a_given_camera_is_honoured(problem) -> None:
    case = problem(8)
    K = case.camera.K.clone()
    K[0, 1] = 20.0
    camera = replace(case.camera, K=K)
    seen = case.points @ torch.from_numpy(case.rotation).T + torch.from_numpy(case.translation)
    found = solve_pose(case.points, camera.px_to_uv(camera.project(seen)), camera=camera)
    assert case.rotation_error_deg(found) < 1e-3


@pytest.mark.parametrize("intrinsics", ["focal", "prior"])
def test_a_camera_that_is_only_a_prior_is_corrected(intrinsics, problem) -> None:
    case = problem(9, count=3000, noise=0.001)
    K = case.camera.K.clone()
    K[0, 0] *= 1.05
    K[1, 1] *= 1.05
    wrong = replace(case.camera, K=K)
    fixed = solve_pose(case.points, case.uv, camera=wrong)
    found = solve_pose(case.points, case.uv, camera=wrong, config=PoseConfig(intrinsics=intrinsics))
    right = solve_pose(case.points, case.uv, camera=case.camera)
    assert fixed.reprojection_rms_px > 1.2 * right.reprojection_rms_px
    assert found.reprojection_rms_px < 1.02 * right.reprojection_rms_px
    assert float(found.camera.K[0, 0]) == pytest.approx(float(case.camera.K[0, 0]), rel=5e-3)
    assert case.rotation_error_deg(found) < 0.3


def test_a_tight_prior_is_a_fixed_camera_and_a_loose_one_is_none(problem) -> None:
    case = problem(10, count=400, noise=0.003)
    K = case.camera.K * torch.tensor([[1.03], [1.03], [1.0]], dtype=torch.float64)
    wrong = replace(case.camera, K=K)
    tight = PoseConfig(intrinsics="prior", focal_std=1e-7, principal_point_std=1e-7)
    loose = PoseConfig(intrinsics="prior", focal_std=1.0, principal_point_std=0.2)
    fixed = solve_pose(case.points, case.uv, camera=wrong)
    held = solve_pose(case.points, case.uv, camera=wrong, config=tight)
    torch.testing.assert_close(held.T_camera_object.matrix(), fixed.T_camera_object.matrix(), rtol=0, atol=1e-3)
    torch.testing.assert_close(held.camera.K, wrong.K, rtol=1e-5, atol=1e-3)
    free = [solve_pose(case.points, case.uv, camera=camera, config=loose) for camera in (wrong, case.camera)]
    torch.testing.assert_close(free[0].camera.K, free[1].camera.K, rtol=1e-2, atol=2.0)


def test_uncertain_intrinsics_widen_the_covariance(problem) -> None:
    case = problem(12, noise=0.003)
    known = solve_pose(case.points, case.uv, camera=case.camera)
    unsure = solve_pose(case.points, case.uv, camera=case.camera, config=PoseConfig(intrinsics="prior"))
    assert float(torch.linalg.eigvalsh(known.covariance).min()) > 0.0
    assert bool((unsure.covariance.diagonal() > known.covariance.diagonal()).all())


def test_weights_are_inverse_variances(problem) -> None:
    """Half of the pairs ten times noisier and weighted so: as good as the fit to the good half, not worse."""
    errors: dict[str, list[float]] = {"weighted": [], "flat": []}
    for seed in range(12):
        case = problem(seed, count=400, noise=0.001)
        noise = torch.from_numpy(np.random.default_rng(seed).normal(size=(400, 2))) * 0.01
        noise[::2] = 0.0
        weights = torch.where(torch.arange(400) % 2 == 0, 1.0, 0.01).double()
        for name, given_weights in (("weighted", weights), ("flat", None)):
            found = solve_pose(case.points, case.uv + noise, weights=given_weights, camera=case.camera)
            errors[name].append(case.rotation_error_deg(found))
    assert np.median(errors["weighted"]) < 0.07
    assert np.median(errors["weighted"]) < np.median(errors["flat"])


def test_estimates_from_unusual_types(problem) -> None:
    case = problem(13, dtype=torch.float32)
    half = solve_pose(case.points.half(), case.uv, camera=case.camera)
    assert case.rotation_error_deg(half) < 0.5
    camera = Camera.from_parameters(fx=600, fy=600, cx=320, cy=240, width=640, height=480)
    with pytest.raises(InvalidTensorError):
        solve_pose(torch.zeros(10, 3, dtype=torch.int64), torch.zeros(10, 2), camera=camera)


@pytest.mark.parametrize("thickness", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("offset", [0.1, 0.2, 0.35])
def test_exact_pairs_of_a_cropped_image_give_the_exact_pose_without_a_camera(thickness, offset, problem) -> None:
    """The principal point of a crop is not in its middle."""
    for seed in range(4):
        case = problem(seed, thickness=thickness, count=400)
        shift = torch.tensor([offset, -offset / 2], dtype=case.uv.dtype)
        found = solve_pose(case.points, case.uv + shift)
        assert case.rotation_error_deg(found) < 0.5


@pytest.mark.parametrize(("thickness", "noise"), [(0.3, 0.003), (1.0, 0.01)])
def test_an_unknown_principal_point_widens_the_covariance(thickness, noise, problem) -> None:
    for seed, offset in product(range(4), (0.0, 0.1)):
        case = problem(seed, thickness=thickness, count=400, noise=noise)
        found = solve_pose(case.points, case.uv + torch.tensor([offset, 0.0], dtype=case.uv.dtype))
        deviation = np.degrees(np.sqrt(float(found.covariance[3:, 3:].trace())))
        assert case.rotation_error_deg(found) < 5.0 * deviation
