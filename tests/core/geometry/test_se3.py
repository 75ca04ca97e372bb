"""What is SE3's own: conventions with known values, rotation matrices, refused input."""

from __future__ import annotations

import math

import pytest
import torch

from cupid_core.errors import InvalidTensorError
from cupid_core.geometry import SE3, so3

HALF = math.sqrt(0.5)


def test_quaternions_are_in_ros_order(dtype, tolerance):
    """A quarter turn about z is (0, 0, sin 45, cos 45) and takes x to y."""
    T_world_body = SE3.from_quat_xyzw(
        torch.tensor([0, 0, HALF, HALF], dtype=dtype), torch.tensor([10, 0, 0], dtype=dtype)
    )
    moved = T_world_body.apply(torch.tensor([1, 0, 0], dtype=dtype))
    torch.testing.assert_close(moved, torch.tensor([10, 1, 0], dtype=dtype), atol=tolerance, rtol=0)


def test_tangent_is_translation_then_rotation():
    pure_shift = SE3.exp(torch.tensor([1.0, 2.0, 3.0, 0.0, 0.0, 0.0]))
    assert pure_shift.translation.tolist() == [1.0, 2.0, 3.0]
    quarter_turn = SE3.exp(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, math.pi / 2]))
    torch.testing.assert_close(quarter_turn.quat_xyzw, torch.tensor([0.0, 0.0, HALF, HALF]))


def test_screw_motion_has_its_known_end():
    """Moving at unit speed along x while turning about z for half a turn draws a half circle of radius 1/pi."""
    end = SE3.exp(torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, math.pi], dtype=torch.float64))
    expected = torch.tensor([0.0, 2.0 / math.pi, 0.0], dtype=torch.float64)
    torch.testing.assert_close(end.translation, expected, atol=1e-15, rtol=0)


def test_rotation_matrices_are_proper(rotation_vectors, dtype, device, tolerance):
    rotation = SE3.exp(torch.nn.functional.pad(rotation_vectors(), (3, 0)).to(device, dtype)).rotation()
    identity = torch.eye(3).to(rotation).expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.transpose(-1, -2), identity, atol=tolerance, rtol=0)
    assert bool((torch.linalg.det(rotation) > 0).all())


def test_matrix_to_quaternion_covers_every_branch(draw, dtype, tolerance):
    """Half turns about each axis, and near them, make each of the four rows the longest."""
    near_axes = torch.eye(4, dtype=torch.float64) + 1e-3 * draw(50, 4, 4)
    quat = so3.normalize(near_axes).to(dtype)
    back = so3.from_matrix(so3.to_matrix(quat))
    assert bool((back[..., 3] >= 0).all())
    same = torch.minimum((back - quat).abs().amax(-1), (back + quat).abs().amax(-1))
    assert float(same.max()) < tolerance


def test_gradient_through_matrices_is_finite_at_every_angle(rotation_vectors):
    matrix = so3.to_matrix(so3.exp(rotation_vectors())).requires_grad_()
    SE3.from_rotation_translation(matrix, torch.zeros_like(matrix[..., 0])).log().sum().backward()
    assert bool(matrix.grad.isfinite().all())


def test_both_signs_of_a_quaternion_are_one_rotation(draw):
    quat, translation = so3.normalize(draw(50, 4)), draw(50, 3)
    torch.testing.assert_close(SE3(quat, translation).log(), SE3(-quat, translation).log())


def test_left_jacobian_and_its_inverse(rotation_vectors):
    omega = rotation_vectors()
    product = so3.left_jacobian(omega) @ so3.left_jacobian_inverse(omega)
    torch.testing.assert_close(product, torch.eye(3, dtype=omega.dtype).expand_as(product), atol=1e-12, rtol=0)


def test_long_chains_stay_on_the_group(draw):
    step = SE3.exp(0.3 * draw(6).float())
    chain = SE3.identity()
    for _ in range(1000):
        chain = chain @ step
    assert abs(float(chain.quat_xyzw.norm()) - 1.0) < 1e-6


def test_what_is_no_transform_is_refused():
    eye = torch.eye(4)
    mirrored = torch.diag(torch.tensor([1.0, 1.0, -1.0, 1.0]))
    scaled = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0]))
    missing = eye.clone()
    missing[0, 0] = torch.nan
    for_rows = eye.clone()
    for_rows[3, 0] = 0.5
    for matrix in (mirrored, scaled, missing, for_rows, torch.zeros(4, 4), torch.eye(3), eye.long()):
        with pytest.raises(InvalidTensorError):
            SE3.from_matrix(matrix)
    for quat in (torch.zeros(4), torch.tensor([0.0, 0.0, 0.0, torch.nan])):
        with pytest.raises(InvalidTensorError):
            SE3.from_quat_xyzw(quat, torch.zeros(3))
