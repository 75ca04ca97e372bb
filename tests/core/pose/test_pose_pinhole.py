"""Laws of views: derivatives, steps, rotations near their singular angles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cupid_core.geometry import so3
from cupid_core.pose.pinhole import (
    FULL_SIZE,
    IntrinsicsPrior,
    Pinhole,
    choose,
    free_parameters,
    join,
    quaternions_xyzw,
    rotation_exp,
    view_from_projection,
)


def views(count: int = 5, seed: int = 0) -> Pinhole:
    random = np.random.default_rng(seed)
    return Pinhole(
        rotation_exp(random.normal(size=(count, 3)) * 2.0),
        random.normal(size=(count, 3)) + np.array([0.0, 0.0, 4.0]),
        random.uniform(0.4, 2.0, (count, 4)),
    )


def test_jacobian_is_the_derivative_of_a_step() -> None:
    view = views()
    for parameter in range(FULL_SIZE):
        step = np.zeros((5, FULL_SIZE))
        step[:, parameter] = 1e-6
        numeric = (view.moved(step).projection() - view.moved(-step).projection()) / 2e-6
        np.testing.assert_allclose(view.projection_jacobian()[:, parameter], numeric.reshape(5, 12), atol=1e-8)


def test_splitting_a_projection_undoes_composing_it() -> None:
    view = views()
    found, skew = view_from_projection(3.0 * view.projection())
    for name in ("rotation", "translation", "intrinsics"):
        np.testing.assert_allclose(getattr(found, name), getattr(view, name), atol=1e-10)
    np.testing.assert_allclose(skew, 0.0, atol=1e-12)


def test_rotations_agree_with_the_geometry_room_at_every_angle() -> None:
    angles = np.repeat([0.0, 1e-300, 1e-12, 1e-4, 1.0, 3.0, np.pi - 1e-9, np.pi], 20)[:, None]
    axes = np.random.default_rng(1).normal(size=(len(angles), 3))
    vectors = angles * axes / np.linalg.norm(axes, axis=1, keepdims=True)
    rotation = rotation_exp(vectors)
    expected = so3.to_matrix(so3.exp(torch.from_numpy(vectors))).numpy()
    np.testing.assert_allclose(rotation, expected, atol=1e-12)
    quaternion = torch.from_numpy(quaternions_xyzw(rotation))
    np.testing.assert_allclose(so3.to_matrix(quaternion).numpy(), rotation, atol=1e-12)


@pytest.mark.parametrize(("intrinsics", "size"), [("fixed", 6), ("focal", 7), ("unknown", 9), ("prior", 10)])
def test_free_parameters_start_with_the_pose_and_tie_focal_lengths(intrinsics: str, size: int) -> None:
    free = free_parameters(intrinsics)
    assert free.shape == (FULL_SIZE, size)
    np.testing.assert_array_equal(free[:, :6], np.eye(FULL_SIZE)[:, :6])
    moved = free @ np.arange(1.0, size + 1.0)
    assert (moved[6] == moved[7]) == (intrinsics != "prior")


def test_penalty_is_half_the_squared_number_of_deviations() -> None:
    view = views(1)
    precision = np.zeros((1, FULL_SIZE))
    precision[:, 6], precision[:, 8] = 1.0 / 0.1**2, 1.0 / 0.02**2
    mean = view.intrinsics * np.array([[np.exp(-0.3), 1.0, 1.0, 1.0]]) - np.array([[0.0, 0.0, 0.04, 0.0]])
    prior = IntrinsicsPrior(mean, free_parameters("prior"), precision)
    np.testing.assert_allclose(prior.penalty(view), 0.5 * (3.0**2 + 2.0**2))
    assert IntrinsicsPrior(view.intrinsics, prior.free, precision).penalty(view) == 0.0


def test_joining_and_choosing_views() -> None:
    one, other = views(3, 0), views(3, 1)
    both = join([one, other])
    assert len(both) == 6
    np.testing.assert_array_equal(both[3:].translation, other.translation)
    mixed = choose(np.array([True, False, True]), one, other)
    np.testing.assert_array_equal(mixed.rotation[[0, 2]], one.rotation[[0, 2]])
    np.testing.assert_array_equal(mixed.intrinsics[1], other.intrinsics[1])
