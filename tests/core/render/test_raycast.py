"""Rendering: depth is that of the surface, pixels are where points project, a crop shows the same pixels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cupid_core.errors import EmptyMeshError, InputError, InvalidTensorError
from cupid_core.geometry import SE3, Camera, Distortion, Sim3
from cupid_core.mesh.extract import extract_from_sdf
from cupid_core.render.raycast import MeshCaster, render_mesh, render_scene
from cupid_core.types import Texture, TriangleMesh

CAMERA = Camera.from_parameters(fx=210.0, fy=190.0, cx=77.3, cy=61.8, width=160, height=120)
LENS = Distortion("plumb_bob", torch.tensor([-0.25, 0.08, 0.002, -0.001, 0.0], dtype=torch.float64))
RADIUS = 0.4
TURNED = SE3.from_quat_xyzw(torch.tensor([0.3, -0.2, 0.5, 0.8]), torch.tensor([0.05, -0.03, 3.0]))


def ball(resolution=48):
    axis = torch.arange(resolution + 1) / resolution - 0.5
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    return extract_from_sdf(grid.norm(dim=-1) - RADIUS, colors=0.5 + grid)


def triangle(points, colors=None):
    return TriangleMesh(torch.tensor(points), torch.tensor([[0, 1, 2]]), colors)


def sphere_depth(camera, center, radius):
    """(H, W) depth of a perfect sphere, NaN beside it."""
    rays = camera.rays().double().numpy()
    square, along = (rays**2).sum(-1), rays @ center
    inside = along**2 - square * (center @ center - radius**2)
    return (along - np.sqrt(np.where(inside >= 0, inside, np.nan))) / square


@pytest.mark.parametrize("camera", [CAMERA, replace(CAMERA, distortion=LENS)], ids=["pinhole", "lens"])
@pytest.mark.parametrize("scale", [1.0, 0.13])
def test_depth_and_normals_of_a_sphere_are_exact_to_its_facets(camera, scale):
    pose = Sim3.from_quat_xyzw(torch.tensor(scale), TURNED.quat_xyzw, TURNED.translation * scale)
    seen = render_mesh(ball(), pose, camera)
    center = pose.translation.double().numpy()
    expected = sphere_depth(camera, center, RADIUS * scale)
    both = seen.mask & np.isfinite(expected)
    assert both.sum() > 0.97 * max(seen.mask.sum(), np.isfinite(expected).sum()) > 1500
    difference = np.abs(seen.depth - expected)[both] / scale
    assert np.quantile(difference, 0.95) < 2e-3
    points = camera.rays().double().numpy() * seen.depth[..., None]
    outward = (points - center) / np.linalg.norm(points - center, axis=-1, keepdims=True)
    assert np.quantile((seen.normals * outward).sum(-1)[both], 0.05) > 0.995
    assert np.allclose(np.linalg.norm(seen.normals[both], axis=-1), 1.0, atol=1e-5)


def test_depth_of_a_plane_is_exact_and_is_z_not_the_length_of_the_ray():
    slope = 0.3
    corners = [[x, y, 2.0 + slope * x] for x, y in ((-9.0, -9.0), (9.0, -9.0), (0.0, 9.0))]
    seen = render_mesh(triangle(corners), SE3.identity(), CAMERA)
    x = CAMERA.rays().double().numpy()[..., 0]
    assert seen.mask.all()
    np.testing.assert_allclose(seen.depth, 2.0 / (1.0 - slope * x), rtol=1e-5)


@pytest.mark.parametrize("camera", [CAMERA, replace(CAMERA, distortion=LENS)], ids=["pinhole", "lens"])
def test_a_tiny_triangle_appears_at_the_pixel_it_projects_to(camera):
    for column, row in ((0, 0), (159, 119), (40, 77), (101, 13)):
        ray = camera.rays()[row, column]
        at = 2.0 * ray
        # A little more than a fifth of a pixel large: no neighbor's center lies on it.
        size = 2.0 * 0.2 / 190.0
        around = [at + size * torch.tensor(d, dtype=at.dtype) for d in ((-1, -1, 0), (1, -1, 0), (0, 1, 0))]
        seen = render_mesh(TriangleMesh(torch.stack(around), torch.tensor([[0, 1, 2]])), SE3.identity(), camera)
        assert np.argwhere(seen.mask).tolist() == [[row, column]]


def test_crops_show_the_same_pixels_and_scaling_the_world_changes_nothing_but_depth():
    caster = MeshCaster(ball())
    whole = caster.render(TURNED, CAMERA)
    cut = caster.render(TURNED, CAMERA.crop(50, 30, 60, 70))
    np.testing.assert_allclose(cut.depth, whole.depth[30:100, 50:110], rtol=1e-5)
    np.testing.assert_array_equal(cut.mask, whole.mask[30:100, 50:110])
    x10 = caster.render(Sim3.from_quat_xyzw(torch.tensor(10.0), TURNED.quat_xyzw, 10 * TURNED.translation), CAMERA)
    assert (x10.mask != whole.mask).sum() <= 2
    both = x10.mask & whole.mask
    np.testing.assert_allclose(x10.depth[both], 10 * whole.depth[both], rtol=1e-4)


def test_colors_are_those_of_the_visible_surface():
    seen = render_mesh(ball(), TURNED, CAMERA)
    points = CAMERA.rays()[torch.from_numpy(seen.mask)].float() * torch.from_numpy(seen.depth[seen.mask])[:, None]
    canonical = TURNED.inverse().apply(points).numpy()
    np.testing.assert_allclose(seen.colors[seen.mask], 0.5 + canonical, atol=2e-3)
    assert np.isnan(seen.colors[~seen.mask]).all()


def test_meshes_outside_or_behind_are_invisible_and_those_across_the_camera_plane_are_not():
    caster = MeshCaster(ball(16))
    for away in ([0.0, 0.0, -3.0], [9.0, 0.0, 3.0]):
        seen = caster.render(SE3.from_quat_xyzw(TURNED.quat_xyzw, torch.tensor(away)), CAMERA)
        assert not seen.mask.any() and np.isnan(seen.depth).all() and seen.box == (0, 0, 0, 0)
    floor = triangle([[-50.0, 1.0, -5.0], [50.0, 1.0, -5.0], [0.0, 1.0, 90.0]])
    seen = render_mesh(floor, SE3.identity(), CAMERA)
    y = CAMERA.rays().double().numpy()[..., 1]
    np.testing.assert_allclose(seen.depth[-1], 1.0 / y[-1], rtol=1e-4)
    assert not seen.mask[0].any()


def test_in_a_scene_the_nearest_is_in_front_whatever_the_order():
    near, far = torch.tensor([0.1, 0.0, 2.0]), torch.tensor([0.0, 0.0, 3.0])
    items = [(ball(24), SE3.from_quat_xyzw(TURNED.quat_xyzw, t)) for t in (far, near)]
    seen, turned = render_scene(items, CAMERA), render_scene(items[::-1], CAMERA)
    alone = [render_mesh(mesh, pose, CAMERA) for mesh, pose in items]
    np.testing.assert_array_equal(seen.labels == 2, alone[1].mask)
    np.testing.assert_array_equal(seen.labels == 1, alone[0].mask & ~alone[1].mask)
    np.testing.assert_array_equal(seen.depth, np.fmin(alone[0].depth, alone[1].depth))
    np.testing.assert_array_equal(turned.labels, np.array([0, 2, 1])[seen.labels])
    np.testing.assert_array_equal(turned.depth, seen.depth)
    assert seen.labels.dtype == np.int32 and ((seen.labels > 0) == seen.mask).all()


def test_invalid_meshes_and_poses_are_refused():
    one = triangle([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    with pytest.raises(InputError):
        render_scene([], CAMERA)
    with pytest.raises(EmptyMeshError):
        render_mesh(replace(one, faces=one.faces[:0]), SE3.identity(), CAMERA)
    with pytest.raises(InvalidTensorError):
        render_mesh(replace(one, faces=one.faces + 1), SE3.identity(), CAMERA)
    with pytest.raises(InvalidTensorError):
        render_mesh(replace(one, vertices=one.vertices * torch.nan), SE3.identity(), CAMERA)
    with pytest.raises(InvalidTensorError):
        render_mesh(one, SE3.identity((2,)), CAMERA)


def test_colors_come_from_the_texture_where_there_is_one():
    """A square that fills the view shows its image, top-left corner first; vertex colors do not matter."""
    corners = [[-1.0, -1.0, 2.0], [1.0, -1.0, 2.0], [-1.0, 1.0, 2.0], [1.0, 1.0, 2.0]]
    faces = torch.tensor([[0, 1, 2], [3, 2, 1]])
    uv = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    image = torch.randint(0, 256, (4, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    square = TriangleMesh(torch.tensor(corners), faces, torch.zeros(4, 3), texture=Texture(uv[faces], image))
    camera = Camera.from_parameters(fx=8.0, fy=8.0, cx=3.5, cy=3.5, width=8, height=8)
    seen = render_mesh(square, SE3.identity(), camera).colors
    expected = torch.nn.functional.interpolate(image.permute(2, 0, 1)[None].float() / 255, (8, 8), mode="bilinear")
    np.testing.assert_allclose(seen, expected[0].permute(1, 2, 0).numpy(), atol=1e-5)


def test_a_point_is_seen_unless_the_mesh_is_in_front_of_it():
    caster = MeshCaster(ball())
    points = np.array([[0, 0, 0.39], [0, 0, -0.39], [0.35, 0, 0], [0, 0, 0.6]], np.float32)
    assert caster.sees(points, np.array([0, 0, 2], np.float32), 0.02).tolist() == [True, False, False, True]
    assert caster.sees(points, np.array([2, 0, 0], np.float32), 0.02).tolist() == [False, False, False, True]


def test_the_closest_place_of_a_ball_is_towards_the_point():
    caster = MeshCaster(ball())
    points = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    away, corners, weights = caster.closest(points)
    length = np.linalg.norm(points, axis=1)
    np.testing.assert_allclose(away, np.abs(length - RADIUS), atol=2e-3)
    found = (caster.vertices[corners] * weights[..., None]).sum(axis=1)
    np.testing.assert_allclose(found, points / length[:, None] * RADIUS, atol=0.02)


def test_one_surface_is_rendered_with_the_colors_of_another_mesh() -> None:
    mesh = ball(16)
    assert mesh.colors is not None
    caster = MeshCaster(mesh)
    other = replace(mesh, colors=1 - mesh.colors)
    expected, found = render_mesh(other, TURNED, CAMERA), caster.with_attributes_of(other).render(TURNED, CAMERA)
    np.testing.assert_array_equal(found.colors, expected.colors)
    np.testing.assert_array_equal(found.depth, expected.depth)
    np.testing.assert_array_equal(caster.render(TURNED, CAMERA).colors, render_mesh(mesh, TURNED, CAMERA).colors)
