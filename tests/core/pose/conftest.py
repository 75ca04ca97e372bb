"""Generated truth for the pose tests: boxes of any thickness seen by a pinhole camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from cupid_core.geometry.camera import Camera
from cupid_core.pose import PoseEstimate


@dataclass(frozen=True)
class Problem:
    """Pairs with the pose and camera that made them."""

    points: Tensor
    uv: Tensor
    rotation: np.ndarray
    translation: np.ndarray
    camera: Camera

    def rotation_error_deg(self, estimate: PoseEstimate) -> float:
        found = estimate.T_camera_object.rotation().double().numpy()
        return float(np.degrees(np.linalg.norm(cv2.Rodrigues(found @ self.rotation.T)[0])))

    def translation_error(self, estimate: PoseEstimate) -> float:
        """Relative to the distance."""
        found = estimate.T_camera_object.translation.double().numpy()
        return float(np.linalg.norm(found - self.translation) / np.linalg.norm(self.translation))

    def squared_error(self, estimate: PoseEstimate) -> float:
        """Squared error in units of the covariance: its mean is 6 when the covariance is honest."""
        found = estimate.T_camera_object.rotation().double().numpy()
        turn = cv2.Rodrigues(found @ self.rotation.T)[0][:, 0]
        shift = estimate.T_camera_object.translation.double().numpy() - self.translation
        error = np.concatenate((shift, turn))
        return float(error @ np.linalg.solve(estimate.covariance.double().numpy(), error))


def random_rotation(random: np.random.Generator) -> np.ndarray:
    rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
    return rotation * np.sign(np.linalg.det(rotation))


def make_problem(
    seed: int,
    *,
    count: int = 500,
    thickness: float = 1.0,
    noise: float = 0.0,
    outliers: float = 0.0,
    focal: float = 1.2,
    size: tuple[int, int] = (518, 518),
    dtype: torch.dtype = torch.float64,
) -> Problem:
    """A box 1 x 1 x thickness in the cube, in front of a camera with focal length in image widths."""
    random = np.random.default_rng(seed)
    half = 0.48 * np.array([1.0, 1.0, thickness])
    points = random.uniform(-1.0, 1.0, (count, 3))
    points[np.arange(count), random.integers(3, size=count)] = random.choice([-1.0, 1.0], count)
    points *= half
    rotation = random_rotation(random)
    # Small enough on the image to stay clear of its border at any rotation.
    width, height = size
    distance = 2.4 * focal * max(width / height, 1.0)
    translation = np.array([*(0.05 * distance / focal * random.uniform(-1.0, 1.0, 2)), distance])
    camera = Camera.from_parameters(
        fx=focal * width, fy=focal * width, cx=0.5 * width - 0.5, cy=0.5 * height - 0.5, width=width, height=height
    )
    seen = torch.from_numpy(points @ rotation.T + translation)
    uv = camera.px_to_uv(camera.project(seen)).numpy()
    uv += noise * random.normal(size=uv.shape) * np.array([1.0, width / height])
    wrong = random.permutation(count)[: round(outliers * count)]
    uv[wrong] = random.uniform(size=(len(wrong), 2))
    return Problem(
        torch.from_numpy(points).to(dtype), torch.from_numpy(uv).to(dtype), rotation, translation, camera
    )


@pytest.fixture(scope="session")
def problem() -> Callable[..., Problem]:
    return make_problem
