"""Laws of point alignment: truth, weights, mirrors, planes, outliers, honest covariance, refused sets."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch

from cupid_core.config import SimilarityConfig
from cupid_core.errors import AlignmentError, InvalidTensorError
from cupid_core.geometry import SE3, Sim3, align, align_robust


def deviation(estimate: Sim3, truth: Sim3) -> float:
    """Largest entry of the tangent between two similarities."""
    return float((truth.to(dtype=torch.float64) @ estimate.to(dtype=torch.float64).inverse()).log().abs().max())


def cost(transform: Sim3, a: torch.Tensor, b: torch.Tensor, w: torch.Tensor) -> float:
    return float((w * (transform[None].apply(a) - b).square().sum(-1)).sum())


def scene(
    draw, count: int, *, noise: float = 0.0, outliers: float = 0.0, thickness: float = 1.0, scale: float = 0.3
):
    """Points a, points b, truth T_b_a and the outlier mask; noise is relative to the size of b."""
    truth = Sim3.exp(torch.cat((draw(6), scale * draw(1))))
    a = draw(count, 3) * torch.tensor([1.0, 0.8, thickness], dtype=torch.float64)
    b = truth[None].apply(a) + noise * truth.scale * draw(count, 3)
    wrong = torch.arange(count) < round(outliers * count)
    b = torch.where(wrong[:, None], truth[None].apply(3.0 * draw(count, 3)), b)
    return a, b, truth, wrong


def test_exact_data_give_the_truth(draw, dtype, device, tolerance):
    for count, thickness, batch in product((3, 4, 50), (1.0, 0.01, 0.0), ((), (1,), (3,), (2, 4))):
        truth = Sim3.exp(torch.cat((draw(*batch, 6), 0.5 * draw(*batch, 1)), dim=-1))
        a = draw(*batch, count, 3) * torch.tensor([1.0, 0.8, thickness], dtype=torch.float64)
        b = truth[..., None].apply(a)
        estimate = align(a.to(device, dtype), b.to(device, dtype))
        assert estimate.dtype == dtype and estimate.batch_shape == batch
        # Float32 rounds the input already; three points may lie on a short base.
        assert deviation(estimate.to(device="cpu"), truth) < 100 * tolerance, (count, thickness, batch)


def test_alignment_has_the_right_direction():
    """T_b_a maps a to b: twice as large, one metre along x."""
    a = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    estimate = align(a, 2.0 * a + torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(float(estimate.scale), 2.0)
    torch.testing.assert_close(estimate.translation, torch.tensor([1.0, 0.0, 0.0]))


@pytest.mark.parametrize("with_scale", [True, False])
@pytest.mark.parametrize("mirrored", [False, True])
def test_no_neighbor_is_better(draw, with_scale, mirrored):
    """A least-squares solution beats every small step away from it, mirrored data included."""
    a, b, _, _ = scene(draw, 40, noise=0.2)
    b = b * torch.tensor([-1.0 if mirrored else 1.0, 1.0, 1.0], dtype=torch.float64)
    w = draw(40).abs()
    best = align(a, b, w, with_scale)
    assert float(torch.linalg.det(best.rotation())) > 0
    assert with_scale or float(best.scale) == 1.0
    for _ in range(200):
        step = 0.01 * draw(7) * torch.tensor([1.0] * 6 + [float(with_scale)], dtype=torch.float64)
        assert cost(Sim3.exp(step) @ best, a, b, w) >= cost(best, a, b, w)


def test_rigid_alignment_recovers_a_rigid_motion(draw):
    a, truth = draw(30, 3), SE3.exp(draw(6))
    assert deviation(align(a, truth[None].apply(a), with_scale=False), Sim3.from_se3(truth)) < 1e-12


def test_weights_count_points(draw):
    """A weight of 3 is the point three times; a weight of 0 is no point, whatever stands there."""
    a, b, _, _ = scene(draw, 20, noise=0.1)
    w = torch.tensor([3.0] * 5 + [1.0] * 15, dtype=torch.float64)
    repeated = align(torch.cat((a, a[:5], a[:5])), torch.cat((b, b[:5], b[:5])))
    assert deviation(align(a, b, w), repeated) < 1e-12
    holes = torch.full((4, 3), torch.nan, dtype=torch.float64)
    padded = align(torch.cat((a, holes)), torch.cat((b, holes)), torch.cat((w, torch.zeros(4).double())))
    assert deviation(padded, repeated) < 1e-12
    assert deviation(align(a, b, 7.0 * w), repeated) < 1e-12


def test_alignment_moves_with_the_frames(draw):
    """Aligning moved sets gives the moved alignment: T_b2_a2 = M_b @ T_b_a @ M_a^-1."""
    a, b, _, _ = scene(draw, 30, noise=0.1)
    move_a, move_b = (Sim3.exp(draw(7)) for _ in range(2))
    moved = align(move_a[None].apply(a), move_b[None].apply(b))
    assert deviation(moved, move_b @ align(a, b) @ move_a.inverse()) < 1e-12


def degenerate_sets(draw) -> dict[str, torch.Tensor]:
    line = torch.linspace(-1, 1, 12, dtype=torch.float64)[:, None]
    direction = torch.nn.functional.normalize(draw(1, 3), dim=-1)
    missing = draw(12, 3)
    missing[3, 1] = torch.nan
    return {
        "line": line * direction,
        "line far away": line * direction + 100.0,
        "line up to rounding": line * direction + 1e-9 * draw(12, 3),
        "one place": torch.ones(12, 3, dtype=torch.float64) * 0.7,
        "one place up to rounding": 5.0 + 1e-15 * draw(12, 3),
        "missing": missing,
        "infinite": missing.nan_to_num(math.inf),
    }


@pytest.mark.parametrize("method", [align, align_robust])
def test_degenerate_sets_are_refused(draw, method, dtype):
    good = draw(12, 3).to(dtype)
    for name, bad in degenerate_sets(draw).items():
        for pair in ((bad.to(dtype), good), (good, bad.to(dtype))):
            try:
                method(*pair)
            except AlignmentError:
                continue
            pytest.fail(f"{name}: not refused")


def test_too_few_points_are_refused(draw):
    a = draw(20, 3)
    few = (torch.arange(20) < 2).double()
    for call in (
        lambda: align(a[:2], a[:2]),
        lambda: align(a, a, few),
        lambda: align(a, a, torch.zeros(20)),
        lambda: align_robust(a[:7], a[:7]),
        lambda: align_robust(a, a, few),
    ):
        with pytest.raises(AlignmentError):
            call()


def test_a_mirrored_round_set_is_refused():
    """The corners of a cube, mirrored: every turn about the main axis fits equally badly."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    with pytest.raises(AlignmentError):
        align(corners, corners * torch.tensor([-1.0, 1.0, 1.0]))


