"""Finding the pose of one object when no direct start can be trusted: thin objects, outliers, known cameras.

Collects starts (PnP over a few focal lengths, a DLT, random minimal sets once there are outliers), refines the
better ones together on a few points, and keeps the one that explains the points best.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from cupid_core.config import PoseConfig
from cupid_core.errors import BehindCameraError
from cupid_core.pose.correspondences import spread_indices
from cupid_core.pose.pinhole import Array, IntrinsicsPrior, Mask, Pinhole, join
from cupid_core.pose.pnp import camera_starts, minimal_starts
from cupid_core.pose.point_passes import PointBlock, residuals, robust_variance, to_array, tukey_root
from cupid_core.pose.refine import refine

# Pairs on which starts are compared.
_SCREEN_POINTS = 256
# Minimal sets worth refining, and poses worth comparing on the whole sample.
_FINALISTS = 8
_WINNERS = 3
# Difference of robust costs (half squared deviations) from which the worse view is dropped.
_DECISIVE = 30.0
# Share of inliers below which outliers are suspected; Gaussian noise alone leaves one in 10^7 outside.
CLEAN_INLIERS = 0.95
# Ratio of neighboring focal length guesses: within a factor of 1.25 any start finds the optimum.
_GUESS_STEP_LOG = 0.45
# Above this residual the mirrored object is tried too; the input is wrong if its variance is smaller by this
# factor.
_MIRROR_NOISE = 0.002
_MIRROR_GAIN = 4.0


def search(sample: PointBlock, prior: IntrinsicsPrior, config: PoseConfig, direct: Pinhole | None) -> Pinhole:
    """The pose of one object without a first guess.

    Args:
        sample: one object, at least 6 pairs, points not on one line.
        prior: of its intrinsics.
        config: robust cutoff, number of hypotheses, trusted noise.
        direct: a start from elsewhere (the DLT), or None.

    Returns:
        One view, the optimum on the sample.

    Raises:
        BehindCameraError: only a camera that has the object behind it explains the pairs.

    Detects mirrored objects; does not detect that two poses fit equally well (a flat object far away: the better
    one is returned), nor that none fits well.
    """
    screen = _thinned(sample, _SCREEN_POINTS)
    guesses = _focal_guesses(prior)
    points, image = to_array(screen.points)[0, :3].T, to_array(screen.image)[0].T
    starts = [camera_starts(points, image, guess) for guess in guesses] + ([] if direct is None else [direct])
    ranked, cost = _refine_and_rank(screen, _least_median(screen, join(starts), config), prior, config, rough=True)
    if not _is_clean(screen, ranked[:1], config):
        random_starts = minimal_starts(points, image, guesses, config.hypotheses)
        finalists = _least_median(screen, random_starts, config)
        again = _inlier_starts(screen, finalists[:1], config)
        again = again[_in_front(screen, again)]
        candidates = join([ranked[:_WINNERS], finalists, again])
        ranked, cost = _refine_and_rank(screen, candidates, prior, config, rough=True)
    if len(ranked) == 0:
        raise BehindCameraError(
            "Every candidate pose has object points behind the camera.", hint="Check the axes of points and uv."
        )
    winners, _ = _refine_and_rank(sample, _distinct(ranked, cost), prior, config, rough=False)
    best = winners[:1]
    variance = float(_variances(sample, best, config)[0])
    if variance > _MIRROR_NOISE**2:
        _raise_if_mirrored(screen, guesses, prior, config, variance)
    return best


def _refine_and_rank(
    block: PointBlock, starts: Pinhole, prior: IntrinsicsPrior, config: PoseConfig, *, rough: bool
) -> tuple[Pinhole, Array]:
    """Refine all starts on one object, roughly or to the end, and sort them by robust cost (C,), best first."""
    if len(starts) == 0:
        return starts, np.zeros(0)
    same = torch.zeros(len(starts), dtype=torch.int64)
    many, priors = block[same], prior[same.numpy()]
    tolerance, most = (1.0, 10) if rough else (0.1, 30)
    cutoff = config.tukey_cutoff
    view, variance = refine(many, starts, priors, cutoff=cutoff, tolerance=tolerance, max_iterations=most)
    common = np.full(len(view), variance.min())
    root = tukey_root(residuals(many, view.projection()), common, cutoff)
    loss = to_array((1.0 - root * root * root).sum(dim=(1, 2))) * cutoff**2 / 6.0
    cost = loss + priors.penalty(view)
    order = np.argsort(cost)
    return view[order], cost[order]


def _is_clean(block: PointBlock, view: Pinhole, config: PoseConfig) -> bool:
    """Whether a view (a batch of one, or none) explains the pairs without outliers or too much noise."""
    if len(view) == 0:
        return False
    residual = residuals(block, view.projection())
    variance = robust_variance(block, residual, config.tukey_cutoff)
    root = tukey_root(residual, variance, config.tukey_cutoff)
    inliers = float((root > 0).double().mean())
    return inliers >= CLEAN_INLIERS and float(variance[0]) <= config.trusted_noise**2


def _least_median(block: PointBlock, views: Pinhole, config: PoseConfig) -> Pinhole:
    """The few views with the smallest median residual on one object, best first (Rousseeuw 1984)."""
    views = views[_in_front(block, views)]
    return views[np.argsort(_variances(block, views, config))[:_FINALISTS]]


def _inlier_starts(block: PointBlock, view: Pinhole, config: PoseConfig) -> Pinhole:
    """Starts from all inliers of one view; both solutions of a thin object among them."""
    if len(view) == 0:
        return view
    residual = residuals(block, view.projection())
    root = tukey_root(residual, robust_variance(block, residual, config.tukey_cutoff), config.tukey_cutoff)
    inside = (root > 0)[0, 0]
    points, image = to_array(block.points[0, :3, inside]).T, to_array(block.image[0][:, inside]).T
    return camera_starts(points, image, view.intrinsics[0])


def _raise_if_mirrored(
    screen: PointBlock, guesses: Array, prior: IntrinsicsPrior, config: PoseConfig, variance: float
) -> None:
    """Raise BehindCameraError when the point-mirrored object fits far better.

    A camera that has the object behind it takes the same picture as one in front of the mirrored object.
    """
    flip = torch.tensor([-1.0, -1.0, -1.0, 1.0], dtype=screen.points.dtype)[:, None]
    mirrored = PointBlock(screen.points * flip, screen.image, screen.weights)
    points, image = to_array(mirrored.points)[0, :3].T, to_array(screen.image)[0].T
    starts = _least_median(mirrored, join([camera_starts(points, image, guess) for guess in guesses]), config)
    if len(starts) == 0 or float(_variances(mirrored, starts[:1], config)[0]) > variance:
        return
    ranked, _ = _refine_and_rank(mirrored, starts, prior, config, rough=True)
    if float(_variances(mirrored, ranked[:1], config)[0]) * _MIRROR_GAIN < variance:
        raise BehindCameraError(
            "The pairs fit only a camera that has the object behind it.",
            hint="Check handedness and axes: camera x right, y down, z forward; object right-handed.",
        )


def _focal_guesses(prior: IntrinsicsPrior) -> Array:
    """Intrinsics to try, (G, 4): the mean, or a geometric series over 3 standard deviations of a wide prior."""
    precision = float(prior.precision[0, 6])
    deviation = 1.0 / math.sqrt(precision) if precision > 0.0 else 0.0
    count = 1 + 2 * round(1.5 * deviation / _GUESS_STEP_LOG)
    guesses = np.tile(prior.mean[0], (count, 1))
    guesses[:, :2] *= np.exp(_GUESS_STEP_LOG * (np.arange(count) - count // 2))[:, None]
    return guesses


def _thinned(block: PointBlock, most: int) -> PointBlock:
    length = block.points.shape[2]
    if length <= most:
        return block
    index = torch.from_numpy(spread_indices(length, most))
    weights = None if block.weights is None else block.weights[:, :, index]
    return PointBlock(block.points[:, :, index], block.image[:, :, index], weights)


def _in_front(block: PointBlock, views: Pinhole) -> Mask:
    """Which views have all points of one object in front of the camera, (C,)."""
    depth = torch.from_numpy(views.projection()[:, 2:]).to(block.points) @ block.points
    return np.asarray(to_array(depth.amin(dim=(1, 2))) > 0.0)


def _variances(block: PointBlock, views: Pinhole, config: PoseConfig) -> Array:
    return robust_variance(block, residuals(block, views.projection()), config.tukey_cutoff)


def _distinct(ranked: Pinhole, cost: Array) -> Pinhole:
    """The first few views that are plausible beside the best, and differ by more than unfinished refinement."""
    kept: list[int] = []
    for i in np.flatnonzero(cost <= cost[0] + _DECISIVE).tolist():
        if all(np.abs(ranked.rotation[i] - ranked.rotation[j]).max() > 0.01 for j in kept):
            kept.append(i)
    return ranked[np.array(kept[:_WINNERS])]
