"""Stage "appearance" on assets in the published layout: views and latents agree, faults are passed over."""

import json
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from appearance_cases import CHANNELS, CONTEXT, RESOLUTION, SIZE, STAGE, frozen_networks
from PIL import Image

from cupid_core.config import AssetSampleConfig
from cupid_core.errors import ConfigError, DatasetError
from cupid_core.render.cameras import look_at
from cupid_core.training.appearance_assets import AssetAppearanceSource, latent_scale
from cupid_core.training.appearance_batch import project_voxels
from cupid_core.training.appearance_settings import AssetLatentSettings
from cupid_core.training.appearance_stage import AppearanceStage
from cupid_core.training.settings import AssetSourceSettings
from cupid_core.training.voxel_truth import VoxelGrid

MODEL, ANGLE = "tiny", 0.9
LATENTS = AssetLatentSettings(model=MODEL, channels=CHANNELS)


def asset(root, name, seed):
    """A block of voxels, a white picture of it, and latents that hold the voxels' own places."""
    coords = torch.cartesian_prod(*[torch.arange(3, 9 + seed)] * 3)
    eye = torch.tensor([1.0, 0.6 - seed, 0.5], dtype=torch.float64) * 2
    pose = look_at(eye, torch.zeros(3, dtype=torch.float64), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    seen = pose.apply((coords.double() + 0.5) / RESOLUTION - 0.5)
    pixel = ((seen[:, :2] / seen[:, 2:] * 0.5 / math.tan(ANGLE / 2) + 0.5) * SIZE).long().clamp(0, SIZE - 1)
    rgba = np.zeros((SIZE, SIZE, 4), dtype=np.uint8)
    rgba[pixel[:, 1].numpy(), pixel[:, 0].numpy()] = 255
    views, latents = root / "renders_cond" / name, root / "latents" / MODEL
    views.mkdir(parents=True)
    latents.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgba).save(views / "0.png")
    blender = pose.inverse().matrix() @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
    frame = {"file_path": "0.png", "camera_angle_x": ANGLE, "transform_matrix": blender.tolist()}
    (views / "transforms.json").write_text(json.dumps({"frames": [frame]}))
    feats = torch.cat([coords, coords[:, :1]], dim=1).float().numpy()
    np.savez(latents / f"{name}.npz", coords=coords.numpy().astype(np.uint8), feats=feats)


@pytest.fixture
def root(tmp_path):
    names = [digit * 64 for digit in "05a"]
    for seed, name in enumerate(names):
        asset(tmp_path, name, seed)
    rows = "".join(f"{name},5.0,200,True,True\n" for name in names)
    header = f"sha256,aesthetic_score,num_voxels,cond_rendered,latent_{MODEL}\n"
    (tmp_path / "metadata.csv").write_text(header + rows + f"{'f' * 64},1.0,200,True,True\n")
    return tmp_path


def settings(root):
    return AssetSourceSettings(
        roots=(str(root),),
        sample=AssetSampleConfig(resolution=RESOLUTION, image_size=SIZE),
        validation_share=0.1,
        min_aesthetic_score=4.5,
    )


def test_voxels_of_a_view_lie_on_its_picture_and_bring_their_latents(root):
    views = AssetAppearanceSource(settings(root), LATENTS).views(0, 6)
    for view in views:
        topology = VoxelGrid(RESOLUTION).index(torch.cat([torch.zeros_like(view.coords[:, :1]), view.coords], 1))
        uv, _ = project_voxels(topology, view.T_camera_object[None], view.intrinsics[None])
        pixel = (uv * SIZE).long().clamp(0, SIZE - 1)
        assert float((view.image[3, pixel[:, 1], pixel[:, 0]] > 0).float().mean()) > 0.95
        assert torch.equal(view.latent[:, :3], view.coords.float())
    assert {len(view.coords) for view in views} == {7**3, 8**3}  # the first asset is kept for validation


def test_views_follow_from_the_number_and_validation_is_apart(root):
    source = AssetAppearanceSource(settings(root), LATENTS)
    first, again = source.views(3, 4), source.views(3, 4)
    assert all(torch.equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    grid = VoxelGrid(RESOLUTION, window=8, levels=1)
    (views,) = source.validation("train", 2, 4, grid)
    assert views.voxels is None and torch.bincount(views.batch.topology.item).tolist() == [6**3, 6**3]
    assert list(source.validation("held_out", 2, 4, grid)) == []


def test_the_stage_trains_and_validates_on_assets(root):
    scaled = LATENTS.model_copy(update={"mean": (6.0,) * CHANNELS, "std": (2.0,) * CHANNELS})
    source = AssetAppearanceSource(settings(root), scaled)
    without_decoder = replace(frozen_networks(), decoder=None)
    stage = AppearanceStage(STAGE, CONTEXT, without_decoder, source)
    batch = stage.batch(0)
    assert float(batch.latent.abs().max()) < 3
    stage.loss(batch, torch.Generator().manual_seed(0)).total.backward()
    with torch.no_grad():
        assert set(stage.validate()) == {"velocity"} and stage.sheet() is None


def test_a_damaged_asset_is_reported_and_passed_over(root, caplog):
    (root / "latents" / MODEL / f"{'5' * 64}.npz").write_bytes(b"nonsense")
    with caplog.at_level(logging.WARNING):
        views = AssetAppearanceSource(settings(root), LATENTS).views(0, 8)
    assert {len(view.coords) for view in views} == {8**3} and "5555" in caplog.text
    for path in (root / "latents" / MODEL).iterdir():
        path.write_bytes(b"nonsense")
    with pytest.raises(DatasetError, match="No asset"):
        AssetAppearanceSource(settings(root), LATENTS).views(0, 1)


def test_what_cannot_be_used_is_said(root):
    with pytest.raises(DatasetError, match="latent_unknown"):
        AssetAppearanceSource(settings(root), LATENTS.model_copy(update={"model": "unknown"}))
    with pytest.raises(ConfigError, match="means"):
        latent_scale(AssetLatentSettings(mean=(0.0,), std=(1.0,), channels=2))
    assert latent_scale(LATENTS) is None