def test_one_bad_item_of_a_batch_is_named(draw):
    a = draw(4, 10, 3)
    b = a.clone()
    b[2] = 0.0
    with pytest.raises(AlignmentError, match=r"item \[2\]"):
        align(a, b)


def test_wrong_shapes_and_weights_are_refused(draw):
    a = draw(10, 3)
    for call in (
        lambda: align(a, a[:9]),
        lambda: align(a[:, :2], a[:, :2]),
        lambda: align(a, a, torch.ones(9)),
        lambda: align(a, a, -torch.ones(10)),
        lambda: align(a, a, torch.full((10,), torch.nan)),
        lambda: align(a.long(), a.long()),
        lambda: align_robust(a[None], a[None]),
    ):
        with pytest.raises(InvalidTensorError):
            call()


@pytest.mark.parametrize("outliers", [0.0, 0.3, 0.6])
def test_outliers_hardly_change_the_answer(draw, outliers):
    """Beside least squares on the true inliers, which nobody could know, the robust answer is nearly as good."""
    for noise, thickness in product((0.0, 0.01, 0.1), (1.0, 0.0)):
        a, b, truth, wrong = scene(draw, 300, noise=noise, outliers=outliers, thickness=thickness)
        estimate = align_robust(a, b)
        oracle = align(a[~wrong], b[~wrong])
        assert deviation(estimate.T_b_a, oracle) < 0.15 * noise + 1e-9
        assert estimate.inlier_ratio == pytest.approx(1.0 - outliers, abs=0.05)
        assert float(estimate.inliers[wrong].double().sum()) <= 0.05 * 300
        expected = noise * float(truth.scale) * math.sqrt(3)
        assert estimate.residual_rms == pytest.approx(expected, rel=0.15, abs=1e-9)


def test_plain_least_squares_fails_where_the_robust_form_does_not(draw):
    a, b, truth, _ = scene(draw, 300, noise=0.01, outliers=0.4)
    assert deviation(align(a, b), truth) > 0.2
    assert deviation(align_robust(a, b).T_b_a, truth) < 0.01


def test_without_outliers_almost_nothing_is_lost(draw):
    """Tukey's weights cost five percent of efficiency: the robust answer stays within noise of the best one."""
    losses = []
    for seed in range(40):
        a, b, truth, _ = scene(draw, 60, noise=0.02)
        robust = align_robust(a, b, config=SimilarityConfig(seed=seed))
        losses.append(deviation(robust.T_b_a, truth) / deviation(align(a, b), truth))
    assert sum(losses) / len(losses) < 1.15


