"""The ablation: variants differ in nothing but the conditioning, runs go on where they were, results are kept."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cupid_core import config as settings_of
from cupid_core.training.catalogue import build_stage
from cupid_core.training.export import EXPORT, write_networks
from cupid_core.training.settings import TrainConfig
from cupid_core.training.stage import StageContext

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "ablation.py"
TINY = """
workers: 0
threads: 1
tabletop:
  objects: {image_size: 32, resolution: 8, views_per_object: 1}
  objects_per_shard: 2
  first_shards: 1
  most_shards: 1
  validation_objects: 1
  cells: 8
occupancy_vae: &vae
  network: {latent_channels: 4, encoder_channels: [8, 8], decoder_channels: [8, 8]}
uv_vae: *vae
structure:
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
  run: {batch_size: 2, log_every: 1, optimiser: {warmup_steps: 1}}
samplers:
  structure: {steps: 1}
  appearance: {steps: 1}
"""


@pytest.fixture(scope="module")
def ablation():
    specification = importlib.util.spec_from_file_location("ablation", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    # Dataclasses look their module up.
    sys.modules["ablation"] = module
    specification.loader.exec_module(module)
    yield module
    del sys.modules["ablation"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Settings, and a training folder whose earlier stages have exports (never trained)."""
    folder = tmp_path_factory.mktemp("ablation")
    path = folder / "tiny.yaml"
    path.write_text(TINY)
    config, root = settings_of.load(TrainConfig, path), folder / "training"
    context = StageContext(root, torch.device("cpu"))
    for name in ("occupancy-vae", "uv-vae", "structure", "appearance-vae"):
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
