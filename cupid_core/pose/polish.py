"""The last Newton steps, over all points, and the covariance and inliers of the fit.

A start from a sample of n points is off by about 1/sqrt(n); one Newton step on all N points from there has the
full 1/sqrt(N) accuracy (the one-step estimator of Le Cam). So all points are visited once or twice, not once per
iteration: they give the gradient, the sample gives scale and curvature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cupid_core.config import PoseConfig
from cupid_core.pose.correspondences import Observation
from cupid_core.pose.pinhole import Array, IntrinsicsPrior, Mask, Pinhole, choose
from cupid_core.pose.point_passes import (
    PointBlock,
    Residuals,
    curvature,
    full_gradient,
    gradient,
    inlier_sums,
    residuals,
    robust_variance,
    to_array,
    tukey_root,
)
from cupid_core.pose.refine import newton_step

# Stop when a further step would move no angle by more than this many of its standard deviations.
_TOLERANCE = 0.1
# Robust weights change with the pose, which costs a Newton step a few percent of its length. Where the sample is
# all there is another step is cheap, and taken while steps are longer than this many standard deviations.
_SETTLED_SIZE = 0.5
# Growth of the robust variance by a step that rounding and outliers changing sides do not explain.
_WORSE = 1.5


@dataclass(frozen=True)
class Fit:
    """B poses with their covariance, inliers and errors.

    Attributes:
        view: the poses.
        covariance: (B, k, k) of the free parameters.
        variance: (B,) robust variance per square image coordinate.
        inlier_ratio: (B,) share of the pairs that count with a residual below the cutoff.
        squared_error: (B,) mean squared residual length of those, square image coordinates.
        remainder: (B,) what a further step might change, in standard deviations.
        sound: (B,) whether the last step was accepted; where it was not, `view` is the one before.
    """

    view: Pinhole
    covariance: Array
    variance: Array
    inlier_ratio: Array
    squared_error: Array
    remainder: Array
    sound: Mask


def polish(
    observations: Sequence[Observation],
    sample: PointBlock,
    start: Pinhole,
    prior: IntrinsicsPrior,
    config: PoseConfig,
    max_steps: int = 5,
) -> Fit:
    """Newton steps on all points of B objects.

    Args:
        observations: B objects.
        sample: their samples as one block.
        start: B views, good to a few standard deviations of the sample.
        prior: of B objects.
        config: robust cutoff and border margin.
        max_steps: bound.
    """
    view, cutoff = start, config.tukey_cutoff
    complete = np.array([item.is_sample for item in observations])
    done, sound = np.zeros((2, len(observations)), dtype=np.bool_)
    residual = residuals(sample, view.projection())
    for _ in range(max_steps):
        variance = robust_variance(sample, residual, cutoff)
        root = tukey_root(residual, variance, cutoff)
        curve = curvature(sample, residual, root, cutoff)
        if complete.all():
            total, pull = sample.counts(), gradient(sample, residual, root)
            inliers, closeness = inlier_sums(sample, root)
        else:
            total, pull, inliers, closeness = _full_pass(observations, view, variance, cutoff)
            curve = replace(curve, normal=curve.normal * (total / sample.counts())[:, None, None])
        # Residuals of few points are smaller than their noise by what the parameters absorb.
        redundancy = 2.0 * total / np.maximum(2.0 * total - prior.size, 1.0)
        step = newton_step(view, prior, curve, pull, variance * redundancy)
        trial = view.moved(step.full)
        settled = (step.remainder <= _TOLERANCE) & (~complete | (step.size <= _SETTLED_SIZE))
        good = _in_front(residual)
        if not (settled | done).all():
            # Where the pose is hardly determined, a large step may lead from a good fit to a bad one.
            residual = residuals(sample, trial.projection())
            good &= _in_front(residual) & (robust_variance(sample, residual, cutoff) <= _WORSE * variance)
        # Who is done stays, so that an object's pose does not depend on its company.
        sound = np.where(done, sound, good)
        view = choose(good & ~done, trial, view)
        done = done | settled | ~good
        if done.all():
            break
        if done.any():
            residual = residuals(sample, view.projection())
    squared_error = cutoff**2 * variance * (inliers - closeness) / np.maximum(inliers, 1.0)
    return Fit(view, step.covariance, variance, inliers / total, squared_error, step.remainder, sound)


def _in_front(residual: Residuals) -> Mask:
    return np.asarray(to_array(residual.inverse_depth.amin(dim=(1, 2))) > 0.0)


def _full_pass(
    observations: Sequence[Observation], view: Pinhole, variance: Array, cutoff: float
) -> tuple[Array, Array, Array, Array]:
    """Number of pairs that count (B,), gradient (B, 12), and the two `inlier_sums` (B,), over all pairs."""
    matrix = view.projection()
    passes = [
        full_gradient(item.sample if item.is_sample else item.block, matrix[i], float(variance[i]), cutoff)
        for i, item in enumerate(observations)
    ]
    pull = np.stack([gradient for gradient, _, _ in passes])
    inliers, closeness = np.array([sums for _, *sums in passes]).T
    return np.array([float(item.usable) for item in observations]), pull, inliers, closeness
