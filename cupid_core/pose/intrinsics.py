"""Conversion between cameras of real images and the square image coordinates of the solvers, with priors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from cupid_core.config import PoseConfig
from cupid_core.geometry.camera import Camera
from cupid_core.pose.pinhole import FULL_SIZE, Array, IntrinsicsPrior, free_parameters


def image_size(camera: Camera | None, config: PoseConfig) -> tuple[int, int]:
    """Width and height in pixels of the image that uv refer to."""
    if camera is None:
        return config.image_width_px, config.image_height_px
    return camera.width, camera.height


def intrinsics_prior(
    cameras: Sequence[Camera | None], config: PoseConfig, counts: Sequence[int] = ()
) -> IntrinsicsPrior:
    """Prior of the intrinsics, before any point is used.

    Args:
        cameras: B cameras, or B times None; not mixed.
        config: standard deviations, and what to refine of given cameras.
        counts: pairs of each of B objects; they matter where `config.independent_pairs` says that their errors are
            common: the prior then counts as much more as the pairs are more than independent ones.
    """
    mode = "unknown" if cameras[0] is None else config.intrinsics
    precision = np.zeros(FULL_SIZE)
    if mode != "fixed":
        focal_std = config.unknown_focal_std_log if mode == "unknown" else config.focal_std
        precision[6] = 1.0 / focal_std**2
        # Where fx and fy move together the one deviation counts once.
        precision[7] = precision[6] if mode == "prior" else 0.0
        precision[8:] = 1.0 / config.principal_point_std**2
    means = np.array([_square_intrinsics(camera, config) for camera in cameras])
    weights = np.ones(len(cameras))
    if config.independent_pairs and len(counts):
        weights = np.maximum(np.asarray(counts, dtype=np.float64) / config.independent_pairs, 1.0)
    return IntrinsicsPrior(means, free_parameters(mode), weights[:, None] * precision)


def refined_camera(camera: Camera | None, intrinsics: Array, config: PoseConfig) -> Camera:
    """The camera that square intrinsics (4,) mean.

    A given camera that was not refined is returned as it is; a refined one keeps its lens and skew (which were
    removed with its old K, so a large change of K leaves a small error in the lens).
    """
    if camera is not None and config.intrinsics == "fixed":
        return camera
    width, height = image_size(camera, config)
    fx, fy, cx, cy = (intrinsics * max(width, height)).tolist()
    if camera is None:
        return Camera.from_parameters(fx=fx, fy=fy, cx=cx - 0.5, cy=cy - 0.5, width=width, height=height)
    skew = float(camera.K[0, 1])
    K = torch.tensor([[fx, skew, cx - 0.5], [0.0, fy, cy - 0.5], [0.0, 0.0, 1.0]], dtype=torch.float64)
    return replace(camera, K=K.to(camera.K))


def _square_intrinsics(camera: Camera | None, config: PoseConfig) -> list[float]:
    width, height = image_size(camera, config)
    side = max(width, height)
    if camera is None:
        return [config.unknown_focal, config.unknown_focal, 0.5 * width / side, 0.5 * height / side]
    (fx, _, cx), (_, fy, cy), _ = camera.K.tolist()
    return [fx / side, fy / side, (cx + 0.5) / side, (cy + 0.5) / side]
