"""Newton and Levenberg-Marquardt steps on the robust reprojection error, over pose and whatever of K is free.

Batched over objects and starting guesses.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
import torch

from cupid_core.pose.pinhole import Array, IntrinsicsPrior, Pinhole, choose
from cupid_core.pose.point_passes import (
    Curvature,
    PointBlock,
    curvature,
    gradient,
    residuals,
    robust_variance,
    to_array,
    tukey_root,
)

# Damping, relative to the diagonal of the information matrix: first after a failed step, and where we give up.
_FIRST_DAMPING = 1e-4
_LAST_DAMPING = 1e6
_TINY = 1e-200
# Radians up to which a step counts as small even where the deviation is larger: linear thinking ends there.
_SMALL_ANGLE = 0.05


@dataclass(frozen=True)
class Step:
    """One Newton step of B views.

    Attributes:
        full: (B, 10) step of the full parameters.
        covariance: (B, k, k) of the free parameters, pose first: x y z, then rotation, camera frame.
        size: (B,) largest change of a parameter in standard deviations.
        remainder: (B,) what the next step would still change, at most, in standard deviations (large ones count as
            a small angle).
    """

    full: Array
    covariance: Array
    size: Array
    remainder: Array


def newton_step(
    view: Pinhole,
    prior: IntrinsicsPrior,
    curve: Curvature,
    pull: Array,
    variance: Array,
    *,
    damping: Array | float = 0.0,
) -> Step:
    """Solve for the step that makes robust loss plus prior stationary.

    The data count with their information as an M-estimator, slope^2 / spread of what least squares would have, so
    that data and prior are weighed fairly and the inverse is the covariance.

    Args:
        view: where the derivatives were taken.
        prior: of the intrinsics.
        curve: of the same points as `pull`.
        pull: (B, 12) `gradient`.
        variance: (B,) robust variance.
        damping: (B,) or one number, added to the diagonal, relative to it; 0 for a plain Newton step.

    Source: Huber, Robust Statistics, section 7.6 (covariance of M-estimates); Levenberg 1944, Marquardt 1963.
    """
    jacobian = prior.free.T @ view.projection_jacobian()
    trust = curve.slope / (curve.spread * variance)
    information = (jacobian @ curve.normal @ jacobian.swapaxes(1, 2)) * (trust * curve.slope)[:, None, None]
    force = (jacobian @ pull[:, :, None])[:, :, 0] * trust[:, None]
    if prior.size > 6:
        information = information + (prior.free.T * prior.precision[:, None]) @ prior.free
        force = force - (prior.precision * prior.deviation(view)) @ prior.free
    diagonal = np.arange(prior.size)
    # The tiny part keeps views that diverged invertible; they are not selected later.
    information[:, diagonal, diagonal] *= 1.0 + np.reshape(damping, (-1, 1))
    information[:, diagonal, diagonal] += _TINY
    covariance = _inverses(information)
    full = (covariance @ force[:, :, None])[:, :, 0] @ prior.free.T
    deviation = np.sqrt(((prior.free @ covariance) * prior.free).sum(axis=2))
    # Lengths relative to the distance, image coordinates relative to the focal length: angles, like the rotation.
    unit = np.ones_like(full)
    unit[:, :3] /= np.abs(view.translation[:, 2:])
    unit[:, 8:] /= view.intrinsics[:, :1]
    # After a step of d radians a Newton method has an error of about d^2.
    allowed = np.clip(deviation * unit, _TINY, _SMALL_ANGLE)
    remainder = ((full * unit) ** 2 / allowed).max(axis=1)
    size = (np.abs(full) / np.maximum(deviation, _TINY)).max(axis=1)
    return Step(full, np.asarray(covariance, dtype=np.float64), size, remainder)


def _inverses(matrices: Array) -> Array:
    """Inverses (B, k, k); NaN for a singular one, which no comparison selects later."""
    try:
        return np.asarray(np.linalg.inv(matrices), dtype=np.float64)
    except np.linalg.LinAlgError:  # one view that diverged must not end the others
        found = np.full_like(matrices, np.nan)
        for inverse, matrix in zip(found, matrices, strict=True):
            with contextlib.suppress(np.linalg.LinAlgError):
                inverse[:] = np.linalg.inv(matrix)
        return found


def refine(
    block: PointBlock,
    start: Pinhole,
    prior: IntrinsicsPrior,
    *,
    cutoff: float,
    tolerance: float = 1e-3,
    max_iterations: int = 30,
) -> tuple[Pinhole, Array]:
    """Robust Levenberg-Marquardt with analytic derivatives, IRLS with Tukey's weights and a scale from the median.

    Args:
        block: B objects; every point that counts must lie in front of its start.
        start: B views.
        prior: what is free and what is known of the intrinsics.
        cutoff: residual, in robust standard deviations, from which a point is ignored.
        tolerance: stop when what is left to gain is below this many standard deviations.
        max_iterations: bound for all.

    Returns:
        The views, and their robust variances per image coordinate (B,). A view that cannot be improved is returned
        as it is; the caller has to check whether it explains the points.
    """
    view, damping, done = start, np.zeros(len(start)), np.zeros(len(start), dtype=np.bool_)
    residual = residuals(block, view.projection())
    for _ in range(max_iterations):
        variance = robust_variance(block, residual, cutoff)
        root = tukey_root(residual, variance, cutoff)
        curve = curvature(block, residual, root, cutoff)
        step = newton_step(view, prior, curve, gradient(block, residual, root), variance, damping=damping)
        trial = view.moved(step.full)
        trial_residual = residuals(block, trial.projection())
        trial_root = tukey_root(trial_residual, variance, cutoff)
        weight = curve.slope / curve.spread * cutoff**2 / 6.0
        gain = weight * to_array((trial_root * trial_root * trial_root - root * root * root).sum(dim=(1, 2)))
        gain += prior.penalty(view) - prior.penalty(trial)
        in_front = to_array(trial_residual.inverse_depth.amin(dim=(1, 2))) > 0.0
        # Rounding of the sums decides near the optimum; a step that small is as good as any.
        better = ((gain >= 0.0) | (step.remainder <= tolerance)) & in_front & ~done
        view = choose(better, trial, view)
        residual = trial_residual.where(torch.from_numpy(better)[:, None, None], residual)
        done |= (better & (step.remainder <= tolerance) & (damping <= _FIRST_DAMPING)) | (damping > _LAST_DAMPING)
        if done.all():
            break
        lower = np.where(damping > _FIRST_DAMPING, damping * 0.1, 0.0)
        damping = np.where(better, lower, np.maximum(damping * 10.0, _FIRST_DAMPING))
    return view, robust_variance(block, residual, cutoff)
