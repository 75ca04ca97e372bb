"""Object poses from 3D-2D pairs: the public functions of this package.

`_solve_group` is the method: observe, start, polish, check.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cupid_core.config import PoseConfig
from cupid_core.errors import InvalidTensorError, PoseDegenerateError, PoseError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.se3 import SE3
from cupid_core.pose.correspondences import LINE_RATIO, Observation, degeneracy, observe, pad, spreads
from cupid_core.pose.dlt import projection_from_blocks, weighted_blocks
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.pose.intrinsics import image_size, intrinsics_prior, refined_camera
from cupid_core.pose.pinhole import (
    Array,
    IntrinsicsPrior,
    Pinhole,
    choose,
    join,
    quaternions_xyzw,
    view_from_projection,
    view_with_intrinsics,
)
from cupid_core.pose.point_passes import Blocks, PointBlock
from cupid_core.pose.polish import Fit, polish
from cupid_core.pose.refine import refine
from cupid_core.pose.search import CLEAN_INLIERS, search

DEFAULT = PoseConfig()
# Ratio of thickness to length from which the DLT is accurate enough for one Newton step.
THICK_RATIO = 0.1
# Focal lengths in image sides that a DLT start may have: 200 to 0.6 degrees of view.
PLAUSIBLE_FOCAL = (0.09, 100.0)
# Standard deviation of image points, in image sides, below which they are one point.
_IMAGE_POINT = 1e-6
# Iterations in which the pose decides which pairs were clamped at the image border, and the margin for noise.
_BORDER_ROUNDS = 2
_BORDER_SIGMAS = 2.0
# Log likelihood that a principal point away from the middle has to gain: by chance one in 400 does.
_CENTER_EVIDENCE = 6.0
# And how far away it has to be, in deviations of an ordinary one.
_CENTER_SIGMAS = 3.0
# Of the image: smaller errors of the pairs are rounding.
_EXACT = 1e-4


@torch.no_grad()
def solve_pose(
    points_object: Tensor,
    uv: Tensor,
    *,
    weights: Tensor | None = None,
    camera: Camera | None = None,
    config: PoseConfig = DEFAULT,
) -> PoseEstimate:
    """The pose of one object from pairs of object points and image points; no first guess.

    Args:
        points_object: (N, 3) floating, object frame, any unit of length; N >= 6 with a weight. Coplanar points are
            fine.
        uv: (N, 2) floating, normalized image coordinates: 0 to 1 across the image, u = (px + 0.5) / width.
        weights: (N,) relative inverse variances of the image points, 0 for "does not count"; None for all ones.
        camera: of the image, with its lens. None estimates focal length (square pixels, no skew) and principal
            point (a narrow prior at the image center) for an image of `config.image_width_px` x `image_height_px`.
            An image that was cropped has its principal point elsewhere. It is found where the pairs show it;
            flat, distant or noisy ones do not, and the rotation is then off by the angle between the two (0.3 of
            the image: 20 degrees). The covariance allows for it (`config.unknown_principal_point_std`).
        config: what to refine of a given camera, priors, robustness.

    Returns:
        The estimate, on the device of the points and in their type. Not differentiable.

    Raises:
        InvalidTensorError: shapes, types or devices do not fit, NaN, infinity, negative weights.
        TooFewCorrespondencesError: fewer than 6 pairs have a weight.
        PoseDegenerateError: points on one line or in one place, or no pose explains the pairs.
        BehindCameraError: only a camera that has the object behind it explains the pairs.

    Up to about 40 % of the pairs may be outliers. Pairs within half a voxel of the image border are taken for
    clamped and left out, unless the pose found without them puts them inside the image after all. Not detected:
    two poses that explain the pairs equally well (small or distant flat objects); the covariance describes the
    returned one only.

    Source: replaces the DLT of CUPID (arXiv 2510.20776, pose from the UV cube); Hartley and Zisserman, chapters 7
    and 18; Huber, Robust Statistics.
    """
    given = None if weights is None else [weights]
    (result,) = solve_poses([points_object], [uv], weights=given, cameras=[camera], config=config)
    if isinstance(result, PoseError):
        raise result
    return result


@torch.no_grad()
def solve_poses(
    points_object: Sequence[Tensor] | Tensor,
    uv: Sequence[Tensor] | Tensor,
    *,
    weights: Sequence[Tensor] | Tensor | None = None,
    cameras: Sequence[Camera | None] | Camera | None = None,
    config: PoseConfig = DEFAULT,
) -> list[PoseEstimate | PoseError]:
    """The poses of several objects at once; `solve_pose` for each, faster.

    Args:
        points_object: B tensors (N_b, 3), or one (B, N, 3).
        uv: B tensors (N_b, 2), or one (B, N, 2).
        weights: B tensors (N_b,), one (B, N) where zeros may mark padding, or None.
        cameras: one for each object (each crop has its own), one for all, or None for unknown.
        config: see `solve_pose`.

    Returns:
        For each object its estimate, or the PoseError that `solve_pose` would raise: a failure does not affect the
        others.

    Raises:
        InvalidTensorError: the inputs are not tensors of pairs, or differ in number; see `solve_pose`.
    """
    count = len(points_object)
    cameras = [cameras] * count if cameras is None or isinstance(cameras, Camera) else list(cameras)
    if not len(uv) == len(cameras) == (count if weights is None else len(weights)) == count:
        raise InvalidTensorError(
            f"{count} objects, but {len(uv)} uv, {len(cameras)} cameras"
            + ("." if weights is None else f", {len(weights)} weights."),
            hint="Give one of each per object.",
        )
    results: dict[int, PoseEstimate | PoseError] = {}
    observations: dict[int, Observation] = {}
    for i in range(count):
        weight = None if weights is None else weights[i]
        try:
            observations[i] = observe(points_object[i], uv[i], weight, cameras[i], config)
        except PoseError as error:
            results[i] = error
    # Diverging starts overflow; infinities and NaN then fail every comparison, so they are never selected.
    with np.errstate(all="ignore"):
        for known in (False, True):
            group = [i for i in observations if (cameras[i] is not None) == known]
            if group:
                solved = _solve_group([observations[i] for i in group], [cameras[i] for i in group], config)
                results.update(zip(group, solved, strict=True))
    return [results[i] for i in range(count)]


@dataclass(frozen=True)
class _Group:
    """Objects that all have a camera, or all have none."""

    observations: list[Observation]
    cameras: list[Camera | None]
    config: PoseConfig
    sample: PointBlock
    moments: Blocks
    spread: Array
    prior: IntrinsicsPrior


def _solve_group(
    observations: list[Observation], cameras: list[Camera | None], config: PoseConfig
) -> list[PoseEstimate | PoseError]:
    """Thick objects from the DLT, batched; thin ones, and those with an uncertain result, by search."""
    sample = pad([item.sample for item in observations])
    moments = weighted_blocks(sample)
    prior = intrinsics_prior(cameras, config, [item.usable for item in observations])
    group = _Group(observations, cameras, config, sample, moments, spreads(moments[0]), prior)
    results: dict[int, PoseEstimate | PoseError] = {}
    direct = _direct_starts(group)
    if direct:
        fit = _polished(group, direct)
        estimates = _estimates(group, fit, list(direct))
        results.update((i, estimates[k]) for k, i in enumerate(direct) if _is_certain(fit, k, config))
    found: dict[int, Pinhole] = {}
    for i in range(len(observations)):
        if i not in results:
            try:
                found[i] = _searched(group, i, direct.get(i))
            except PoseError as error:
                results[i] = error
    if found:
        fit = _polished(group, found)
        estimates = _estimates(group, fit, list(found))
        results.update((i, _checked(fit, k, estimates[k], config.max_noise)) for k, i in enumerate(found))
    return [results[i] for i in range(len(observations))]


def _direct_starts(group: _Group) -> dict[int, Pinhole]:
    """DLT views of the objects that are thick enough, by number; with the given camera, or with square pixels."""
    matrix, thick = projection_from_blocks(group.moments)
    thick &= group.spread[:, 0] > THICK_RATIO * group.spread[:, 2]
    if group.cameras[0] is None:
        view, _ = view_from_projection(matrix)
        focal = np.sqrt(view.intrinsics[:, :1] * view.intrinsics[:, 1:2])
        view = replace(view, intrinsics=np.concatenate((focal, focal, view.intrinsics[:, 2:]), axis=1))
        low, high = PLAUSIBLE_FOCAL
        thick &= (focal[:, 0] > low) & (focal[:, 0] < high)
    else:
        view = view_with_intrinsics(matrix, group.prior.mean)
    return {i: view[i : i + 1] for i in np.flatnonzero(thick).tolist()}


def _searched(group: _Group, i: int, direct: Pinhole | None) -> Pinhole:
    """The pose of one object by search, after a check that its points allow one."""
    if group.spread[i, 1] <= LINE_RATIO * group.spread[i, 2]:
        raise PoseDegenerateError(
            "All points lie on one line or in one place: any rotation about it explains the pairs.",
            hint="Give points that spread in two directions at least.",
        )
    one, u, v, squares = (float(block[i, 3, 3]) for block in group.moments)
    if squares / one - (u * u + v * v) / one**2 < _IMAGE_POINT**2:
        raise PoseDegenerateError("All uv are the same point.", hint="Check the source of the uv.")
    return search(group.observations[i].sample, group.prior[i : i + 1], group.config, direct)


def _polished(group: _Group, views: dict[int, Pinhole]) -> Fit:
    """Newton steps on all points, repeated where the pose changes which pairs count as clamped at the border."""
    config, chosen = group.config, [group.observations[i] for i in views]
    everything = len(chosen) == len(group.observations)
    sample = group.sample if everything else pad([item.sample for item in chosen])
    prior = group.prior if everything else group.prior[np.array(list(views))]
    fit = polish(chosen, sample, join(list(views.values())), prior, config)
    for _ in range(_BORDER_ROUNDS):
        updated = [_exclude_clamped(item, fit, k, config) for k, item in enumerate(chosen)]
        if all(after.usable == before.usable for after, before in zip(updated, chosen, strict=True)):
            break
        chosen = updated
        sample = pad([item.sample for item in chosen])
        view, _ = refine(sample, fit.view, prior, cutoff=config.tukey_cutoff, tolerance=0.1)
        fit = polish(chosen, sample, view, prior, config)
    return fit if group.cameras[0] is not None else _with_free_center(fit, chosen, sample, config)


def _with_free_center(fit: Fit, chosen: list[Observation], sample: PointBlock, config: PoseConfig) -> Fit:
    """The fit of objects without a camera, of an image that may have been cropped.

    It takes the principal point to be in the middle. Where the pairs contradict, it is fitted; where they do not
    tell, the covariance says what the pose is if it is elsewhere.
    """
    loose = config.model_copy(update={"principal_point_std": config.unknown_principal_point_std})
    prior = intrinsics_prior([None] * len(chosen), loose, [item.usable for item in chosen])
    around = polish(chosen, sample, fit.view, prior, config, max_steps=1)
    best = replace(fit, covariance=around.covariance)
    pairs = np.array([item.usable for item in chosen], dtype=np.float64)
    if config.independent_pairs:
        pairs = np.minimum(pairs, config.independent_pairs)
    for start in (fit.view, _square_view(sample, fit.view)):
        view, _ = refine(sample, start, prior, cutoff=config.tukey_cutoff, tolerance=0.1)
        free = polish(chosen, sample, view, prior, config)
        ratio = (best.variance + _EXACT**2) / (free.variance + _EXACT**2)
        shift = np.linalg.norm(free.view.intrinsics[:, 2:] - prior.mean[:, 2:], axis=1)
        better = free.sound & (pairs * np.log(ratio) > _CENTER_EVIDENCE)
        # Outliers that change sides look like evidence.
        better &= (shift > _CENTER_SIGMAS * config.principal_point_std) & (free.inlier_ratio >= CLEAN_INLIERS)
        values = {
            name: np.where(better.reshape(-1, *[1] * (getattr(fit, name).ndim - 1)), getattr(free, name), kept)
            for name, kept in vars(best).items()
            if name != "view"
        }
        best = Fit(view=choose(better, free.view, best.view), **values)
    return best


def _square_view(sample: PointBlock, otherwise: Pinhole) -> Pinhole:
    """Views of the DLT with square pixels and their own principal point; others where it has none."""
    matrix, volumetric = projection_from_blocks(weighted_blocks(sample))
    view, _ = view_from_projection(matrix)
    focal = np.sqrt(view.intrinsics[:, :1] * view.intrinsics[:, 1:2])
    low, high = PLAUSIBLE_FOCAL
    usable = volumetric & (focal[:, 0] > low) & (focal[:, 0] < high) & np.isfinite(view.translation).all(axis=1)
    square = replace(view, intrinsics=np.concatenate((focal, focal, view.intrinsics[:, 2:]), axis=1))
    return choose(usable, square, otherwise)


def _exclude_clamped(item: Observation, fit: Fit, k: int, config: PoseConfig) -> Observation:
    """The pairs that the k-th fit, if it is reliable enough, projects inside the image."""
    noise = math.sqrt(fit.variance[k])
    if item.border is None or not noise <= config.trusted_noise:
        return item
    margin = max(config.border_margin, _BORDER_SIGMAS * noise)
    return item.inside(fit.view[k : k + 1].projection(), margin, config.sample_points)


def _is_certain(fit: Fit, k: int, config: PoseConfig) -> bool:
    """Whether a fit from the DLT needs no search. Comparisons with NaN are false."""
    return bool(
        fit.sound[k]
        and fit.variance[k] <= config.trusted_noise**2
        and fit.inlier_ratio[k] >= CLEAN_INLIERS
        and fit.remainder[k] <= 1.0
    )


def _checked(fit: Fit, k: int, estimate: PoseEstimate, max_noise: float) -> PoseEstimate | PoseError:
    """The estimate of a searched object, or the error where it is not determined or not good enough."""
    if not (np.isfinite(fit.covariance[k]).all() and np.isfinite(fit.view.translation[k]).all()):
        return PoseDegenerateError("The pairs leave the pose undetermined.", hint="Give pairs that spread more.")
    noise = math.sqrt(fit.variance[k])
    if noise > max_noise:
        return PoseDegenerateError(
            f"The best pose misses the pairs by {noise:.3f} of the image; pose.max_noise allows {max_noise:g}.",
            hint="Check that points and uv belong together and that the camera is the right one.",
        )
    return estimate


def _estimates(group: _Group, fit: Fit, index: list[int]) -> list[PoseEstimate]:
    """Estimates, or errors, of the objects with these numbers."""
    quaternion = torch.from_numpy(quaternions_xyzw(fit.view.rotation))
    translation, covariance = torch.from_numpy(fit.view.translation), torch.from_numpy(fit.covariance[:, :6, :6])
    estimates = []
    for k, i in enumerate(index):
        item, camera = group.observations[i], group.cameras[i]
        like = item.block.points
        estimate = PoseEstimate(
            T_camera_object=SE3(quaternion[k].to(like), translation[k].to(like)),
            camera=refined_camera(camera, fit.view.intrinsics[k], group.config),
            covariance=covariance[k].to(like),
            inlier_ratio=float(fit.inlier_ratio[k]),
            reprojection_rms_px=math.sqrt(fit.squared_error[k]) * max(image_size(camera, group.config)),
            degeneracy=degeneracy(group.spread[i], item.usable),
        )
        estimates.append(estimate)
    return estimates
