"""Synthetic pose problems with known truth: voxel shells of boxes in a pinhole camera."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupid_core.geometry.camera import Camera

SENSOR_WIDTH_MM = 36.0
IMAGE_PX = 518
# Longest side of the box in the canonical cube, as assets are normalized.
LONGEST = 0.96
RESOLUTIONS = (32, 48, 64, 96, 128, 192, 256)


@dataclass(frozen=True)
class Case:
    """One cell of the benchmark.

    Attributes:
        thickness: third side of the box, the others are 1; 0 is a single layer of voxels.
        focal_mm: focal length on a 36 mm sensor.
        noise: standard deviation of u and of v, as a fraction of the image.
        outliers: share of pairs whose uv is uniform over the image.
        count: number of pairs.
    """

    thickness: float
    focal_mm: float
    noise: float
    outliers: float
    count: int


@dataclass(frozen=True)
class Problem:
    """Pairs and the truth behind them.

    Attributes:
        points: (N, 3) float32 voxel centers, object frame.
        uv: (N, 2) float32 normalized image coordinates.
        rotation: (3, 3) object to camera.
        translation: (3,) object origin in the camera frame.
        camera: that projected them.
    """

    points: Tensor
    uv: Tensor
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    camera: Camera


@lru_cache(maxsize=64)
def shell(thickness: float, count: int) -> NDArray[np.float64]:
    """Voxel centers of a box's surface, at least `count`, from the coarsest usual grid that has so many."""
    for resolution in RESOLUTIONS:
        sides = np.maximum(np.round(LONGEST * resolution * np.array([1.0, 1.0, thickness])), 1.0).astype(int)
        index = np.stack(np.meshgrid(*[np.arange(side) for side in sides], indexing="ij"), axis=-1).reshape(-1, 3)
        surface = index[((index == 0) | (index == sides - 1)).any(axis=1)]
        if len(surface) >= count:
            return np.asarray((surface - 0.5 * (sides - 1)) / resolution)
    raise ValueError(f"no grid up to {RESOLUTIONS[-1]} has {count} surface voxels at thickness {thickness}")


def generate(case: Case, seed: int) -> Problem:
    """A random rotation, the object centered and filling 70 to 85 % of the frame; the same for the same seed.

    Pose and noise do not depend on the share of outliers, so cells with and without are paired.
    """
    random = np.random.default_rng(seed)
    surface = shell(case.thickness, case.count)
    points = surface[np.sort(random.permutation(len(surface))[: case.count])]
    rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    focal = case.focal_mm / SENSOR_WIDTH_MM
    # The projection of a box is inside that of its corners.
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=3))) * np.abs(surface).max(axis=0)
    translation = _framing(corners @ rotation.T, focal, float(random.uniform(0.7, 0.85)))
    K = torch.tensor([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]], dtype=torch.float64)
    uv = _image(points @ rotation.T + translation, focal) + case.noise * random.normal(size=(case.count, 2))
    wrong = random.permutation(case.count)[: round(case.outliers * case.count)]
    uv[wrong] = random.uniform(size=(len(wrong), 2))
    return Problem(
        torch.from_numpy(points).float(),
        torch.from_numpy(uv).float(),
        rotation,
        translation,
        Camera.from_normalized(K, IMAGE_PX, IMAGE_PX),
    )


def truncate(problem: Problem, noise: float, seed: int) -> Problem:
    """The same object with a third beyond the left border: uv clamped to the crop, noisy, and clamped again.

    Args:
        problem: made without noise.
        noise: as in `Case`.
        seed: of the noise.
    """
    x0 = float(problem.uv[:, 0].quantile(1.0 / 3.0)) * IMAGE_PX
    inside = (problem.uv - torch.tensor([x0 / IMAGE_PX, 0.0])).clamp(0.0, 1.0)
    noisy = (inside + noisy_like(inside, noise, seed)).clamp(0.0, 1.0)
    return replace(problem, uv=noisy, camera=problem.camera.crop(x0, 0.0, IMAGE_PX, IMAGE_PX))


def noisy_like(uv: Tensor, noise: float, seed: int) -> Tensor:
    """Gaussian noise in the shape of uv."""
    return noise * torch.from_numpy(np.random.default_rng(seed).normal(size=tuple(uv.shape))).float()


def scaled_focal(camera: Camera, factor: float) -> Camera:
    """A camera whose focal length is wrong by a factor."""
    return replace(
        camera, K=camera.K * camera.K.new_tensor([[factor, 1.0, 1.0], [1.0, factor, 1.0], [1.0, 1.0, 1.0]])
    )


def shifted_center(problem: Problem, shift: float, seed: int) -> Problem:
    """The problem of a camera whose principal point is off the image center by `shift` of the image."""
    angle = np.random.default_rng(seed).uniform(0.0, 2.0 * np.pi)
    move = shift * torch.tensor([np.cos(angle), np.sin(angle)])
    K = problem.camera.K.clone()
    K[:2, 2] += move * IMAGE_PX
    return replace(problem, uv=problem.uv + move.float(), camera=replace(problem.camera, K=K))


def _image(points_camera: NDArray[np.float64], focal: float) -> NDArray[np.float64]:
    return np.asarray(focal * points_camera[:, :2] / points_camera[:, 2:] + 0.5)


def _framing(turned: NDArray[np.float64], focal: float, fill: float) -> NDArray[np.float64]:
    """Translation that centers the turned points on the image and makes them fill a share of it."""
    aside = np.zeros(3)
    for _ in range(6):
        near, far = 0.1 - turned[:, 2].min(), 100.0
        for _ in range(40):
            distance = float(np.sqrt(near * far))
            seen = _image(turned + distance * (aside + np.array([0.0, 0.0, 1.0])), focal)
            too_large = (seen.max(axis=0) - seen.min(axis=0)).max() > fill
            near, far = (distance, far) if too_large else (near, distance)
        seen = _image(turned + far * (aside + np.array([0.0, 0.0, 1.0])), focal)
        # Moving a near object sideways changes its perspective, so distance and position are found alternately.
        aside[:2] -= (0.5 * (seen.max(axis=0) + seen.min(axis=0)) - 0.5) / focal
    return np.asarray(far * (aside + np.array([0.0, 0.0, 1.0])))
