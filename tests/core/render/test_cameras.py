"""Look-at poses, rings and projections obey their geometry, at the poles too."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cupid_core.errors import InvalidCameraError
from cupid_core.render.cameras import (
    clip_projection,
    hammersley_angles,
    hammersley_ring,
    intrinsics_from_fov,
    look_at,
    opengl_projection,
    opengl_view,
    turntable,
)

UP = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
coordinate = st.floats(-3, 3).map(lambda v: round(v, 3))


@settings(max_examples=80, deadline=None)
@given(eye=st.tuples(coordinate, coordinate, coordinate), target=st.tuples(coordinate, coordinate, coordinate))
def test_look_at_puts_the_target_on_the_axis_and_up_upwards(eye, target):
    eye, target = torch.tensor(eye, dtype=torch.float64), torch.tensor(target, dtype=torch.float64)
    if float((eye - target).norm()) < 1e-3:
        return
    pose = look_at(eye, target, UP)
    torch.testing.assert_close(pose.apply(eye), torch.zeros(3).double(), atol=1e-9, rtol=0)
    expected = torch.stack([UP[0], UP[1], (eye - target).norm()])
    torch.testing.assert_close(pose.apply(target), expected, atol=1e-9, rtol=0)
    assert float(torch.linalg.det(pose.rotation())) == pytest.approx(1.0)
    # Up has no component to the side, and never points down in the image (y down).
    up_camera = pose.rotation() @ UP
    assert abs(float(up_camera[0])) < 1e-9 and float(up_camera[1]) < 1e-9


@pytest.mark.parametrize("height", [2.0, -2.0])
@pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (0.0, 0.0, -3.0)])
def test_look_at_along_up_has_an_answer(height, up):
    pose = look_at(torch.tensor([0.0, 0.0, height]), torch.zeros(3), torch.tensor(up))
    torch.testing.assert_close(pose.apply(torch.zeros(3)), torch.tensor([0.0, 0.0, 2.0]))
    # +y of the world is up in the image.
    assert float((pose.rotation() @ torch.tensor([0.0, 1.0, 0.0]))[1]) == pytest.approx(-1.0)


def test_look_at_along_y_up_has_an_answer():
    up = torch.tensor([0.0, 1.0, 0.0])
    pose = look_at(torch.tensor([0.0, 3.0, 0.0]), torch.zeros(3), up)
    torch.testing.assert_close(pose.apply(torch.zeros(3)), torch.tensor([0.0, 0.0, 3.0]))


def test_a_camera_at_its_target_is_refused():
    with pytest.raises(InvalidCameraError):
        look_at(torch.ones(2, 3), torch.ones(3), UP.float())


def test_hammersley_cameras_spread_over_the_sphere():
    ring = hammersley_ring(1000, radius=1.7)
    centers = ring.T_camera_object.inverse().translation
    torch.testing.assert_close(centers.norm(dim=1), torch.full((1000,), 1.7))
    assert float(centers.mean(dim=0).norm()) < 0.01
    octants = torch.stack([centers[:, axis] > 0 for axis in range(3)], dim=1).long() @ torch.tensor([1, 2, 4])
    assert (torch.bincount(octants, minlength=8) - 125).abs().max() <= 6


def test_hammersley_angles_are_heights_in_equal_steps():
    yaw, pitch = hammersley_angles(64)
    torch.testing.assert_close((1 + pitch.sin()) / 2, torch.arange(64).double() / 64, atol=1e-9, rtol=0)
    assert torch.equal(yaw.sort().values, torch.arange(64).double() / 64 * 2 * math.pi)


def test_turntable_goes_round_at_one_height():
    centers = turntable(8, pitch_rad=0.5, radius=3.0).T_camera_object.inverse().translation
    torch.testing.assert_close(centers[:, 2], torch.full((8,), 3.0 * math.sin(0.5)))
    steps = centers - centers.roll(1, dims=0)
    torch.testing.assert_close(steps.norm(dim=1), steps.norm(dim=1).mean().expand(8))


def test_field_of_view_reaches_the_border():
    K = intrinsics_from_fov(1.1, dtype=torch.float64)
    uv = K @ torch.tensor([math.tan(0.55), -math.tan(0.55), 1.0]).double()
    torch.testing.assert_close(uv[:2], torch.tensor([1.0, 0.0]).double())


def test_both_projections_put_points_at_the_same_pixel():
    K = torch.tensor([[1.3, 0.0, 0.45], [0.0, 1.2, 0.57], [0.0, 0.0, 1.0]], dtype=torch.float64)
    pose = look_at(torch.tensor([1.0, -1.5, 0.8]).double(), torch.zeros(3).double(), UP)
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    homogeneous = torch.cat([points, torch.ones(50, 1).double()], dim=1)
    seen = pose.apply(points)
    uv = (seen / seen[:, 2:]) @ K.T
    clip = homogeneous @ (clip_projection(K, 0.5, 10.0) @ pose.matrix()).T
    gl = homogeneous @ (opengl_projection(K, 0.5, 10.0) @ opengl_view(pose)).T
    torch.testing.assert_close((clip[:, :2] / clip[:, 3:] + 1) / 2, uv[:, :2])
    expected = torch.stack([uv[:, 0], 1 - uv[:, 1]], dim=1)
    torch.testing.assert_close((gl[:, :2] / gl[:, 3:] + 1) / 2, expected)
    # Both depths order points alike.
    torch.testing.assert_close(clip[:, 2] / clip[:, 3], (gl[:, 2] / gl[:, 3] + 1) / 2)


@pytest.mark.parametrize(("z", "depth"), [(0.5, 0.0), (10.0, 1.0)])
def test_near_and_far_planes_are_the_ends_of_depth(z, depth):
    K = intrinsics_from_fov(1.0, dtype=torch.float64)
    clip = clip_projection(K, 0.5, 10.0) @ torch.tensor([0.1, 0.2, z, 1.0]).double()
    assert float(clip[2] / clip[3]) == pytest.approx(depth)
    gl = opengl_projection(K, 0.5, 10.0) @ torch.tensor([0.1, -0.2, -z, 1.0]).double()
    assert float(gl[2] / gl[3]) == pytest.approx(2 * depth - 1)


def test_impossible_requests_are_refused():
    for call in (
        lambda: hammersley_ring(0),
        lambda: turntable(4, radius=-1.0),
        lambda: turntable(4, fov_rad=math.pi),
        lambda: clip_projection(torch.eye(3), 2.0, 1.0),
        lambda: opengl_projection(torch.eye(3), 0.0, 1.0),
    ):
        with pytest.raises(InvalidCameraError):
            call()
