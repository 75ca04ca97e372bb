"""Comparisons of trainings: variants differ in one thing, runs continue where they stopped, results are kept."""

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cupid_core import config as settings_of
from cupid_core.training.catalogue import build_stage
from cupid_core.training.export import EXPORT, write_networks
from cupid_core.training.settings import TrainConfig
from cupid_core.training.stage import StageContext

SCRIPTS = Path(__file__).resolve().parents[3] / "benchmarks"
TINY = """
workers: 0
threads: 1
tabletop: &views
  objects: {image_size: 32, resolution: 8, views_per_object: 1}
  objects_per_shard: 2
  first_shards: 1
  most_shards: 1
  validation_objects: 1
  cells: 8
occupancy_vae: &vae
  network: {latent_channels: 4, encoder_channels: [8, 8], decoder_channels: [8, 8]}
uv_vae: *vae
image_encoder:
  views: *views
  validation_views: 1
  run: {batch_size: 2, optimizer: {warmup_steps: 1}}
structure:
  run: {batch_size: 2, optimizer: {warmup_steps: 1}}
  image_encoder:
    {image_size: 32, stem_channels: [8, 8, 16], stem_residual: [], embed_dim: 32, depth: 1, num_heads: 2}
  network: {model_channels: 32, num_blocks: 1, num_heads: 2}
appearance_vae:
  resolution: 8
  latent_channels: 4
  lattice: 2
  encoder: {channels: 32, blocks: 1, heads: 2, mlp_ratio: 1}
  decoder: {channels: 256, blocks: 1, heads: 2, mlp_ratio: 1}
  scale_objects: 2
appearance:
  network:
    channels: 32
    blocks: 1
    heads: 2
    levels: [16]
    blocks_per_level: 1
    condition_channels: 4
    visual_resolution: 32
    visual_channels: [4]
    encoder: {channels: 32, blocks: 1, heads: 2, mlp_ratio: 1}
  run: {batch_size: 2, log_every: 1, optimizer: {warmup_steps: 1}}
samplers:
  structure: {steps: 1}
  appearance: {steps: 1}
"""


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """The scripts of benchmarks/ can be imported, as they import each other."""
    sys.path.insert(0, str(SCRIPTS))
    yield
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def ablation(scripts):
    import ablation

    return ablation


