"""Scenes: labels, depth, poses and table agree, and are reproducible."""

import pytest
import torch

from cupid_core.data.tabletop.scene import SceneSettings, draw_scene
from cupid_core.errors import InputError

SETTINGS = SceneSettings(width=320, height=240, resolution=24)


@pytest.fixture(scope="module", params=[0, 1])
def scene(request):
    return draw_scene(request.param, SETTINGS, seed=11)


def camera_points(scene, mask, depth):
    """(N, 3) points of masked pixels."""
    v, u = torch.nonzero(mask).T
    rays = torch.stack([u.float(), v.float(), torch.ones_like(u).float()], dim=1) @ torch.linalg.inv(scene.K).T
    return rays * depth[mask][:, None]


def test_depth_of_each_label_lies_on_its_object(scene):
    assert 3 <= len(scene.objects) <= 7
    for item in scene.objects:
        mask = scene.labels == item.label
        assert mask.sum() > 20
        points = camera_points(scene, mask, scene.depth_true)
        pose = item.T_camera_object
        canonical = (points - pose[:3, 3]) @ pose[:3, :3] / item.scale_m
        distance = item.program.distance(canonical.T[:, None])[0]
        assert distance.abs().quantile(0.98) < 4e-3, f"{item.family}: {distance.abs().max():.4f}"
        assert (canonical.abs() < 0.52).all()


def test_poses_are_rigid_and_scales_metric(scene):
    for item in scene.objects:
        rotation = item.T_camera_object[:3, :3]
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(3), atol=1e-5, rtol=0)
        assert torch.linalg.det(rotation) > 0
        assert 0.01 < item.scale_m < 0.4
        assert 0.25 < item.T_camera_object[2, 3] < 4
        assert 0 < item.visible <= 1


def test_pixels_without_label_lie_on_the_table(scene):
    mask = (scene.labels == 0) & (scene.depth_true > 0)
    points = camera_points(scene, mask, scene.depth_true)
    pose = scene.T_camera_table
    height = ((points - pose[:3, 3]) @ pose[:3, :3])[:, 2]
    assert height.abs().max() < 1e-3


def test_objects_stand_on_the_table_and_not_in_each_other(scene):
    pose = scene.T_camera_table
    for item in scene.objects:
        step = (torch.arange(24) + 0.5) / 24 - 0.5
        grid = torch.stack(torch.meshgrid(step, step, step, indexing="ij"), dim=-1)[item.shell]
        camera = grid * item.scale_m @ item.T_camera_object[:3, :3].T + item.T_camera_object[:3, 3]
        height = ((camera - pose[:3, 3]) @ pose[:3, :3])[:, 2]
        assert height.min() > -0.75 * item.scale_m / 24 and height.min() < 0.01
        for other in scene.objects:
            if other.label > item.label:
                inside = (camera - other.T_camera_object[:3, 3]) @ other.T_camera_object[:3, :3] / other.scale_m
                deep = other.program.distance(inside.T[:, None])[0] < -0.08
                assert deep.float().mean() < 0.1


def test_sensor_depth_follows_true_depth(scene):
    both = (scene.depth > 0) & (scene.depth_true > 0)
    assert both.float().mean() > 0.6
    relative = ((scene.depth - scene.depth_true).abs() / scene.depth_true)[both]
    assert relative.median() < 0.01 and relative.max() < 0.1
    assert (scene.depth[scene.depth_true == 0] == 0).all()


def test_pictures_have_the_right_form(scene):
    for image in (scene.color, scene.color_clean):
        assert image.shape == (240, 320, 3) and image.dtype == torch.uint8
        assert image.float().std() > 5
    assert scene.labels.dtype == torch.uint8


def test_a_scene_is_the_same_on_every_run(scene):
    again = draw_scene(0, SETTINGS, seed=11)
    first = draw_scene(0, SETTINGS, seed=11)
    for name in ("color", "depth", "labels", "K", "T_camera_table"):
        assert torch.equal(getattr(again, name), getattr(first, name)), name


def test_the_given_families_are_in_the_scene():
    scene = draw_scene(3, SceneSettings(width=160, height=128, resolution=16), families=["bowl", "brick"])
    assert [item.family for item in scene.objects] == ["bowl", "brick"]


@pytest.mark.parametrize(
    "more", [{"index": -1}, {"settings": SceneSettings(width=321)}, {"families": ["unicorn"]}]
)
def test_wrong_requests_are_typed_errors(more):
    with pytest.raises(InputError):
        draw_scene(**{"index": 0, **more})
