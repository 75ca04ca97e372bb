"""The planes of an image encoder: laws of the planes of depth and gravity."""

import math

import pytest
import torch

from cupid_core.errors import ConfigError, InvalidTensorError
from cupid_core.models.encoder_planes import (
    PLANES,
    central_frame,
    channels_of,
    gravity_planes,
    pixel_rays,
    point_planes,
    select_planes,
    without_planes,
)

SIZE = 32


def plane_scene(focal: float, distance: float, roll: float = 0.0):
    """Depth of a slanted plane through the central ray, and K."""
    intrinsics = torch.tensor([[[focal, 0, 0.3], [0, focal, 0.6], [0, 0, 1]]])
    rays = pixel_rays(intrinsics, SIZE)
    R_crop_camera = central_frame(intrinsics)
    center = R_crop_camera[:, 2] * distance
    normal = R_crop_camera.mT @ torch.tensor([0.3, 0.2, -0.9])
    normal = normal / normal.norm()
    depth = (normal * center).sum() / torch.einsum("bj,bjhw->bhw", normal, rays)
    return depth, intrinsics


def unknown():
    return torch.tensor([[0.0, -1.0, 0.0]]), torch.tensor([False])


def test_names_have_one_order_and_no_others():
    assert channels_of(("rgb", "mask", "points", "gravity")) == sum(PLANES.values())
    for wrong in ((), ("mask", "rgb"), ("rgb", "rgb"), ("rgb", "depth")):
        with pytest.raises(ConfigError):
            channels_of(wrong)


def test_absent_groups_are_zero_and_parts_are_refused():
    image = torch.rand(2, 4, 8, 8)
    chosen = select_planes(image, ("rgb", "mask", "gravity"))
    assert chosen.shape[1] == 6 and torch.equal(chosen[:, :4], image) and not chosen[:, 4:].any()
    with pytest.raises(InvalidTensorError):
        select_planes(torch.rand(1, 5, 8, 8), ("rgb",))
    whole = torch.rand(1, 10, 8, 8)
    left = without_planes(whole, ("points",))
    assert not left[:, 4:8].any() and torch.equal(left[:, 8:], whole[:, 8:])


def test_points_do_not_change_with_distance_or_unit():
    up, known = unknown()
    near, intrinsics = plane_scene(2.0, 1.0)
    far, _ = plane_scene(2.0, 7.0)
    one = point_planes(near, intrinsics, up, known)
    torch.testing.assert_close(one, point_planes(far, intrinsics, up, known), atol=1e-4, rtol=0)
    torch.testing.assert_close(one, point_planes(1000 * near, intrinsics, up, known), atol=1e-4, rtol=0)


def test_the_half_width_of_the_crop_is_the_unit():
    up, known = unknown()
    intrinsics = torch.tensor([[[2.0, 0, 0.5], [0, 2.0, 0.5], [0, 0, 1]]])
    made = point_planes(torch.full((1, SIZE, SIZE), 3.0), intrinsics, up, known)
    edge = 1 - 1 / SIZE
    assert float(made[0, 0, 0, -1]) == pytest.approx(edge, abs=1e-5)
    assert float(made[0, 1, 0, 0]) == pytest.approx(-edge, abs=1e-5)
    assert float(made[0, 2].abs().max()) < 1e-6 and bool((made[0, 3] == 1).all())


def test_height_is_along_gravity_where_it_is_known():
    depth, intrinsics = plane_scene(2.0, 2.0)
    tilt = math.radians(40)
    up = torch.tensor([[0.2, -math.cos(tilt), -math.sin(tilt)]])
    up = up / up.norm()
    made = point_planes(depth, intrinsics, up, torch.tensor([True]))
    points = pixel_rays(intrinsics, SIZE) * depth[:, None]
    height = torch.einsum("bj,bjhw->bhw", up, points)
    ratio = (height - height.mean()) / -(made[:, 1] - made[:, 1].mean())
    good = (made[:, 1] - made[:, 1].mean()).abs() > 0.1
    torch.testing.assert_close(ratio[good], ratio[good].mean().expand_as(ratio[good]), atol=1e-3, rtol=1e-3)
    # Only turned: lengths stay.
    level = point_planes(depth, intrinsics, *unknown())
    torch.testing.assert_close(made[:, :3].norm(dim=1), level[:, :3].norm(dim=1), atol=1e-4, rtol=0)


def test_a_camera_along_gravity_keeps_the_frame_of_the_crop():
    depth, intrinsics = plane_scene(2.0, 2.0)
    up = central_frame(intrinsics)[:, 2] * -1
    torch.testing.assert_close(
        point_planes(depth, intrinsics, up, torch.tensor([True])), point_planes(depth, intrinsics, *unknown())
    )


def test_holes_far_things_and_too_few_points_are_absence():
    up, known = unknown()
    depth, intrinsics = plane_scene(2.0, 2.0)
    depth[:, :4] = 0
    depth[:, 4, :5] = 40.0
    made = point_planes(depth, intrinsics, up, known)
    assert not made[:, :, :4].any() and not made[:, :, 4, :5].any() and made[:, 3, 5:].all()
    sparse = torch.zeros_like(depth)
    sparse[0, 0, :5] = 2.0
    assert not point_planes(sparse, intrinsics, up, known).any()
    assert bool(point_planes(torch.zeros_like(depth), intrinsics, up, known).isfinite().all())


def test_the_gravity_plane_is_the_downward_component_of_a_ray():
    intrinsics = torch.tensor([[[2.0, 0, 0.5], [0, 2.0, 0.5], [0, 0, 1]]]).repeat(2, 1, 1)
    up = torch.tensor([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0]])
    made = gravity_planes(intrinsics, up, torch.tensor([True, False]), SIZE)
    assert float(made[0, 0].max()) == pytest.approx(1.0, abs=1e-3) and not made[1].any()
