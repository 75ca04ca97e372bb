"""What is Sim3's own: the scale, and exp/log where angle and log-scale vanish together or alone."""

from __future__ import annotations

import math

import pytest
import torch

from cupid_core.errors import InvalidTensorError
from cupid_core.geometry import SE3, Sim3, so3

TINY = (0.0, 1e-12, 1e-8, 1e-4, 1e-2, 1.0)


def test_scale_acts_before_rotation_and_translation():
    T_world_body = Sim3.from_quat_xyzw(
        torch.tensor(2.0), torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([10.0, 0.0, 0.0])
    )
    moved = T_world_body.apply(torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(moved, torch.tensor([10.0, 2.0, 0.0]))


def test_exp_log_in_every_corner(draw, rotation_vectors, dtype, tolerance):
    """Angle and log-scale small, large, both, neither; truth is the matrix exponential in float64."""
    log_scales = torch.tensor([*TINY, -1e-8, -1.0, 8.0, -8.0], dtype=torch.float64)
    turns = rotation_vectors(*TINY, math.pi - 1e-6)
    batch = (len(log_scales), *turns.shape[:2])
    log_scale = log_scales[:, None, None, None].expand(*batch, 1)
    tangent = torch.cat((draw(*batch, 3), turns.expand(*batch, 3), log_scale), dim=-1)
    generator = torch.zeros(*batch, 4, 4, dtype=torch.float64)
    generator[..., :3, :3] = so3.hat(tangent[..., 3:6]) + log_scale[..., None] * torch.eye(3, dtype=torch.float64)
    generator[..., :3, 3] = tangent[..., :3]
    transform = Sim3.exp(tangent.to(dtype))
    expected = torch.linalg.matrix_exp(generator)
    size = expected.abs().amax(dim=(-2, -1), keepdim=True).clamp(min=1.0)
    torch.testing.assert_close(transform.matrix().double() / size, expected / size, atol=tolerance, rtol=0)
    torch.testing.assert_close(transform.log().double(), tangent, atol=10 * tolerance, rtol=10 * tolerance)


def test_without_scale_it_is_se3(draw, rotation_vectors):
    turns = rotation_vectors()
    tangent = torch.cat((draw(*turns.shape), turns), dim=-1)
    similarity = Sim3.exp(torch.nn.functional.pad(tangent, (0, 1)))
    torch.testing.assert_close(similarity.matrix(), SE3.exp(tangent).matrix(), atol=1e-14, rtol=0)
    torch.testing.assert_close(similarity.rigid().log(), tangent, atol=1e-12, rtol=0)


def test_rigid_part_acts_on_scaled_points(draw):
    similarity, points = Sim3.exp(draw(7)), draw(10, 3)
    torch.testing.assert_close(
        similarity.apply(points), similarity.rigid().apply(similarity.scale * points), atol=1e-14, rtol=1e-14
    )


def test_scales_multiply(draw):
    a, b = Sim3.exp(draw(3, 7)), Sim3.exp(draw(3, 7))
    torch.testing.assert_close((a @ b).scale, a.scale * b.scale)
    torch.testing.assert_close(a.inverse().scale * a.scale, torch.ones(3, dtype=torch.float64))


def test_pure_growth_has_its_known_end():
    """With unit velocity, log-scale 1 and no turn, the translation is the integral of e^tau: e - 1."""
    end = Sim3.exp(torch.tensor([1.0, 0, 0, 0, 0, 0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(float(end.scale), math.e)
    torch.testing.assert_close(float(end.translation[0]), math.e - 1.0)


def test_what_is_no_similarity_is_refused(draw):
    sheared = torch.eye(4)
    sheared[0, 1] = 0.3
    uneven = torch.diag(torch.tensor([1.0, 2.0, 1.0, 1.0]))
    mirrored = torch.diag(torch.tensor([2.0, 2.0, -2.0, 1.0]))
    for matrix in (sheared, uneven, mirrored, torch.diag(torch.tensor([0.0, 0.0, 0.0, 1.0]))):
        with pytest.raises(InvalidTensorError):
            Sim3.from_matrix(matrix)
    for scale in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InvalidTensorError):
            Sim3.from_se3(SE3.identity(), torch.tensor(scale))
        with pytest.raises(InvalidTensorError):
            Sim3.from_rotation_translation(torch.tensor(scale), torch.eye(3), torch.zeros(3))
