"""The passes over points: everything whose cost grows with the number of correspondences.

A pass takes thousands of points and returns a few small matrices, so the rest of the room is small algebra. Passes
are torch, structure-of-arrays, batched, on the device and in the type of their points; what they return is float64
numpy.

All solvers here rest on one fact. With X a homogeneous point and (u, v) its image, every quadratic form that a
camera solver needs is made of the same 4x4 blocks, sums over points of a X X^T with a in 1, u, v, u^2 + v^2: the
normal matrix of the DLT (measured u, v), and that of Gauss-Newton by the twelve entries of the projection matrix
(predicted u, v, divided by depth). Any other parametrization follows by the chain rule, without another pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupid_core.pose.pinhole import Array

Blocks: TypeAlias = tuple[Array, Array, Array, Array]

# Median of a squared 2D residual with unit variance per coordinate (chi square, two degrees of freedom).
_MEDIAN_CHI_SQUARE_2 = 1.3862943611198906
# Noise of a thousandth of a pixel is none; the floor lets exact data converge before their scale shrinks to zero.
_VARIANCE_FLOOR = 3e-5**2


@dataclass(frozen=True)
class PointBlock:
    """Correspondences of B objects, padded to one length.

    Attributes:
        points: (B, 4, n) homogeneous object points, last row ones.
        image: (B, 2, n) square image coordinates.
        weights: (B, 1, n) relative inverse variances, 0 for what does not count; None means all ones.
    """

    points: Tensor
    image: Tensor
    weights: Tensor | None = None

    def __getitem__(self, index: Tensor) -> PointBlock:
        """The objects of the batch with these numbers, (C,) int64; repeats are allowed."""
        weights = None if self.weights is None else self.weights[index]
        return PointBlock(self.points[index], self.image[index], weights)

    def counts(self) -> Array:
        """Number of points that count, per object, (B,)."""
        if self.weights is None:
            return np.full(len(self.points), float(self.points.shape[2]))
        return to_array(self.weights.count_nonzero(dim=(1, 2)))


@dataclass(frozen=True)
class Residuals:
    """Points projected by projection matrices.

    Attributes:
        predicted: (B, 2, n) projections.
        difference: (B, 2, n) measured minus predicted.
        squared: (B, 1, n) squared length of the difference times the weight.
        inverse_depth: (B, 1, n).
    """

    predicted: Tensor
    difference: Tensor
    squared: Tensor
    inverse_depth: Tensor

    def where(self, chosen: Tensor, other: Residuals) -> Residuals:
        """These where `chosen` (B, 1, 1) is true, `other` elsewhere."""
        return Residuals(
            torch.where(chosen, self.predicted, other.predicted),
            torch.where(chosen, self.difference, other.difference),
            torch.where(chosen, self.squared, other.squared),
            torch.where(chosen, self.inverse_depth, other.inverse_depth),
        )


@dataclass(frozen=True)
class Curvature:
    """Curvature of the robust loss around a view, and its gradient.

    Attributes:
        normal: (B, 12, 12) sum over points of weight times J^T J, by the entries of the projection matrix.
        slope: (B,) mean derivative of Tukey's influence function over mean weight; Newton's second derivative is
            slope times normal.
        spread: (B,) variance of the influence function over variance and mean weight; the covariance of the
            gradient is spread times variance times normal.
    """

    normal: Array
    slope: Array
    spread: Array


def to_array(tensor: Tensor) -> Array:
    """A small tensor as float64 numpy on the CPU."""
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)


def residuals(block: PointBlock, projection: Array) -> Residuals:
    """Project all points with the matrices (B, 3, 4) and compare with the image."""
    homogeneous = torch.from_numpy(projection).to(block.points) @ block.points
    inverse_depth = homogeneous[:, 2:].reciprocal()
    predicted = homogeneous[:, :2] * inverse_depth
    difference = block.image - predicted
    square = difference * difference
    squared = square[:, :1] + square[:, 1:]
    if block.weights is not None:
        squared = squared * block.weights
    return Residuals(predicted, difference, squared, inverse_depth)


def robust_variance(block: PointBlock, residual: Residuals, cutoff: float) -> Array:
    """Variance per image coordinate from the median squared residual of the inliers, (B,).

    A first median over all pairs, of which half may be outliers, selects the inliers; a second one over those is
    free of the outliers' pull, which at 30 % outliers would widen the scale by a third.
    """
    squared = residual.squared
    if block.weights is not None:
        squared = torch.where(block.weights > 0, squared, torch.inf)
    ordered = np.sort(to_array(squared)[:, 0], axis=1)
    rows = np.arange(len(ordered))
    first = ordered[rows, _middle(block.counts())]
    inside = (ordered <= first[:, None] * (cutoff**2 / _MEDIAN_CHI_SQUARE_2)).sum(axis=1)
    return ordered[rows, _middle(inside)] / _MEDIAN_CHI_SQUARE_2 + _VARIANCE_FLOOR


def tukey_root(residual: Residuals, variance: Array, cutoff: float) -> Tensor:
    """Square root s of Tukey's weight: s = 1 - squared / (cutoff^2 variance), at least zero; (B, 1, n).

    The weight is s^2, the loss (cutoff^2 variance / 6)(1 - s^3).

    Source: Beaton and Tukey 1974, on the length of the 2D residual.
    """
    scale = torch.from_numpy(-1.0 / (cutoff**2 * variance)).to(residual.squared)
    return (residual.squared * scale[:, None, None]).add_(1.0).clamp_min_(0.0)


def gram_blocks(points: Tensor, image: Tensor) -> Blocks:
    """The four blocks of the 12x12 normal matrix that differ.

    Args:
        points: (B, 4, n), homogeneous points times anything (root weight, inverse depth).
        image: (B, 2, n), u and v.

    Returns:
        Four (B, 4, 4): sums over points of a X X^T for a = 1, u, v, u^2 + v^2.
    """
    stacked = torch.cat((points, points * image[:, :1], points * image[:, 1:]), dim=1)
    gram = to_array(stacked @ stacked.mT)
    squares = gram[:, 4:8, 4:8] + gram[:, 8:, 8:]
    return gram[:, :4, :4], gram[:, :4, 4:8], gram[:, :4, 8:], squares


def curvature(block: PointBlock, residual: Residuals, root: Tensor, cutoff: float) -> Curvature:
    """Second-order quantities of the robust loss.

    Args:
        block: B objects.
        residual: at the view.
        root: (B, 1, n) of `tukey_root`.
        cutoff: of `tukey_root`.
    """
    scaled = root * residual.inverse_depth
    if block.weights is not None:
        scaled = scaled * block.weights.sqrt()
    one, u, v, squares = gram_blocks(block.points * scaled, residual.predicted)
    normal = np.zeros((len(one), 12, 12))
    normal[:, :4, :4] = normal[:, 4:8, 4:8] = one
    normal[:, :4, 8:] = normal[:, 8:, :4] = -u
    normal[:, 4:8, 8:] = normal[:, 8:, 4:8] = -v
    normal[:, 8:, 8:] = squares
    second = root * root
    fourth = second * second
    sums = to_array(torch.cat((root, second, fourth, fourth * root), dim=1).sum(dim=2))
    # Padding has no residual, so s = 1 there.
    s1, s2, s4, s5 = (sums - (block.points.shape[2] - block.counts())[:, None]).T
    s2 = np.maximum(s2, 1.0)
    slope = np.maximum(3.0 - 2.0 * s1 / s2, 0.3)
    spread = np.maximum(0.5 * cutoff**2 * (s4 - s5) / s2, 0.1)
    return Curvature(normal, slope, spread)


def gradient(block: PointBlock, residual: Residuals, root: Tensor) -> Array:
    """J^T W r by the twelve entries of the projection matrix, (B, 12)."""
    factor = root * root * residual.inverse_depth
    if block.weights is not None:
        factor = factor * block.weights
    pull = residual.difference * factor
    rows = to_array(torch.cat((pull, pull * residual.predicted), dim=1) @ block.points.mT)
    return np.concatenate((rows[:, 0], rows[:, 1], -rows[:, 2] - rows[:, 3]), axis=1)


def inlier_sums(block: PointBlock, root: Tensor) -> tuple[Array, Array]:
    """Number of pairs with residuals below the cutoff, and the sum of their `tukey_root`; (B,) each."""
    if block.weights is not None:
        root = root * (block.weights > 0)
    if len(root) == 1:
        return np.array([float(root.count_nonzero())]), np.array([float(root.sum())])
    return to_array(root.count_nonzero(dim=(1, 2))), to_array(root.sum(dim=(1, 2)))


def full_gradient(
    block: PointBlock, projection: Array, variance: float, cutoff: float
) -> tuple[Array, float, float]:
    """`gradient` and `inlier_sums` of one object in one go, for the many points outside the sample.

    The same numbers as `residuals`, `tukey_root`, `gradient`, `inlier_sums` (a test holds them together), but in
    place and without batch: on a CPU this pass is what a large object costs.

    Args:
        block: a batch of one.
        projection: (3, 4).
        variance: robust variance.
        cutoff: of `tukey_root`.

    Returns:
        Gradient (12,), number of inliers, sum of their roots.
    """
    points, weights = block.points[0], None if block.weights is None else block.weights[0, 0]
    homogeneous = torch.from_numpy(projection).to(points) @ points
    inverse_depth = homogeneous[2].reciprocal()
    predicted = homogeneous[:2].mul_(inverse_depth)
    pull = block.image[0] - predicted
    square = pull * pull
    root = torch.add(square[0], square[1])
    if weights is not None:
        root.mul_(weights)
    root = root.mul_(-1.0 / (cutoff**2 * variance)).add_(1.0).clamp_min_(0.0)
    factor = inverse_depth.mul_(root).mul_(root)
    if weights is not None:
        root.mul_(weights > 0)
        factor.mul_(weights)
    pull.mul_(factor)
    rows = to_array(torch.cat((pull, predicted.mul_(pull))) @ points.T)
    along = rows[2] + rows[3]
    return np.concatenate((rows[0], rows[1], -along)), float(root.count_nonzero()), float(root.sum())


def _middle(count: Array | NDArray[np.intp]) -> NDArray[np.intp]:
    """Index of the (lower) median among so many ordered values."""
    return (np.maximum(count, 1).astype(np.intp) - 1) // 2
