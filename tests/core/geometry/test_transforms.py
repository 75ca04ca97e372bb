"""Laws that SE3 and Sim3 both keep: group axioms, exponential and logarithm, gradients, indexing."""

from __future__ import annotations

import math

import pytest
import torch

from cupid_core.errors import InvalidTensorError
from cupid_core.geometry import SE3, Sim3, so3

KINDS = {SE3: 6, Sim3: 7}


@pytest.fixture(params=list(KINDS), ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.fixture
def tangents(kind, draw, rotation_vectors):
    """Tangents (angles, 8, 6 or 7), every angle about random axes; log-scale of about 0.3 where there is one."""

    def of_angles(*angles):
        turns = rotation_vectors(*angles)
        batch = turns.shape[:-1]
        return torch.cat([draw(*batch, 3), turns, 0.3 * draw(*batch, 1)], dim=-1)[..., : KINDS[kind]]

    return of_angles


def generators(tangent):
    """The 4x4 matrices whose matrix exponential defines the group."""
    generator = torch.zeros(*tangent.shape[:-1], 4, 4, dtype=tangent.dtype, device=tangent.device)
    generator[..., :3, :3] = so3.hat(tangent[..., 3:6])
    generator[..., :3, 3] = tangent[..., :3]
    if tangent.shape[-1] == 7:
        generator[..., :3, :3] += tangent[..., 6, None, None] * torch.eye(3).to(tangent)
    return generator


def close(left, right, tolerance):
    torch.testing.assert_close(left, right, atol=tolerance, rtol=tolerance)


def test_group_axioms(kind, tangents, dtype, device, tolerance):
    a, b, c = (kind.exp(tangents().to(device, dtype)) for _ in range(3))
    identity = kind.identity(a.batch_shape, dtype, device)
    close(((a @ b) @ c).matrix(), (a @ (b @ c)).matrix(), tolerance)
    close((a @ identity).matrix(), a.matrix(), tolerance)
    close((identity @ a).matrix(), a.matrix(), tolerance)
    close((a @ a.inverse()).matrix(), identity.matrix(), tolerance)
    close((a.inverse() @ a).matrix(), identity.matrix(), tolerance)
    assert (a @ b).batch_shape == a.batch_shape
    assert (a @ b).dtype == dtype


def test_matrices_represent_the_group(kind, tangents, draw, dtype, device, tolerance):
    a, b = (kind.exp(tangents().to(device, dtype)) for _ in range(2))
    point = draw(*a.batch_shape, 3).to(device, dtype)
    homogeneous = torch.cat((point, torch.ones_like(point[..., :1])), dim=-1)
    close((a @ b).matrix(), a.matrix() @ b.matrix(), tolerance)
    close(a.apply(point), (a.matrix() @ homogeneous[..., None])[..., :3, 0], tolerance)
    close((a @ b).apply(point), a.apply(b.apply(point)), tolerance)
    close(kind.from_matrix(a.matrix()).matrix(), a.matrix(), tolerance)


def test_exp_is_the_matrix_exponential(kind, tangents, dtype, device, tolerance):
    tangent = tangents()
    close(
        kind.exp(tangent.to(device, dtype)).matrix().cpu().double(),
        torch.linalg.matrix_exp(generators(tangent)),
        tolerance,
    )


def test_log_undoes_exp(kind, tangents, dtype, device, tolerance):
    tangent = tangents().to(device, dtype)
    close(kind.exp(tangent).log(), tangent, tolerance)


def test_a_batch_of_any_shape_equals_its_items(kind, tangents, draw, dtype, device, tolerance):
    """One transform at a time, so that no angle leans on another one of its batch."""
    tangent, point = tangents().to(device, dtype), draw(3).to(device, dtype)
    together = kind.exp(tangent)
    for angle in range(len(tangent)):
        for batch in ((), (1,), (3,), (2, 4)):
            count = math.prod(batch)
            alone = kind.exp(tangent[angle, :count].reshape(*batch, KINDS[kind]))
            rows = together[angle, :count]
            for left, right in (
                (alone.matrix(), rows.matrix()),
                (alone.log(), rows.log()),
                (alone.inverse().matrix(), rows.inverse().matrix()),
                ((alone @ alone).matrix(), (rows @ rows).matrix()),
                (alone.apply(point), rows.apply(point)),
                (kind.from_matrix(alone.matrix()).matrix(), kind.from_matrix(rows.matrix()).matrix()),
            ):
                assert left.shape[: len(batch)] == batch and left.dtype == dtype
                close(left, right.reshape(left.shape), tolerance)


def test_exp_undoes_log_at_exactly_pi(kind, dtype, tolerance):
    """The axis of a half turn has two signs; whichever log takes, exp must lead back."""
    half_turns = torch.tensor([[1, 0, 0, 0], [0, -1, 0, 0], [0.6, 0, -0.8, 0]], dtype=dtype)
    translation = torch.tensor([[0.3, -2.0, 1.0]], dtype=dtype).expand(3, 3)
    transform = SE3.from_quat_xyzw(half_turns, translation)
    transform = transform if kind is SE3 else Sim3.from_se3(transform, torch.full((3,), 1.7, dtype=dtype))
    tangent = transform.log()
    close(tangent[:, 3:6].norm(dim=-1), torch.full((3,), math.pi, dtype=dtype), tolerance)
    close(kind.exp(tangent).matrix(), transform.matrix(), tolerance)


def test_one_parameter_subgroups(kind, tangents, dtype, tolerance):
    tangent = tangents(1.3).to(dtype)
    close((kind.exp(0.3 * tangent) @ kind.exp(0.7 * tangent)).matrix(), kind.exp(tangent).matrix(), tolerance)
    close(kind.exp(-tangent).matrix(), kind.exp(tangent).inverse().matrix(), tolerance)


def test_a_small_tangent_keeps_its_digits(kind, draw):
    """Near the identity the logarithm is relative-exact, not only absolute: 1e-30 stays 1e-30."""
    tangent = 1e-30 * draw(5, KINDS[kind])
    # A scale is stored as a number near one and cannot hold less than its rounding.
    tangent[:, 6:] = 0.0
    torch.testing.assert_close(kind.exp(tangent).log(), tangent, rtol=1e-12, atol=0.0)


def test_gradient_of_log_after_exp_is_the_identity(kind, tangents, dtype, device, tolerance):
    for tangent in tangents()[:, 0].to(device, dtype):
        jacobian = torch.autograd.functional.jacobian(lambda value: kind.exp(value).log(), tangent)
        close(jacobian, torch.eye(KINDS[kind]).to(jacobian), 10 * tolerance)


def test_gradients_agree_with_finite_differences(kind, draw):
    for size in (0.0, 1e-7, 0.4):
        tangent = (size * draw(2, KINDS[kind])).requires_grad_()
        point = draw(2, 3)
        assert torch.autograd.gradcheck(lambda value, point=point: kind.exp(value).apply(point), tangent)
        assert torch.autograd.gradcheck(lambda value: kind.exp(value).inverse().log(), tangent)


def test_gradients_are_finite_at_the_identity(kind, dtype):
    tangent = torch.zeros(KINDS[kind], dtype=dtype, requires_grad=True)
    transform = kind.exp(tangent)
    total = transform.log().sum() + transform.matrix().sum() + (transform @ transform.inverse()).log().sum()
    total.backward()
    assert bool(tangent.grad.isfinite().all())


def test_batches_broadcast(kind, tangents, draw, tolerance=1e-12):
    one, many = kind.exp(tangents(1.0)[0, 0]), kind.exp(tangents(1.0).reshape(2, 4, -1))
    points = draw(2, 4, 5, 3)
    assert (one @ many).batch_shape == (many @ one).batch_shape == (2, 4)
    close((one @ many)[1, 2].matrix(), (one @ many[1, 2]).matrix(), tolerance)
    moved = many[..., None].apply(points)
    assert moved.shape == (2, 4, 5, 3)
    close(moved[1, 3, 4], many[1, 3].apply(points[1, 3, 4]), tolerance)


def test_indexing_follows_the_batch(kind, tangents):
    many = kind.exp(tangents(1.0).reshape(2, 4, -1))
    assert many[0].batch_shape == (4,)
    assert many[:, 1:3].batch_shape == (2, 2)
    assert many[None].batch_shape == (1, 2, 4)
    assert many[..., None, :].batch_shape == (2, 1, 4)
    assert many[torch.tensor([[True, False, False, True], [False] * 4])].batch_shape == (2,)
    assert kind.stack([many[0], many[1]]).matrix().equal(many.matrix())
    with pytest.raises(IndexError):
        many[0, 0, 0]


def test_moving_between_types(kind, tangents):
    transform = kind.exp(tangents(1.0)[0, :3].requires_grad_())
    single = transform.to(dtype=torch.float32)
    assert single.dtype == torch.float32 and single.batch_shape == (3,)
    assert transform.log().requires_grad and not transform.detach().log().requires_grad


def test_fields_must_fit(kind, tangents):
    good = kind.exp(tangents(1.0)[0, :3])
    fields = {name: getattr(good, name) for name in kind.__dataclass_fields__ if name != "event_shapes"}
    for change in (
        {"translation": good.translation[:2]},
        {"translation": good.translation.float()},
        {"quat_xyzw": good.quat_xyzw[:, :3]},
        {"translation": good.translation.long()},
    ):
        with pytest.raises(InvalidTensorError):
            kind(**{**fields, **change})
    with pytest.raises(InvalidTensorError):
        kind.exp(torch.zeros(5, dtype=torch.float64))
    with pytest.raises(InvalidTensorError):
        kind.stack([])