@pytest.mark.parametrize("with_scale", [True, False])
@pytest.mark.parametrize("outliers", [0.0, 0.25])
def test_covariance_is_honest(draw, outliers, with_scale):
    """The normalized error squared averages to its number of dimensions."""
    free = 7 if with_scale else 6
    squared = []
    for _ in range(300):
        a, b, truth, _ = scene(draw, 80, noise=0.02, outliers=outliers, scale=0.3 if with_scale else 0.0)
        estimate = align_robust(a, b, with_scale=with_scale, config=SimilarityConfig(hypotheses=100))
        error = (truth @ estimate.T_b_a.inverse()).log()[:free]
        squared.append(float(error @ torch.linalg.solve(estimate.covariance[:free, :free], error)))
        assert float(estimate.covariance[free:].abs().sum()) == 0.0
    mean = sum(squared) / len(squared)
    # The mean of 300 such numbers scatters by sqrt(2 / (300 free)), about 3 %.
    assert 0.87 < mean / free < 1.15


def test_covariance_knows_what_is_weak(draw):
    """A narrow strip holds the turn about its own axis badly; the covariance says so, in frame b."""
    a = draw(400, 3) * torch.tensor([1.0, 0.02, 0.0], dtype=torch.float64)
    b = a + 0.005 * draw(400, 3)
    deviations = align_robust(a, b).covariance.diagonal().sqrt()
    assert float(deviations[3]) > 20.0 * float(deviations[4])


def test_prior_weights_are_inverse_variances(draw):
    """Half the points three times as noisy: told so, both forms are clearly better than when not told."""
    told, untold, robust_told, robust_untold = [], [], [], []
    for _ in range(30):
        a, _, truth, _ = scene(draw, 100)
        sigma = torch.where(torch.arange(100) < 50, 0.02, 0.06).double()
        b = truth[None].apply(a) + sigma[:, None] * draw(100, 3)
        best = align(a, b, sigma**-2)
        told.append(deviation(best, truth))
        untold.append(deviation(align(a, b), truth))
        robust_told.append(deviation(align_robust(a, b, sigma**-2).T_b_a, best))
        robust_untold.append(deviation(align_robust(a, b).T_b_a, best))
        assert deviation(align_robust(a, b, 7.0 * sigma**-2).T_b_a, align_robust(a, b, sigma**-2).T_b_a) < 1e-9
    assert sum(told) < 0.85 * sum(untold)
    assert sum(robust_told) < 0.5 * sum(robust_untold)


def test_equal_seeds_give_equal_answers(draw):
    a, b, _, _ = scene(draw, 200, noise=0.02, outliers=0.4)
    first, second = align_robust(a, b), align_robust(a, b)
    assert first.T_b_a.matrix().equal(second.T_b_a.matrix()) and first.covariance.equal(second.covariance)
    by_hand = align_robust(a, b, generator=torch.Generator().manual_seed(SimilarityConfig().seed))
    assert by_hand.T_b_a.matrix().equal(first.T_b_a.matrix())


def test_ignored_points_keep_their_place_in_the_mask(draw):
    a, b, truth, wrong = scene(draw, 100, noise=0.01, outliers=0.2)
    a[50:60] = torch.nan
    w = torch.ones(100, dtype=torch.float64)
    w[50:60] = 0.0
    estimate = align_robust(a, b, w)
    assert not bool(estimate.inliers[50:60].any()) and not bool(estimate.inliers[wrong].any())
    assert deviation(estimate.T_b_a, truth) < 0.02
    assert estimate.inlier_ratio == pytest.approx(70 / 90, abs=0.02)


def test_types_and_devices(draw, dtype, device, tolerance):
    a, b, truth, _ = scene(draw, 100, outliers=0.3)
    estimate = align_robust(a.to(device, dtype), b.to(device, dtype))
    assert estimate.T_b_a.dtype == estimate.covariance.dtype == dtype
    assert estimate.inliers.device.type == estimate.covariance.device.type == device
    assert deviation(estimate.T_b_a.to(device="cpu"), truth) < 10 * tolerance


def test_random_pairs_are_refused(draw):
    """Points matched to the wrong partners have no similarity; there is no answer to invent."""
    for count in (30, 300):
        with pytest.raises(AlignmentError):
            align_robust(draw(count, 3), draw(count, 3))


def test_too_small_a_consensus_is_refused(draw):
    a, b, _, _ = scene(draw, 200, noise=0.01, outliers=0.6)
    with pytest.raises(AlignmentError, match="agree"):
        align_robust(a, b, config=SimilarityConfig(min_inlier_ratio=0.5))
