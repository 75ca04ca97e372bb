"""`solve_poses` by one kernel on the device of the points, for the ordinary case; torch does the others.

Ordinary: no pair at the image border, a body rather than a plane, nearly no outliers, a camera that is known or
not (nothing in between). What the kernel is not sure of goes to `solve.solve_poses`, which stays the reference.
Needs NVIDIA Warp (extra `warp`); the kernel is compiled when it is first used and kept in Warp's cache.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cupid_core.config import PoseConfig
from cupid_core.errors import PoseError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.se3 import SE3
from cupid_core.packages import optional_package
from cupid_core.pose.correspondences import Observation, degeneracy, observe, spreads
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.pose.intrinsics import image_size, intrinsics_prior, refined_camera
from cupid_core.pose.pinhole import Array, quaternions_xyzw
from cupid_core.pose.search import CLEAN_INLIERS
from cupid_core.pose.solve import DEFAULT, PLAUSIBLE_FOCAL, THICK_RATIO
from cupid_core.pose.solve import solve_poses as solve_poses_in_torch

# Lanes of a block on a GPU; on a CPU a block has one.
BLOCK_DIM = 256
# Row and column of the ten entries of a symmetric 4x4 matrix.
_ENTRIES = np.triu_indices(4)
_LOWER = np.tril_indices(9)
# A row of results: state, lower triangle of the covariance, outcome, entries of the moments.
_PARTS, _WIDTH = (18, 63, 68), 78


@torch.no_grad()
def solve_poses(
    points_object: Sequence[Tensor] | Tensor,
    uv: Sequence[Tensor] | Tensor,
    *,
    weights: Sequence[Tensor] | Tensor | None = None,
    cameras: Sequence[Camera | None] | Camera | None = None,
    config: PoseConfig = DEFAULT,
) -> list[PoseEstimate | PoseError]:
    """The poses of several objects at once; arguments, results and errors are those of `solve.solve_poses`.

    Pairs are taken as float32. Without a camera the principal point is taken to be in the middle, and the
    covariance takes that for certain; `solve.solve_poses` allows for images that were cropped.

    Raises:
        MissingPackageError: Warp is not installed.
        InvalidTensorError: see `solve.solve_pose`.
    """
    warp()
    count = len(points_object)
    each = [cameras] * count if cameras is None or isinstance(cameras, Camera) else list(cameras)
    given: list[Tensor | None] = [None] * count if weights is None else list(weights)
    results: dict[int, PoseEstimate | PoseError] = {}
    ordinary: dict[int, Observation] = {}
    if len(uv) == len(each) == len(given) == count:  # else torch's solver says what does not fit
        for i in range(count):
            try:
                item = observe(points_object[i], uv[i], given[i], each[i], config)
            except PoseError as error:
                results[i] = error
                continue
            if item.border is None and (each[i] is None or config.intrinsics == "fixed"):
                ordinary[i] = item
    for known in (False, True):
        group = [i for i in ordinary if (each[i] is not None) == known]
        if group:
            solved = _by_kernel([ordinary[i] for i in group], [each[i] for i in group], config)
            results.update((i, found) for i, found in zip(group, solved, strict=True) if found is not None)
    rest = [i for i in range(count) if i not in results]
    if rest:
        solved_rest = solve_poses_in_torch(
            [points_object[i] for i in rest],
            [uv[i] for i in rest] if len(uv) == count else uv,
            weights=None if weights is None else [weights[i] for i in rest] if len(given) == count else weights,
            cameras=[each[i] for i in rest] if len(each) == count else each,
            config=config,
        )
        results.update(zip(rest, solved_rest, strict=True))
    return [results[i] for i in range(count)]


@cache
def warp() -> ModuleType:
    """NVIDIA Warp, ready to use.

    Raises:
        MissingPackageError: it is not installed.
    """
    module = optional_package("warp", "warp")
    module.config.quiet = True
    module.init()
    return module


def kernel() -> Any:
    """The kernel; imported late, because its module needs Warp."""
    return importlib.import_module("cupid_core.pose.warp_kernel").solve_kernel


def _by_kernel(
    items: list[Observation], cameras: list[Camera | None], config: PoseConfig
) -> list[PoseEstimate | None]:
    """Estimates of objects that all have a camera, or all have none; None where the kernel is not sure."""
    size = 9 if cameras[0] is None else 6
    prior = intrinsics_prior(cameras, config, [item.usable for item in items])
    lengths = [item.block.points.shape[2] for item in items]
    states, covariances, outcomes, moments = _launch(items, lengths, prior.mean, prior.precision, size, config)
    spread = spreads(moments)
    quaternions = quaternions_xyzw(states[:, :9].reshape(-1, 3, 3))
    estimates: list[PoseEstimate | None] = []
    for k, item in enumerate(items):
        pairs, inliers, roots, remainder, nearest = outcomes[k]
        variance = states[k, 16]
        certain = (
            nearest > 0.0
            and remainder <= 1.0
            and inliers >= CLEAN_INLIERS * pairs
            and variance <= config.trusted_noise**2
            and spread[k, 0] > THICK_RATIO * spread[k, 2]
            and PLAUSIBLE_FOCAL[0] < states[k, 12] < PLAUSIBLE_FOCAL[1]
        )
        if not certain:
            estimates.append(None)
            continue
        like, camera = item.block.points, cameras[k]
        squared_error = config.tukey_cutoff**2 * variance * (inliers - roots) / max(inliers, 1.0)
        estimate = PoseEstimate(
            T_camera_object=SE3(_like(quaternions[k], like), _like(states[k, 9:12], like)),
            camera=refined_camera(camera, states[k, 12:16], config),
            covariance=_like(covariances[k, :6, :6], like),
            inlier_ratio=float(inliers / pairs),
            reprojection_rms_px=math.sqrt(squared_error) * max(image_size(camera, config)),
            degeneracy=degeneracy(spread[k], item.usable),
        )
        estimates.append(estimate)
    return estimates


def _launch(
    items: list[Observation], lengths: list[int], mean: Array, precision: Array, size: int, config: PoseConfig
) -> tuple[Array, Array, Array, Array]:
    """Run the kernel: states (B, 18), covariances (B, 9, 9), outcomes (B, 5), moments (B, 4, 4)."""
    wp, blocks, count = warp(), [item.block for item in items], len(items)
    device = blocks[0].points.device
    points = _joined([block.points[0, :3] for block in blocks])
    image = _joined([block.image[0] for block in blocks])
    weights = torch.cat([_weights(block.weights, block.points) for block in blocks])
    offsets = torch.tensor([0, *np.cumsum(lengths).tolist()], dtype=torch.int32, device=device)
    given = torch.from_numpy(np.concatenate((mean, precision[:, [6, 8, 9]]), axis=1)).to(device)
    results = torch.empty(count, _WIDTH, dtype=torch.float64, device=device)
    wp.launch_tiled(
        kernel(),
        dim=[count],
        block_dim=BLOCK_DIM,
        device=wp.device_from_torch(device),
        stream=wp.stream_from_torch(device) if device.type == "cuda" else None,
        inputs=[
            *(wp.from_torch(tensor) for tensor in (points, image, weights, offsets, given)),
            size,
            config.sample_points,
            config.tukey_cutoff,
            wp.from_torch(results),
        ],
    )
    state, packed, outcome, entries = np.split(results.cpu().numpy(), _PARTS, axis=1)
    covariance, moments = np.zeros((count, 9, 9)), np.zeros((count, 4, 4))
    covariance[:, _LOWER[0], _LOWER[1]] = covariance[:, _LOWER[1], _LOWER[0]] = packed
    moments[:, _ENTRIES[0], _ENTRIES[1]] = moments[:, _ENTRIES[1], _ENTRIES[0]] = entries
    return state, covariance, outcome, moments


def _joined(parts: list[Tensor]) -> Tensor:
    together = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    return together.float().contiguous()


def _weights(weights: Tensor | None, points: Tensor) -> Tensor:
    if weights is None:
        return torch.ones(points.shape[2], device=points.device)
    return weights[0, 0].float()


def _like(values: Array, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(like)
