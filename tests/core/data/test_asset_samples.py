"""Crops of views and samples: image, camera and UV agree."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cupid_core.config import AssetSampleConfig, ViewCropConfig
from cupid_core.data.assets.layout import AssetFolder
from cupid_core.data.assets.samples import LatentScale, appearance_sample, structure_sample
from cupid_core.data.assets.view_crop import crop_view, draw_ratio
from cupid_core.errors import DatasetError, EmptyMaskError
from cupid_core.geometry import SE3
from cupid_core.render.cameras import look_at

RESOLUTION = 16


def picture(width, height, box):
    rgba = np.zeros((height, width, 4), dtype=np.uint8)
    rgba[box[1] : box[3], box[0] : box[2]] = [200, 100, 50, 255]
    return rgba


boxes = st.tuples(st.integers(2, 60), st.integers(2, 40), st.integers(2, 30), st.integers(2, 30))


@settings(max_examples=80, deadline=None)
@given(box=boxes, ratio=st.floats(1.0, 3.0), beyond=st.booleans())
def test_crop_moves_pixels_uv_and_camera_together(box, ratio, beyond):
    width, height = 93, 71
    corners = (box[0], box[1], min(box[0] + box[2], width - 2), min(box[1] + box[3], height - 2))
    rgba = picture(width, height, corners)
    crop = crop_view(rgba, ratio, beyond)
    if not beyond:
        assert crop.left >= 0 and crop.top >= 0
        assert crop.left + crop.side <= width and crop.top + crop.side <= height
    # A pixel center keeps its place: in the image, and in normalized coordinates.
    pixel = torch.tensor([corners[0], corners[1]], dtype=torch.float64)
    uv = (pixel + 0.5) / torch.tensor([width, height])
    inside = crop.uv(uv) * crop.side - 0.5
    torch.testing.assert_close(inside, pixel - torch.tensor([crop.left, crop.top]), atol=1e-9, rtol=0)
    K = torch.tensor([[1.1, 0.0, 0.47], [0.0, 1.4, 0.52], [0.0, 0.0, 1.0]], dtype=torch.float64)
    ray = torch.tensor([0.1, -0.2, 1.0], dtype=torch.float64)
    torch.testing.assert_close(crop.uv((K @ ray)[:2]), (crop.intrinsics(K) @ ray)[:2], atol=1e-9, rtol=0)
    assert crop.image(rgba).shape == (crop.side, crop.side, 4)


def test_a_crop_beyond_the_border_holds_the_whole_object():
    crop = crop_view(picture(50, 40, (0, 0, 30, 20)), 1.5, beyond_border=True)
    assert crop.left < 0 and crop.top < 0
    assert int((crop.image(picture(50, 40, (0, 0, 30, 20)))[..., 3] > 0).sum()) == 600


def test_views_without_object_or_room_are_refused():
    with pytest.raises(EmptyMaskError):
        crop_view(np.zeros((9, 9, 4), np.uint8), 1.2)
    with pytest.raises(EmptyMaskError):
        crop_view(picture(20, 20, (0, 0, 1, 1)), 1.2)


def test_ratios_follow_their_distribution():
    config, generator = ViewCropConfig(min_ratio=1.1, max_ratio=1.5, concentration=1.5), np.random.default_rng(0)
    draws = np.array([draw_ratio(config, generator) for _ in range(4000)])
    assert draws.min() >= 1.1 and draws.max() <= 1.5
    # Variance of beta(a, a) is 1 / (4 (2a + 1)).
    assert draws.mean() == pytest.approx(1.3, abs=0.01)
    assert draws.std() == pytest.approx(0.4 * math.sqrt(1 / 16), abs=0.01)
    assert draw_ratio(config) == pytest.approx(1.3)


def test_buckets_are_their_middles():
    config, generator = ViewCropConfig(buckets=9), np.random.default_rng(0)
    found = {round(draw_ratio(config, generator), 9) for _ in range(3000)}
    assert found == {round(1.0 + 0.4 * (k + 0.5) / 9, 9) for k in range(9)}


def make_asset(root, distance=2.0, focal_angle=0.9, size=96, box=(3, 12)):
    """A cube of voxels, its picture drawn from their projections, its camera as Blender writes it."""
    coords = torch.cartesian_prod(*[torch.arange(*box)] * 3)
    eye = torch.tensor([1.0, 0.6, 0.5], dtype=torch.float64)
    eye = eye / eye.norm() * distance
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    pose = look_at(eye, torch.zeros(3, dtype=torch.float64), up)
    focal = 0.5 / math.tan(focal_angle / 2)
    seen = pose.apply((coords.double() + 0.5) / RESOLUTION - 0.5)
    pixels = ((seen[:, :2] / seen[:, 2:] * focal + 0.5) * size).floor().long().clamp(0, size - 1)
    rgba = np.zeros((size, size, 4), dtype=np.uint8)
    rgba[pixels[:, 1].numpy(), pixels[:, 0].numpy()] = [255, 255, 255, 255]
    views, latents = root / "renders_cond" / "a", root / "latents" / "m"
    for folder in (root / "voxels", views, latents):
        folder.mkdir(parents=True)
    points = ((coords + 0.5) / RESOLUTION - 0.5).numpy()
    rows = "\n".join(" ".join(map(str, row)) for row in points)
    header = f"ply\nformat ascii 1.0\nelement vertex {len(points)}\n"
    header += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
    (root / "voxels" / "a.ply").write_text(header + rows)
    Image.fromarray(rgba).save(views / "0.png")
    blender = pose.inverse().matrix() @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
    frame = {"file_path": "0.png", "camera_angle_x": focal_angle, "transform_matrix": blender.tolist()}
    (views / "transforms.json").write_text(json.dumps({"frames": [frame]}))
    latent = np.random.default_rng(1).normal(size=(len(coords), 8)).astype(np.float32)
    np.savez(latents / "a.npz", coords=coords.numpy().astype(np.uint8), feats=latent)
    return AssetFolder(root, "a"), pose


def config(**changes):
    return AssetSampleConfig(resolution=RESOLUTION, image_size=96, **changes)


@pytest.mark.parametrize("crop", [None, ViewCropConfig(), ViewCropConfig(min_ratio=2, max_ratio=2)])
def test_uv_of_occupied_voxels_lands_on_the_object(tmp_path, crop):
    asset, pose = make_asset(tmp_path)
    (view,) = asset.views()
    sample = structure_sample(asset, view, config(crop=crop), np.random.default_rng(2))
    torch.testing.assert_close(sample.view.T_camera_object.matrix().double(), pose.matrix(), atol=1e-6, rtol=0)
    coords = sample.occupancy[0].nonzero()
    uv = sample.uv[:, coords[:, 0], coords[:, 1], coords[:, 2]]
    # Same as projecting with the sample's own camera ...
    seen = sample.view.T_camera_object.apply((coords.float() + 0.5) / RESOLUTION - 0.5)
    projected = (seen / seen[:, 2:]) @ sample.view.K_normalized.T
    torch.testing.assert_close(uv, projected[:, :2].T, atol=1e-5, rtol=0)
    # ... and the image is bright there.
    pixels = (uv * 96).long().clamp(0, 95)
    assert float((sample.view.image[0, pixels[1], pixels[0]] > 0.1).float().mean()) > 0.95


def test_flags_mark_the_voxels_whose_uv_is_inside(tmp_path):
    asset, _ = make_asset(tmp_path, distance=1.3, focal_angle=0.7)
    (view,) = asset.views()
    crop = ViewCropConfig(min_ratio=1.0, max_ratio=1.0)
    by_image = structure_sample(asset, view, config(crop=crop))
    by_crop = structure_sample(asset, view, config(crop=crop, flag="crop"))
    occupied = structure_sample(asset, view, config(crop=crop, flag="occupied"))
    whole = structure_sample(asset, view, config())
    assert torch.equal(by_image.flag, whole.flag) and not whole.flag.all()
    inside = ((by_crop.uv >= 0.01) & (by_crop.uv <= 0.99)).all(dim=0)
    assert torch.equal(by_crop.flag[0], inside)
    assert (by_crop.flag & ~by_image.flag).sum() == 0 < by_crop.flag.sum() < by_image.flag.sum()
    assert (occupied.flag & ~occupied.occupancy).sum() == 0
    assert float(by_image.uv.min()) == 0.0 and float(by_image.uv.max()) == 1.0


def test_samples_repeat_with_their_seed_and_crops_vary(tmp_path):
    asset, _ = make_asset(tmp_path)
    (view,) = asset.views()
    settings_ = config(crop=ViewCropConfig(min_ratio=1.0, max_ratio=2.0))
    first, again = (structure_sample(asset, view, settings_, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(first.uv, again.uv) and torch.equal(first.view.image, again.view.image)
    other = structure_sample(asset, view, settings_, np.random.default_rng(6))
    assert other.view.crop != first.view.crop


def test_appearance_rows_are_the_cells_of_the_uv_volume(tmp_path):
    asset, _ = make_asset(tmp_path)
    (view,) = asset.views()
    rows = appearance_sample(asset, view, config(), "m")
    volume = structure_sample(asset, view, config()).uv
    coords = rows.coords.long()
    torch.testing.assert_close(rows.uv, volume[:, coords[:, 0], coords[:, 1], coords[:, 2]].T)
    scale = LatentScale(rows.latent.mean(dim=0), rows.latent.std(dim=0))
    normal = appearance_sample(asset, view, config(), "m", scale=scale).latent
    torch.testing.assert_close(normal.mean(dim=0), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal.std(dim=0), torch.ones(8))
    torch.testing.assert_close(scale.denormalize(normal), rows.latent)


def test_a_camera_inside_the_cube_is_refused(tmp_path):
    asset, _ = make_asset(tmp_path, distance=0.2)
    (view,) = asset.views()
    with pytest.raises(DatasetError, match="camera"):
        structure_sample(asset, view, config())


def test_an_object_out_of_the_view_is_refused_where_its_voxels_matter(tmp_path):
    asset, _ = make_asset(tmp_path)
    (view,) = asset.views()
    away = SE3.exp(torch.tensor([5.0, 0.0, 0.0, 0.0, 0.0, 0.0])) @ view.T_camera_object
    moved = type(view)(view.name, view.image_path, away, view.K_normalized)
    with pytest.raises(DatasetError, match="voxels project"):
        structure_sample(asset, moved, config(flag="occupied"))
