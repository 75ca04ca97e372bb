"""The passes over points against plain definitions and numerical derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cupid_core.pose.pinhole import Pinhole
from cupid_core.pose.point_passes import (
    PointBlock,
    curvature,
    full_gradient,
    gradient,
    inlier_sums,
    residuals,
    robust_variance,
    tukey_root,
)

CUTOFF = 6.0


def block_of(case, weights: torch.Tensor | None = None) -> PointBlock:
    ones = torch.ones_like(case.points[:, :1])
    return PointBlock(
        torch.cat((case.points, ones), dim=1).T[None],
        case.uv.T.contiguous()[None],
        None if weights is None else weights[None, None],
    )


def matrix_of(case) -> np.ndarray:
    K = case.camera.K_normalized().numpy()
    view = Pinhole(case.rotation[None], case.translation[None], np.array([[K[0, 0], K[1, 1], K[0, 2], K[1, 2]]]))
    return view.projection()


def loss(block: PointBlock, matrix: np.ndarray, variance: np.ndarray) -> float:
    root = tukey_root(residuals(block, matrix), variance, CUTOFF)
    return float((1.0 - root**3).sum()) * CUTOFF**2 * float(variance[0]) / 6.0


@pytest.fixture(params=["plain", "weighted"])
def case_and_block(request, problem):
    case = problem(1, count=300, noise=0.004, outliers=0.2)
    weights = torch.linspace(0.0, 2.0, 300, dtype=torch.float64) if request.param == "weighted" else None
    return case, block_of(case, weights)


def test_gradient_is_the_downhill_derivative_of_the_robust_loss(case_and_block) -> None:
    case, block = case_and_block
    matrix, variance = matrix_of(case), np.array([0.004**2])
    residual = residuals(block, matrix)
    found = gradient(block, residual, tukey_root(residual, variance, CUTOFF))[0]
    for entry in range(12):
        change = np.zeros(12)
        change[entry] = 1e-7
        up, down = (loss(block, matrix + sign * change.reshape(1, 3, 4), variance) for sign in (1.0, -1.0))
        assert -(up - down) / 2e-7 == pytest.approx(found[entry], rel=1e-4, abs=1e-6)


def test_one_pass_form_equals_the_separate_passes(case_and_block) -> None:
    case, block = case_and_block
    matrix, variance = matrix_of(case), np.array([0.004**2])
    residual = residuals(block, matrix)
    root = tukey_root(residual, variance, CUTOFF)
    pull, inliers, closeness = full_gradient(block, matrix[0], float(variance[0]), CUTOFF)
    np.testing.assert_allclose(pull, gradient(block, residual, root)[0], rtol=1e-10, atol=1e-12)
    expected = inlier_sums(block, root)
    assert (inliers, closeness) == pytest.approx((float(expected[0][0]), float(expected[1][0])))


def test_normal_matrix_is_the_weighted_product_of_derivatives(case_and_block) -> None:
    case, block = case_and_block
    matrix, variance = torch.from_numpy(matrix_of(case)), np.array([0.004**2])
    residual = residuals(block, matrix.numpy())
    root = tukey_root(residual, variance, CUTOFF)
    weight = (root**2)[0, 0] * (1.0 if block.weights is None else block.weights[0, 0])

    def predict(flat: torch.Tensor) -> torch.Tensor:
        seen = flat.reshape(3, 4) @ block.points[0]
        return seen[:2] / seen[2:]

    jacobian = torch.autograd.functional.jacobian(predict, matrix.flatten())
    expected = torch.einsum("cni,n,cnj->ij", jacobian, weight, jacobian)
    found = curvature(block, residual, root, CUTOFF).normal[0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-9, atol=1e-9)


def test_padding_changes_nothing(problem) -> None:
    case = problem(2, count=200, noise=0.004)
    plain = block_of(case)
    padded = PointBlock(
        torch.cat((plain.points, plain.points[:, :, :50]), dim=2),
        torch.cat((plain.image, torch.rand(1, 2, 50, dtype=torch.float64)), dim=2),
        torch.cat((torch.ones(1, 1, 200), torch.zeros(1, 1, 50)), dim=2).double(),
    )
    matrix, results = matrix_of(case), []
    for block in (plain, padded):
        residual = residuals(block, matrix)
        variance = robust_variance(block, residual, CUTOFF)
        root = tukey_root(residual, variance, CUTOFF)
        curve = curvature(block, residual, root, CUTOFF)
        parts = (variance, curve.normal, curve.slope, curve.spread, gradient(block, residual, root))
        results.append([*parts, *inlier_sums(block, root), block.counts()])
    for left, right in zip(*results, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("outliers", [0.0, 0.1, 0.3])
def test_scale_is_that_of_the_inliers(outliers: float, problem) -> None:
    case = problem(4, count=20_000, noise=0.004, outliers=outliers)
    block = block_of(case)
    variance = robust_variance(block, residuals(block, matrix_of(case)), CUTOFF)
    assert np.sqrt(variance[0]) == pytest.approx(0.004, rel=0.05)


def test_loss_constants_are_those_of_gaussian_noise(problem) -> None:
    """Slope and spread of Tukey's function, by integration over the chi-square distribution."""
    case = problem(5, count=40_000, noise=0.004)
    block = block_of(case)
    residual = residuals(block, matrix_of(case))
    root = tukey_root(residual, np.array([0.004**2]), CUTOFF)
    curve = curvature(block, residual, root, CUTOFF)
    squared = np.linspace(0.0, 60.0, 600_001)
    density = 0.5 * np.exp(-0.5 * squared)
    s = np.maximum(1.0 - squared / CUTOFF**2, 0.0)

    def mean(values: np.ndarray) -> float:
        return float((values * density).sum() * (squared[1] - squared[0]))

    # Derivative of the influence s^2 r, averaged over directions: s^2 - 2 s (1 - s) below the cutoff.
    slope = mean(s**2 - 2.0 * s * (1.0 - s)) / mean(s**2)
    spread = mean(s**4 * squared) / 2.0 / mean(s**2)
    assert curve.slope[0] == pytest.approx(slope, rel=0.01)
    assert curve.spread[0] == pytest.approx(spread, rel=0.02)
