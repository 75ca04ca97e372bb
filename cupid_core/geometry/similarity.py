"""Similarity between two sets of matched points: closed form, weighted, and robust with a covariance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cupid_core.config import SimilarityConfig
from cupid_core.errors import AlignmentError, InvalidTensorError
from cupid_core.geometry import so3
from cupid_core.geometry.sim3 import Sim3
from cupid_core.geometry.umeyama import (
    ROUNDING_STEPS,
    Fit,
    checked_pairs,
    require_defined,
    spread_out,
    umeyama,
)

# Tukey's biweight for residuals in three dimensions: 95 % efficient on clean Gaussian noise at 5.49 sigma.
_TUKEY_SIGMAS = 5.49
# Median length of a three-dimensional Gaussian residual of unit sigma, and where its tail ends (99.9 %).
_MEDIAN_LENGTH = 1.5382
_TAIL_SIGMAS = 4.0
# Noise levels tried for the start: from the finest one on, doubling.
_NOISE_STEPS = 6
_MAX_SCORED_POINTS = 512
_SETTLED = 1e-6
_UNKNOWNS = 7
_MIN_ROBUST_POINTS = 8
# Points matched at random are fitted best by shrinking one set to a dot, which explains nothing.
_MIN_EXPLAINED = 0.5


@dataclass(frozen=True, eq=False)
class SimilarityEstimate:
    """A robust alignment and how well it is known.

    Attributes:
        T_b_a: similarity from frame a to frame b.
        covariance: (7, 7) of the tangent [rho, omega, log-scale] that corrects from the left, in frame b:
            truth = Sim3.exp(delta) @ T_b_a. Zero row and column for the log-scale when the scale was fixed.
        inliers: (N,) bool, the points that have influence.
        inlier_ratio: fraction of inliers among the points of positive weight.
        residual_rms: root mean square length of the inliers' residuals, unit of b.
    """

    T_b_a: Sim3
    covariance: Tensor
    inliers: Tensor
    inlier_ratio: float
    residual_rms: float


def align(points_a: Tensor, points_b: Tensor, weights: Tensor | None = None, with_scale: bool = True) -> Sim3:
    """Least-squares similarity T_b_a: minimizes the weighted sum of |s R a + t - b|^2.

    Args:
        points_a: (*B, N, 3), N >= 3, any unit.
        points_b: (*B, N, 3), matched by index, any unit.
        weights: (*B, N) >= 0, linear: a weight of 2 counts like the point twice. Points of weight 0 may be NaN.
            Code that multiplies both centered sets by w, as the published CUPID does, has the effective weight w^2
            in rotation and scale; give w^2 here to match these.
        with_scale: False keeps the scale at 1.

    Returns:
        Sim3 of batch (*B), in the type of `points_a`. Always a proper rotation: a mirrored set gets the best
        proper one. Planar sets are fine.

    Raises:
        InvalidTensorError: shapes or types do not fit, or a weight is negative or not finite.
        AlignmentError: a set of the batch has fewer than 3 points of positive weight, a NaN among them, all points
            at one place or on one line, or is mirrored and round so that its rotation is free. Not detected: sets
            that are nearly so at the level of their noise; `align_robust` shows that in its covariance.

    Source: Umeyama, Least-squares estimation of transformation parameters between two point patterns, 1991.
    """
    a, b, w = checked_pairs(points_a, points_b, weights)
    fit = umeyama(a, b, w, with_scale)
    require_defined(fit.defined & spread_out(a, w, points_a.dtype) & spread_out(b, w, points_b.dtype))
    return fit.transform().to(dtype=points_a.dtype)


def align_robust(
    points_a: Tensor,
    points_b: Tensor,
    weights: Tensor | None = None,
    *,
    with_scale: bool = True,
    config: SimilarityConfig | None = None,
    generator: torch.Generator | None = None,
) -> SimilarityEstimate:
    """Similarity T_b_a under outliers: best of many three-point alignments, then reweighted least squares.

    Minimum N is 8, for the points and for the inliers; `align` takes fewer. Starts are found with up to about 70 %
    outliers at the default number of samples. The noise level is estimated, so no threshold in metres is needed.

    Args:
        points_a: (N, 3) any unit.
        points_b: (N, 3) matched by index, any unit.
        weights: (N,) >= 0, linear, as relative inverse variances of the residuals. Points of weight 0 may be NaN.
        with_scale: False keeps the scale at 1.
        config: settings; the defaults where None.
        generator: CPU generator of the random samples; where None, one seeded by the settings, so equal input
            gives equal output.

    Returns:
        The estimate. Its covariance assumes independent noise of equal variance (after weighting) in all
        directions, of unknown size, on points_b; noise on points_a is counted too, but shrinks the scale a little.

    Raises:
        InvalidTensorError: as `align`, or the input is batched.
        AlignmentError: as `align`, with 8 instead of 3 points; no alignment is supported by enough points, or the
            best one leaves more than half of the inliers' variance unexplained. Not detected: a majority of
            outliers that agree with each other on another motion.
    """
    if points_a.ndim != 2:
        raise InvalidTensorError(
            f"align_robust got shape {tuple(points_a.shape)}, expected (N, 3).", hint="Call it once per object."
        )
    settings = config or SimilarityConfig()
    a, b, w = checked_pairs(points_a, points_b, weights, minimum=_MIN_ROBUST_POINTS)
    used = torch.nonzero(w > 0).squeeze(-1)
    a, b, w = a[used], b[used], w[used] / w[used].mean()
    require_defined(spread_out(a, w, points_a.dtype) & spread_out(b, w, points_b.dtype))
    draws = generator or torch.Generator().manual_seed(settings.seed)
    start, noise = _start(a, b, w, with_scale=with_scale, settings=settings, generator=draws)
    fit, influence, sigma = _reweight(
        a, b, w, with_scale=with_scale, start=start, noise=noise, rounds=settings.max_iterations
    )
    chosen, residuals = influence > 0, b - fit.apply(a)
    _require_agreement(b, residuals, chosen, settings.min_inlier_ratio)
    require_defined(fit.defined & spread_out(a[chosen], w[chosen], points_a.dtype))
    inliers = torch.zeros(points_a.shape[0], dtype=torch.bool, device=points_a.device)
    inliers[used[chosen]] = True
    return SimilarityEstimate(
        T_b_a=fit.transform().to(dtype=points_a.dtype),
        covariance=_covariance(b - residuals, residuals, w, sigma, with_scale).to(points_a.dtype),
        inliers=inliers,
        inlier_ratio=float(chosen.double().mean()),
        residual_rms=float(residuals[chosen].square().sum(-1).mean().sqrt()),
    )


def _start(
    a: Tensor, b: Tensor, w: Tensor, *, with_scale: bool, settings: SimilarityConfig, generator: torch.Generator
) -> tuple[Fit, float]:
    """The most likely three-point alignment and noise level, with outliers spread evenly over the scene.

    Returns:
        The fit, and sigma per axis in the unit of b, from a ladder of doublings.

    Source: Torr and Zisserman, MLESAC, 2000, with the noise level searched as well.
    """
    count = a.shape[0]
    triples = torch.randint(count, (settings.hypotheses, 3), generator=generator).to(a.device)
    scored = torch.randperm(count, generator=generator)[:_MAX_SCORED_POINTS].to(a.device)
    fits = umeyama(a[triples], b[triples], w[triples], with_scale)
    size = float((b - b.median(dim=0).values).norm(dim=-1).median())
    squared = (fits.apply(a[scored]) - b[scored]).square().sum(-1)
    likelihoods = []
    ladder = [settings.finest_noise * size * 2.0**step for step in range(_NOISE_STEPS)]
    for sigma in ladder:
        # Density of a Gaussian inlier over that of an outlier somewhere within twice the size of the object.
        peak = (4.0 * size) ** 3 / (sigma * (2.0 * torch.pi) ** 0.5) ** 3
        likelihoods.append((w[scored] * (1.0 + peak * (squared / (-2.0 * sigma**2)).exp()).log()).sum(-1))
    likelihood = torch.stack(likelihoods)
    # A triple with a repeated or collinear point defines no rotation and may not win by luck.
    likelihood = torch.where(fits.defined & likelihood.isfinite(), likelihood, -torch.inf)
    step, best = divmod(int(likelihood.argmax()), settings.hypotheses)
    if not bool(fits.defined[best]):
        raise AlignmentError(
            f"None of {settings.hypotheses} drawn triples determines a similarity.",
            hint="Give points from an area, or raise similarity.hypotheses.",
        )
    return Fit(fits.scale[best], fits.rotation[best], fits.translation[best], fits.defined[best]), ladder[step]


def _reweight(
    a: Tensor, b: Tensor, w: Tensor, *, with_scale: bool, start: Fit, noise: float, rounds: int
) -> tuple[Fit, Tensor, float]:
    """Iteratively reweighted least squares with Tukey's biweight; noise level and fit settle together.

    Returns:
        The fit, the influence (N,) of every point in [0, 1], and the noise level sigma per axis, unit of b.
    """
    floor = ROUNDING_STEPS * torch.finfo(a.dtype).eps * float(b.abs().max())
    fit, sigma = start, noise
    influence = torch.ones_like(w)
    for _ in range(rounds):
        lengths = (fit.apply(a) - b).norm(dim=-1) * w.sqrt()
        near = lengths[lengths <= _TAIL_SIGMAS * sigma]
        # Without inliers sigma stays; the caller then counts too few of them and raises.
        if near.numel() > 0:
            lost = _UNKNOWNS / (3.0 * max(near.numel(), _MIN_ROBUST_POINTS))
            sigma = max(float(near.median()) / (_MEDIAN_LENGTH * (1.0 - lost) ** 0.5), floor)
        previous, influence = influence, _tukey(lengths / sigma)
        settled = float((previous - influence).abs().max()) < _SETTLED
        if settled or int((influence > 0).sum()) < _MIN_ROBUST_POINTS:
            break
        fit = umeyama(a, b, w * influence, with_scale)
    return fit, influence, sigma


def _require_agreement(b: Tensor, residuals: Tensor, chosen: Tensor, min_ratio: float) -> None:
    """Raise for a fit with too few inliers, or one that its inliers do not determine."""
    count, total = int(chosen.sum()), chosen.numel()
    if count < _MIN_ROBUST_POINTS or count < min_ratio * total:
        raise AlignmentError(
            f"Only {count} of {total} points agree on one similarity, expected {min_ratio:.0%} of them "
            f"and at least {_MIN_ROBUST_POINTS}.",
            hint="Check that the points are matched by index, or lower similarity.min_inlier_ratio.",
        )
    spread = (b[chosen] - b[chosen].mean(dim=0)).square().sum()
    explained = 1.0 - float(residuals[chosen].square().sum() / spread)
    if explained < _MIN_EXPLAINED:
        raise AlignmentError(
            f"The best similarity explains {max(explained, 0.0):.0%} of the spread of the points.",
            hint="Check that the points are matched by index and show the same object.",
        )


def _tukey(normalized: Tensor) -> Tensor:
    """Tukey's biweight of residual lengths in units of sigma, in [0, 1]."""
    return (1.0 - (normalized / _TUKEY_SIGMAS).square()).clamp(min=0.0).square()


