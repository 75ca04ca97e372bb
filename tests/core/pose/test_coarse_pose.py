"""Coarse poses from predicted canonical points, with depth and without."""

import math

import pytest
import torch
from torch import Tensor

from cupid_core.errors import PoseError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.se3 import SE3
from cupid_core.geometry.sim3 import Sim3
from cupid_core.pose.coarse_pose import coarse_pose

CAMERA = Camera.from_normalized(
    torch.tensor([[1.5, 0.0, 0.5], [0.0, 1.5, 0.5], [0.0, 0.0, 1.0]], dtype=torch.float64), 1, 1
)
METRES = 0.12


def scene(noise: float = 0.0) -> tuple[Sim3, Tensor, Tensor, Tensor]:
    """Pose in metres, predicted points, their image positions and depths."""
    generator = torch.Generator().manual_seed(3)
    points = torch.rand(120, 3, generator=generator, dtype=torch.float64) - 0.5
    rigid = SE3.exp(torch.tensor([0.02, -0.03, 0.4, 0.7, -0.4, 1.1], dtype=torch.float64))
    pose = Sim3.from_se3(rigid, torch.tensor(METRES, dtype=torch.float64))
    seen = pose.apply(points)
    predicted = points + noise * torch.randn(points.shape, generator=generator, dtype=torch.float64)
    return pose, predicted, CAMERA.px_to_uv(CAMERA.project(seen)), seen[:, 2]


def angle_deg(a: Sim3, b: Sim3) -> float:
    relative = a.rotation().mT @ b.rotation()
    return float(torch.rad2deg(torch.arccos(((relative.trace() - 1) / 2).clamp(-1, 1))))


def test_with_depth_the_pose_is_metric() -> None:
    pose, points, uv, depth = scene(noise=0.01)
    found, used, residual = coarse_pose(points, uv, torch.ones(len(points)), depth, CAMERA)
    assert used and angle_deg(found, pose) < 2
    assert 0.003 < residual < 0.03
    assert float(found.scale) == pytest.approx(METRES, rel=0.03)


def test_without_depth_the_pose_is_up_to_scale() -> None:
    pose, points, uv, _ = scene(noise=0.005)
    found, used, residual = coarse_pose(points, uv, torch.ones(len(points)), torch.zeros(len(points)), CAMERA)
    assert not used and float(found.scale) == 1.0 and angle_deg(found, pose) < 3
    assert math.isnan(residual)
    torch.testing.assert_close(found.translation, pose.translation / METRES, rtol=0.05, atol=0.05)


def test_depth_that_contradicts_the_points_is_left_out() -> None:
    pose, points, uv, _ = scene()
    wrong = 0.2 + torch.rand(len(points), generator=torch.Generator().manual_seed(1))
    found, used, residual = coarse_pose(points, uv, torch.ones(len(points)), wrong, CAMERA)
    assert not used and math.isnan(residual) and angle_deg(found, pose) < 1


def test_points_without_trust_do_not_count() -> None:
    pose, points, uv, depth = scene()
    trust = torch.ones(len(points))
    trust[::3], points[::3] = 0.0, 0.4
    found, _, _ = coarse_pose(points, uv, trust, depth, CAMERA)
    assert angle_deg(found, pose) < 0.1


def test_too_few_points_are_an_error() -> None:
    _, points, uv, depth = scene()
    trust = torch.zeros(len(points))
    trust[:4] = 1.0
    with pytest.raises(PoseError):
        coarse_pose(points, uv, trust, depth, CAMERA)