@pytest.fixture(scope="module")
def realism(scripts):
    import realism

    return realism


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Settings, and a training folder whose earlier stages have exports (never trained)."""
    folder = tmp_path_factory.mktemp("ablation")
    path = folder / "tiny.yaml"
    path.write_text(TINY)
    config, root = settings_of.load(TrainConfig, path), folder / "training"
    context = StageContext(root, torch.device("cpu"))
    for name in ("occupancy-vae", "uv-vae", "structure", "appearance-vae", "appearance"):
        stage = build_stage(name, config, context)
        with torch.no_grad():
            write_networks(root / name / EXPORT, stage.exports())
        stage.close()
    return path, root


def test_variants_differ_in_their_conditioning_alone(ablation, prepared):
    config = settings_of.load(TrainConfig, prepared[0])
    plan = ablation.Plan(config, prepared[1], steps=7, objects=1, held_out=0)
    made = [ablation.variant_config(plan, variant) for variant in ablation.VARIANTS]
    assert [one.appearance.network.conditioning for one in made] == list(ablation.VARIANTS)
    same = [one.appearance.model_copy(update={"network": config.appearance.network}) for one in made]
    assert all(one == same[0] for one in same) and same[0].run.steps == 7
    assert all(one.tabletop == config.tabletop and one.seed == config.seed for one in made)


def test_one_step_of_two_variants_is_trained_measured_and_kept(ablation, prepared, capsys):
    path, root = prepared
    arguments = ["--config", str(path), "--root", str(root), "--steps", "1", "--objects", "1", "--held-out", "0"]
    arguments += ["--variants", "none", "latent_visual"]
    assert ablation.main(arguments) == 0
    results = ablation.read_results(root / "ablation")
    assert [(item.variant, item.steps, item.images) for item in results] == [
        ("none", 1, 2),
        ("latent_visual", 1, 2),
    ]
    assert all(0 < item.psnr < 60 for item in results if item.psnr == item.psnr)
    table = (root / "ablation" / "ablation.md").read_text()
    assert "| (a) | none | 1 |" in table and "| (e) | latent_visual | 1 |" in table
    for variant in ("none", "latent_visual"):
        assert (root / "ablation" / variant / "checkpoint" / "pipeline.json").is_file()
    # What is measured is not done again.
    written = (root / "ablation" / "none" / "appearance" / "state.pt").stat().st_mtime_ns
    assert ablation.main(arguments) == 0
    assert (root / "ablation" / "none" / "appearance" / "state.pt").stat().st_mtime_ns == written
    assert "PSNR" in capsys.readouterr().out


def test_a_result_replaces_that_of_the_same_run(ablation, tmp_path):
    first = ablation.Result("none", 10, 80, 4, 15.0, 14.0, 13.0, 12.0)
    for result in (first, replace(first, variant="latent", psnr=16.0), replace(first, psnr=15.5)):
        ablation.add_result(tmp_path, result)
    assert [(item.variant, item.psnr) for item in ablation.read_results(tmp_path)] == [
        ("none", 15.5),
        ("latent", 16.0),
    ]


def test_plain_and_realistic_training_differ_in_their_views_alone(realism, prepared):
    config = settings_of.load(TrainConfig, prepared[0])
    plan = realism.Plan(config, prepared[1], encoder_steps=5, steps=7, samples=1)
    plain, realistic = (realism.variant_config(plan, variant) for variant in realism.VARIANTS)
    assert realistic.tabletop == config.tabletop
    assert plain.tabletop.objects.degradation == 0.0 and plain.tabletop.change.exposure_std == 0.0
    assert plain.image_encoder.views == plain.tabletop != realistic.tabletop
    back = {"views": realistic.image_encoder.views}
    assert plain.image_encoder.model_copy(update=back) == realistic.image_encoder
    assert plain.structure == realistic.structure and plain.structure.run.steps == 7


def test_one_step_of_both_kinds_of_views_is_trained_and_measured(realism, prepared, tmp_path, capsys):
    path, root = prepared
    labels = np.zeros((48, 64), np.uint8)
    labels[10:30, 8:28], labels[15:40, 36:60] = 1, 2
    Image.fromarray(labels).save(tmp_path / "labels.png")
    Image.fromarray(np.where(labels[..., None] > 0, np.uint8(200), np.uint8(90)).repeat(3, 2)).save(
        tmp_path / "color.png"
    )
    arguments = ["--config", str(path), "--root", str(root), "--encoder-steps", "1", "--steps", "1"]
    arguments += ["--samples", "1", "--camera", "80,80,32,24"]
    arguments += ["--image", str(tmp_path / "color.png"), "--labels", str(tmp_path / "labels.png")]
    assert realism.main(arguments) == 0
    assert realism.main([*arguments, "--variants", "plain"]) == 0
    with (root / "realism" / "realism.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert [line["views"] for line in lines] == ["plain", "realistic"]
    assert all(0 <= float(line[id_]) <= 1 and line["steps"] == "1" for line in lines for id_ in "12")
    assert Image.open(root / "realism" / "plain.png").size == (64, 48)
    assert "| plain | 1 | 1 |" in capsys.readouterr().out
    # The structure alone, on from these weights.
    start = str(root / "realism" / "realistic" / "checkpoint")
    assert realism.main([*arguments, "--variants", "plain", "--start-from", start]) == 0
    with (root / "realism-continued" / "realism.csv").open() as stream:
        assert [(line["views"], line["encoder_steps"]) for line in csv.DictReader(stream)] == [("plain", "0")]
    assert not (root / "realism-continued" / "plain" / "image-encoder").exists()