def _covariance(mapped: Tensor, residuals: Tensor, w: Tensor, sigma: float, with_scale: bool) -> Tensor:
    """Covariance (7, 7) of an M-estimate: mean psi^2 / (mean psi')^2 times the inverse normal matrix.

    Args:
        mapped: (N, 3) points a in frame b.
        residuals: (N, 3) b minus mapped.
        w: (N,) prior weights, mean 1.
        sigma: noise level that scaled the robust weights.
        with_scale: whether the log-scale was free.

    Source: Huber, Robust Statistics, 1981, section 7.6, for isotropic residuals of three components.
    """
    lengths = residuals.norm(dim=-1) * w.sqrt()
    ratio = (lengths / (_TUKEY_SIGMAS * sigma)).square()
    inside = ratio < 1.0
    lengths, ratio, weight = lengths[inside], ratio[inside], w[inside]
    squared_psi = ((1.0 - ratio).square() * lengths).square().mean() / 3.0
    slope = ((1.0 - ratio).square() - (4.0 / 3.0) * ratio * (1.0 - ratio)).mean()
    identity = torch.eye(3, dtype=mapped.dtype, device=mapped.device).expand(int(inside.sum()), 3, 3)
    points = mapped[inside]
    jacobian = torch.cat((identity, -so3.hat(points), points[..., None]), dim=-1)
    free = _UNKNOWNS if with_scale else _UNKNOWNS - 1
    jacobian = jacobian[..., :free]
    normal = torch.einsum("n,nij,nik->jk", weight, jacobian, jacobian)
    lost = 1.0 - free / (3.0 * weight.numel())
    covariance = mapped.new_zeros(_UNKNOWNS, _UNKNOWNS)
    covariance[:free, :free] = squared_psi / (slope.square() * lost) * torch.linalg.inv(normal)
    return covariance
