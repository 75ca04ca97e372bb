"""From two meshes to one step of each of the five stages, through the commands that people use."""

import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))
from meshes_on_disk import textured_box, torus

from cupid_core.cli import main
from cupid_core.config import AssetPreparationConfig, ViewCropConfig, load
from cupid_core.data.assets.layout import AssetFolder, read_metadata
from cupid_core.data.assets.prepare import prepare_assets
from cupid_core.data.assets.view_crop import draw_ratio
from cupid_core.models.image_encoder import DinoVisionTransformer, image_encoder_args
from cupid_core.training.appearance_codec import codec_grid
from cupid_core.training.appearance_networks import FrozenNetworks, make_networks
from cupid_core.training.asset_voxels import AssetVoxels
from cupid_core.training.settings import TrainConfig

RESOLUTION, SIZE = 16, 32
TRAINING = f"""
workers: 0
threads: 1
data: assets
assets:
  roots: [DATA]
  sample: {{resolution: {RESOLUTION}, image_size: {SIZE}, crop: {{buckets: 2}}}}
occupancy_vae: &vae
  network: {{latent_channels: 4, encoder_channels: [8, 8], decoder_channels: [8, 8]}}
  validation_views: 2
  run: &run
    {{steps: 1, batch_size: 2, log_every: 1, validate_every: 1, sheet_every: 0, optimizer: {{warmup_steps: 1}}}}
uv_vae: *vae
structure:
  image_encoder:
    {{image_size: {SIZE}, stem_channels: [8, 8, 16], stem_residual: [], embed_dim: 32, depth: 1, num_heads: 2}}
  network: {{model_channels: 32, num_blocks: 1, num_heads: 2}}
  validation_views: 2
  validation_steps: 2
  run: *run
appearance_vae:
  resolution: {RESOLUTION}
  latent_channels: 4
  encoder: {{channels: 64, blocks: 1, heads: 2, mlp_ratio: 2}}
  decoder: {{blocks: 1, mlp_ratio: 1}}
  sample: {{crop: 6}}
  validation_objects: 1
  scale_objects: 2
  run: *run
appearance:
  network:
    channels: 64
    blocks: 1
    heads: 2
    mlp_ratio: 2
    levels: [32]
    condition_channels: 4
    visual_resolution: {SIZE}
    visual_channels: [8, 8]
    encoder: {{channels: 32, blocks: 1, heads: 2, mlp_ratio: 1}}
  assets: {{model: appearance-vae, channels: 4}}
  validation_objects: 1
  run: *run
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("assets")
    (folder / "meshes").mkdir()
    torus(folder / "meshes" / "ring.glb")
    textured_box(folder / "meshes" / "box.obj")
    config = AssetPreparationConfig(resolution=RESOLUTION, views=2, image_size=48)
    assert len(prepare_assets([folder / "meshes"], folder / "data", config).reports) == 2
    (folder / "train.yaml").write_text(TRAINING.replace("DATA", str(folder / "data")))
    return folder


def test_two_meshes_train_one_step_of_each_stage(prepared, capsys):
    training = ["--config", str(prepared / "train.yaml"), "--out", str(prepared / "out")]
    preparing = ["data", "prepare", str(prepared / "meshes"), "--out", str(prepared / "data"), "--processes", "1"]
    preparing += ["--resolution", str(RESOLUTION), "--views", "2", "--image-size", "48"]
    preparing += ["--encoders", str(prepared / "out"), "--train-config", str(prepared / "train.yaml")]
    for stage in ("occupancy-vae", "uv-vae", "structure", "appearance-vae"):
        assert main(["train", stage, *training]) == 0, stage
    assert main(preparing) == 0
    assert main(["train", "appearance", *training]) == 0
    for stage in ("occupancy-vae", "uv-vae", "structure", "appearance-vae", "appearance"):
        header, values = (prepared / "out" / stage / "losses.csv").read_text().splitlines()[:2]
        row = dict(zip(header.split(","), values.split(","), strict=True))
        assert row["step"] == "1" and all(math.isfinite(float(value)) for value in row.values() if value), stage
    assert "appearance: finished at step 1" in capsys.readouterr().out
    _check_latents(prepared)


def _check_latents(prepared):
    """What was written beside the voxels is what the readers want, for every object, view and crop."""
    for record in read_metadata(prepared / "data"):
        asset = AssetFolder(prepared / "data", record.sha256)
        assert {"ss_latent_occupancy-vae", "suv_latent_uv-vae", "latent_appearance-vae"} <= record.available
        coords, latent = asset.structured_latent("appearance-vae")
        assert len(coords) == record.num_voxels and latent.shape == (record.num_voxels, 4)
        assert asset.structure_latent("occupancy-vae").shape == (4, 8, 8, 8)
        crop, generator = ViewCropConfig(buckets=2), np.random.default_rng(0)
        ratios = [None, *sorted({draw_ratio(crop, generator) for _ in range(20)})]
        assert len(ratios) == 3
        latents = [asset.uv_latent("uv-vae", view.name, ratio) for view in asset.views() for ratio in ratios]
        assert all(bool(latent.isfinite().all()) for latent in latents)
        assert not torch.equal(latents[0], latents[1]) and not torch.equal(latents[0], latents[3])


def test_voxels_of_assets_follow_from_the_number_and_damage_is_passed_over(prepared, tmp_path, caplog):
    config = load(TrainConfig, prepared / "train.yaml")
    settings = config.appearance_vae
    data = shutil.copytree(prepared / "data", tmp_path / "data")
    where = config.assets.model_copy(update={"roots": (str(data),)})

    def source():
        return AssetVoxels(where, settings, codec_grid(settings), seed=1, device="cpu")

    first, again, other = source().batch(3), source().batch(3), source().batch(4)
    assert torch.equal(first.truth.sdf, again.truth.sdf) and torch.equal(first.in_loss, again.in_loss)
    assert first.truth.sdf.shape != other.truth.sdf.shape or not torch.equal(first.truth.sdf, other.truth.sdf)
    assert first.objects == 2 and 0 < int(first.in_loss.sum()) < len(first.in_loss)
    (whole,) = source().validation_objects("train", 1, 2)
    assert bool(whole.in_loss.all()) and int(whole.interior) > 0
    per_voxel = whole.truth.sdf[whole.truth.place.flatten(1)]
    # Every voxel of the shell has the surface in it.
    assert float(per_voxel.abs().amin(dim=1).max()) <= math.sqrt(3) / 8 / RESOLUTION + 1e-6
    assert list(source().validation_objects("held_out", 1, 2)) == []
    bad = next((data / "surfaces").iterdir())
    bad.write_bytes(b"nonsense")
    damaged = source()
    assert all(damaged.batch(number).objects == 2 for number in range(3))
    assert sum(bad.stem in record.getMessage() for record in caplog.records) == 1


def test_the_full_size_appearance_networks_are_the_published_ones():
    config = load(TrainConfig, Path(__file__).resolve().parents[3] / "config" / "train" / "full.yaml")
    with torch.device("meta"):
        images = DinoVisionTransformer(**image_encoder_args(config.structure.image_encoder.kind))
        frozen_networks = FrozenNetworks(
            images, config.assets.sample.resolution, config.appearance.assets.channels
        )
        made = make_networks(config.appearance.network, frozen_networks)
    assert sum(parameter.numel() for parameter in made.flow.parameters()) == 600_436_148
    assert sum(parameter.numel() for parameter in made.encoder.parameters()) == 85_817_104
    assert len(config.appearance.assets.mean) == len(config.appearance.assets.std) == 8
