"""Truth agrees with itself: projections, depth, distances, occupancy and silhouettes agree."""

import pytest
import torch
import torch.nn.functional as F

from cupid_core.data.tabletop import TabletopSettings, grids, mirrored, sample_tabletop
from cupid_core.data.tabletop.sample import build_objects
from cupid_core.data.tabletop.splits import draw_shape

SEED, COUNT = 41, 10
SETTINGS = TabletopSettings(image_size=128, resolution=32, views_per_object=2, occluded=0.5)


@pytest.fixture(scope="module")
def batch():
    return sample_tabletop(range(COUNT), SETTINGS, seed=SEED)


@pytest.fixture(scope="module", params=["as drawn", "mirrored"])
def either(request, batch):
    return batch if request.param == "as drawn" else mirrored(batch)


def exact_distance(row, points):
    """Distance of object `row` from its own program, points (N, 3)."""
    objects = build_objects([draw_shape(SEED, row)], 8, "cpu")
    return objects.programs[0][1].distance(points.T[:, None])[0]


def test_voxel_centers_project_onto_the_uv_truth(either):
    r = SETTINGS.resolution
    step = (torch.arange(r, dtype=torch.float64) + 0.5) / r - 0.5
    centers = torch.stack(torch.meshgrid(step, step, step, indexing="ij"), dim=-1)
    pose, k = either.T_camera_object.double(), either.intrinsics.double()
    for view in range(len(either.image)):
        camera = centers @ pose[view, :3, :3].T + pose[view, :3, 3]
        pixel = camera @ k[view].T
        uv = pixel[..., :2] / pixel[..., 2:]
        error = (uv - either.uv[view].double()).abs() * 128
        assert (camera[..., 2] > 0).all(), "the object is in front of the camera"
        inside = (uv > -1).all(dim=-1) & (uv < 2).all(dim=-1)
        assert error[inside].max() < 0.01


def test_poses_are_rigid_and_pixels_square(either):
    rotation = either.T_camera_object[:, :3, :3]
    eye = torch.eye(3).expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), eye, atol=2e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(len(rotation)), atol=2e-6, rtol=0)
    torch.testing.assert_close(either.intrinsics[:, 0, 0], either.intrinsics[:, 1, 1])


def test_rendered_points_project_back_to_their_pixels_with_their_depth(either):
    for view in range(len(either.image)):
        on = either.mask_full[view, 0] > 0
        rows, columns = torch.nonzero(on).T
        points = either.xyz[view][:, on].T
        camera = points @ either.T_camera_object[view, :3, :3].T + either.T_camera_object[view, :3, 3]
        pixel = camera @ either.intrinsics[view].T
        torch.testing.assert_close(pixel[:, 0] / pixel[:, 2] * 128 - 0.5, columns.float(), atol=5e-3, rtol=0)
        torch.testing.assert_close(pixel[:, 1] / pixel[:, 2] * 128 - 0.5, rows.float(), atol=5e-3, rtol=0)
        torch.testing.assert_close(camera[:, 2], either.depth[view, 0][on], atol=1e-5, rtol=1e-5)


def test_rendered_points_lie_on_the_surface(batch):
    for view in range(0, len(batch.image), 2):
        on = batch.mask_full[view, 0] > 0
        distance = exact_distance(int(batch.view_object[view]), batch.xyz[view][:, on].T)
        assert distance.abs().quantile(0.99) < 2e-3
        assert distance.abs().max() < 0.02, "even grazing rays end near the surface"


def test_normals_are_unit_and_face_the_camera(batch):
    on = batch.mask_full[:, 0] > 0
    length = torch.linalg.norm(batch.normal, dim=1)
    torch.testing.assert_close(length[on], torch.ones(int(on.sum())), atol=1e-4, rtol=0)
    assert (length[~on] == 0).all()
    pose = batch.T_camera_object
    eye = -(pose[:, :3, :3] * pose[:, :3, 3:]).sum(dim=1)
    ray = batch.xyz - eye[:, :, None, None]
    facing = (ray * batch.normal).sum(dim=1) / torch.linalg.norm(ray, dim=1)
    assert (facing[on] < 0.15).float().mean() > 0.995


def test_silhouette_equals_the_projection_of_the_occupied_voxels(batch):
    for view in range(len(batch.image)):
        row = int(batch.view_object[view])
        uv = batch.uv[view][batch.solid[row]]
        inside = ((uv > 0) & (uv < 1)).all(dim=1)
        pixel = (uv[inside] * 128).long().clamp(0, 127)
        seen = torch.zeros(128, 128)
        seen[pixel[:, 1], pixel[:, 0]] = 1
        mask = batch.mask_full[view, 0]
        # One voxel, in pixels, at the object's distance.
        voxel = float(batch.intrinsics[view, 0, 0] / batch.depth[view][batch.depth[view] > 0].min() / 32 * 128)
        reach = 2 * int(voxel) + 3
        grown = F.max_pool2d(mask[None, None], reach, 1, reach // 2)[0, 0]
        assert (seen * (1 - grown)).sum() == 0, (
            "no occupied voxel projects farther than a voxel off the silhouette"
        )
        covered = F.max_pool2d(seen[None, None], reach, 1, reach // 2)[0, 0]
        assert (mask * (1 - covered)).sum() <= 0.002 * mask.sum(), (
            "every pixel has an occupied voxel within a voxel"
        )


def test_occupancy_follows_from_the_corner_distances(batch):
    low = -F.max_pool3d(-batch.sdf[:, None], 2, 1)[:, 0]
    high = F.max_pool3d(batch.sdf[:, None], 2, 1)[:, 0]
    crossed = (low <= 0) & (high > 0)
    assert (batch.shell | ~crossed).all(), "a voxel whose corners change sign is shell"
    assert (batch.solid | ~batch.shell).all()
    inside = high < 0
    assert (batch.solid | ~inside).all()
    # The surface is at most one voxel diagonal away from every corner of a shell voxel.
    assert low[batch.shell].max() < 1.8 / 32
    assert not batch.solid[low > 1.8 / 32].any()
    assert (batch.shell.flatten(1).sum(dim=1) > 100).all()


def test_colors_are_at_shell_voxels_and_equal_the_unlit_image(batch):
    assert (batch.color.permute(0, 2, 3, 4, 1)[~batch.shell] == 0).all()
    assert (batch.color >= 0).all() and (batch.color <= 1).all()
    lit = batch.color.permute(0, 2, 3, 4, 1)[batch.shell]
    assert (lit.sum(dim=1) > 0).float().mean() > 0.99


def test_grids_agree_with_the_exact_distance(batch):
    torch.manual_seed(0)
    points = torch.rand(4000, 3) - 0.5
    for row in range(4):
        exact = exact_distance(row, points)
        sampled = grids.sample_distance(batch.sdf[row, None, None], points.T[:, None])[0]
        assert (exact - sampled).abs().max() < 1.0 / 32


def test_masks_nest(batch):
    assert (batch.mask_visible <= batch.mask_full).all()
    torch.testing.assert_close(batch.mask_visible, batch.mask_full * (1 - batch.occluder))
    assert (batch.image >= 0).all() and (batch.image <= 1).all()
    assert torch.isfinite(batch.image).all() and torch.isfinite(batch.photo).all()


def test_mirroring_twice_is_the_identity(batch):
    twice = mirrored(mirrored(batch))
    for name in ("image", "uv", "sdf", "shell", "color", "T_camera_object", "intrinsics", "xyz", "normal"):
        torch.testing.assert_close(getattr(twice, name), getattr(batch, name), atol=1e-6, rtol=1e-6)
