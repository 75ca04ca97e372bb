"""Cameras and crops: poses in the symmetry's domain, robot elevations, crops that hold what they should."""

import math

import pytest
import torch

from cupid_core.data.tabletop import TabletopSettings, sample_tabletop
from cupid_core.data.tabletop.cameras import build_views, draw_view, project
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.occlusion import draw_occluder, place_occluders
from cupid_core.data.tabletop.shape import UPRIGHT

PLAIN = TabletopSettings(truncated=0.0, occluded=0.0)
COUNT = 300


def cloud(count=200):
    """Points on the surface of a box, (1, N, 3)."""
    generator = torch.Generator().manual_seed(0)
    points = (torch.rand(count, 3, generator=generator) - 0.5) * torch.tensor([0.4, 0.7, 0.96])
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3) * torch.tensor([0.4, 0.7, 0.96])
    return torch.cat([points, corners])[None]


def views_of(settings=PLAIN, group=(1, 0, 0), count=COUNT):
    drawn = [draw_view(Draws(9, i), UPRIGHT, settings) for i in range(count)]
    points = cloud().expand(count, -1, -1)
    valid = torch.ones(points.shape[:2], dtype=torch.bool)
    return drawn, build_views(drawn, torch.tensor([group]).expand(count, 3), points, valid), points


def eyes(views):
    return -(views.rotation * views.translation[:, :, None]).sum(dim=1)


def test_cameras_have_the_elevations_of_robots():
    drawn, views, _ = views_of()
    eye = eyes(views)
    elevation = torch.rad2deg(torch.asin(eye[:, 2] / torch.linalg.norm(eye, dim=1)))
    assert elevation.min() > -11 and elevation.max() < 90
    assert ((elevation > 15) & (elevation < 75)).float().mean() > 0.75
    wanted = torch.tensor([math.degrees(d.elevation) for d in drawn])
    torch.testing.assert_close(elevation, wanted, atol=1e-2, rtol=0)
    torch.testing.assert_close(views.up, torch.tensor([[0.0, 0.0, 1.0]]).expand(COUNT, 3))
    torch.testing.assert_close(views.table, torch.full((COUNT,), -0.48))


def test_the_frame_behind_the_crop_has_a_real_lens():
    drawn, _, _ = views_of()
    lens_mm = torch.tensor([d.focal * d.share * 36 for d in drawn])
    assert lens_mm.min() >= 23.9 and lens_mm.max() <= 200.1
    assert abs(max(math.degrees(d.roll) for d in drawn)) <= 15.01


def test_crops_hold_the_object_with_the_margin_drawn():
    _, views, points = views_of()
    uv, depth = project(points, views)
    assert (depth > 0.1).all()
    assert uv.min() >= 0.0 and uv.max() <= 1.0
    edge = (uv.amax(dim=1) - uv.amin(dim=1)).amax(dim=1)
    assert edge.min() >= 1 / 1.51 and edge.max() <= 1 / 1.049


def test_principal_points_are_off_center():
    _, views, _ = views_of()
    principal = views.intrinsics[:, :2, 2]
    assert (principal - 0.5).abs().median() > 0.2
    assert (principal - 0.5).abs().max() < 6


def test_truncated_crops_cut_the_object():
    _, views, points = views_of(TabletopSettings(truncated=1.0, occluded=0.0))
    uv, _ = project(points, views)
    outside = ((uv < 0) | (uv > 1)).any(dim=2).float().mean(dim=1)
    assert (outside > 0).float().mean() > 0.5
    assert outside.max() < 0.8


@pytest.mark.parametrize("group", [(0, 1, 0), (2, 0, 0), (4, 1, 0), (1, 0, 0)])
def test_poses_lie_in_the_fundamental_domain(group):
    _, views, _ = views_of(group=group)
    eye = eyes(views)
    azimuth = torch.atan2(eye[:, 1], eye[:, 0]).abs()
    fold = group[0]
    limit = 1e-4 if fold == 0 else math.pi / fold + 1e-5
    assert azimuth.max() <= limit
    if fold == 1:
        assert azimuth.max() > 3.0, "without symmetry the camera goes all the way round"


def test_symmetry_does_not_change_the_image():
    # A box looks the same from both sides: folding the pose must not move its picture.
    _, free, points = views_of(group=(1, 0, 0))
    _, folded, _ = views_of(group=(2, 0, 0))
    one, _ = project(points, free)
    other, _ = project(points * torch.tensor([-1.0, -1.0, 1.0]), folded)
    same, _ = project(points, folded)
    difference = torch.minimum((one - other).abs().amax(dim=(1, 2)), (one - same).abs().amax(dim=(1, 2)))
    assert difference.max() < 1e-3


def test_occluders_hide_no_more_than_their_share():
    _, views, points = views_of(count=200)
    uv, _ = project(points, views)
    valid = torch.ones(uv.shape[:2], dtype=torch.bool)
    drawn = [draw_occluder(Draws(8, i), 1.0, 0.5) for i in range(200)]
    placed = place_occluders(drawn, uv, valid)
    hidden = placed.covers(uv[..., 0], uv[..., 1]).float().mean(dim=1)
    share = torch.tensor([d.share for d in drawn])
    assert (hidden <= share + 1e-6).all()
    assert (hidden > 0.03).float().mean() > 0.4, "most of them hide something"
    none = place_occluders([draw_occluder(Draws(8, i), 0.0, 0.5) for i in range(200)], uv, valid)
    assert not none.covers(uv[..., 0], uv[..., 1]).any()


def test_occluder_masks_follow_the_crop():
    _, views, points = views_of(count=40)
    uv, _ = project(points, views)
    valid = torch.ones(uv.shape[:2], dtype=torch.bool)
    placed = place_occluders([draw_occluder(Draws(8, i), 1.0, 0.5) for i in range(40)], uv, valid)
    k = views.intrinsics
    zoomed = k.clone()
    zoomed[:, :2] *= 2
    zoomed[:, :2, 2] -= 0.5  # the middle half of the crop, enlarged twice
    whole, part = placed.mask(k, k, 64), placed.mask(k, zoomed, 64)
    middle = whole[:, :, 16:48, 16:48].repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert (middle != part).float().mean() < 0.03


def test_occluded_views_are_cropped_around_what_is_left():
    settings = TabletopSettings(image_size=64, resolution=12, truncated=0.0, occluded=1.0)
    batch = sample_tabletop(range(30), settings, seed=6)
    share = batch.mask_visible.flatten(1).sum(dim=1) / batch.mask_full.flatten(1).sum(dim=1)
    assert share.min() > 0.2
    assert (share < 0.97).float().mean() > 0.4
    visible = batch.mask_visible[:, 0]
    rows, columns = visible.amax(dim=2), visible.amax(dim=1)
    extent = torch.maximum(rows.sum(dim=1), columns.sum(dim=1)) / 64
    assert extent.median() > 0.6
