"""`cupid train` from a settings file: trains, stops in time, resumes, exports; shipped files load."""

import time
from pathlib import Path

import pytest
import torch

from cupid_core.cli import main
from cupid_core.cli.train import seconds
from cupid_core.config import load
from cupid_core.errors import ConfigError
from cupid_core.models.structure_flow import SparseStructureFlowModel
from cupid_core.models.structure_vae import SparseStructureDecoder, SparseStructureEncoder
from cupid_core.models.weights import read_checkpoint
from cupid_core.training.image_encoders import SMALL_ENCODERS, image_encoder_arguments
from cupid_core.training.settings import TrainConfig
from cupid_core.training.structure_vae_stage import decoder_arguments, encoder_arguments

CONFIGS = Path(__file__).resolve().parents[3] / "config" / "train"
TINY = """
workers: 0
threads: 1
tabletop:
  objects: {image_size: 32, resolution: 8, views_per_object: 1}
  objects_per_shard: 4
  first_shards: 1
  most_shards: 1
  validation_objects: 2
  cells: 8
occupancy_vae: &vae
  network: {latent_channels: 4, encoder_channels: [8, 8], decoder_channels: [8, 8]}
  validation_views: 2
  run: &run
    {steps: 4, batch_size: 2, log_every: 1, validate_every: 2, sheet_every: 2, optimizer: {warmup_steps: 1}}
uv_vae: *vae
structure:
  image_encoder:
    {image_size: 32, stem_channels: [8, 8, 16], stem_residual: [], embed_dim: 32, depth: 1, num_heads: 2}
  network: {model_channels: 32, num_blocks: 1, num_heads: 2}
  validation_views: 2
  validation_steps: 2
  run: *run
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def test_all_stages_then_export(config, root, tmp_path, capsys):
    common = ["--config", str(config), "--out", str(root)]
    assert main(["train", "structure", *common]) == 2
    assert "earlier stages first" in capsys.readouterr().err.replace("\n", " ")
    for stage in ("occupancy-vae", "uv-vae", "structure"):
        assert main(["train", stage, *common]) == 0
        assert len(list((root / stage / "sheets").glob("*.png"))) == 2
        assert (root / stage / "losses.csv").read_text().count("\n") == 5
    said = capsys.readouterr().out
    assert "structure: finished at step 4, 8 images" in said
    assert "rotation_deg" in said and "images/s" in said
    # Appearance is not trained yet: the command says what is missing, and what there is can be read.
    assert main(["checkpoint", "export", *common, "--to", str(tmp_path / "made")]) == 1
    assert "missing: slat_flow_model" in capsys.readouterr().out
    assert "image_encoder" in read_checkpoint(tmp_path / "made").networks


def test_a_stage_that_is_out_of_time_is_resumed(config, root, capsys):
    config.write_text(TINY.replace("steps: 4", "steps: 1000000"))
    common = ["--config", str(config), "--out", str(root)]
    assert main(["train", "uv-vae", *common, "--time-limit", "3s"]) == 0
    assert "uv-vae: out of time at step" in capsys.readouterr().out
    steps = int((root / "uv-vae" / "losses.csv").read_text().splitlines()[-1].split(",")[0])
    assert main(["train", "uv-vae", *common, "--time-limit", "3s", "--resume"]) == 0
    more = [line.split(",")[0] for line in (root / "uv-vae" / "losses.csv").read_text().splitlines()[1:]]
    assert more == [str(step) for step in range(1, len(more) + 1)] and len(more) > steps


def test_the_time_limit_holds_while_the_first_shards_are_made(config, root, capsys):
    slow = TINY.replace("workers: 0", "workers: 1").replace("objects_per_shard: 4", "objects_per_shard: 4000")
    config.write_text(slow)
    common = ["--config", str(config), "--out", str(root)]
    began = time.monotonic()
    assert main(["train", "uv-vae", *common, "--time-limit", "4s"]) == 0
    assert time.monotonic() - began < 30.0
    assert "uv-vae: out of time at step 0, 0 images" in capsys.readouterr().out
    assert not (root / "uv-vae" / "export").exists(), "untrained weights are no result of a stage"
    # The run can be resumed, with shards that are quick to make now.
    config.write_text(TINY)
    assert main(["train", "uv-vae", *common, "--resume", "--accept-changes"]) == 0
    assert "uv-vae: finished at step 4, 8 images" in capsys.readouterr().out


def test_unknown_stages_are_refused(config, root, capsys):
    assert main(["train", "everything", "--config", str(config), "--out", str(root)]) == 2
    assert "occupancy-vae" in capsys.readouterr().err


def test_durations():
    assert [seconds(text) for text in ("90s", "9m", "1.5h", "")] == [90.0, 540.0, 5400.0, None]
    for wrong in ("9", "m", "nine", "9 m"):
        with pytest.raises(ConfigError):
            seconds(wrong)


def _count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_full_size_is_the_published_size():
    config = load(TrainConfig, CONFIGS / "full.yaml")
    with torch.device("meta"):
        counts = [
            _count(kind(**arguments(volume, section.network)))
            for volume, section in (("occupancy", config.occupancy_vae), ("uv", config.uv_vae))
            for kind, arguments in (
                (SparseStructureEncoder, encoder_arguments),
                (SparseStructureDecoder, decoder_arguments),
            )
        ]
    assert counts == [59_298_192, 73_671_201, 59_299_920, 73_672_931]


@pytest.mark.parametrize("name", ["tabletop", "tabletop_gpu"])
def test_the_small_networks_fit_into_files_of_16_mib(name):
    config = load(TrainConfig, CONFIGS / f"{name}.yaml").structure
    encoder = SMALL_ENCODERS[config.image_encoder.kind](**image_encoder_arguments(config.image_encoder))
    size = config.network
    with torch.device("meta"):
        flow = SparseStructureFlowModel(
            resolution=8,
            in_channels=16,
            out_channels=16,
            model_channels=size.model_channels,
            cond_channels=encoder.embed_dim,
            num_blocks=size.num_blocks,
            num_heads=size.num_heads,
            patch_size=size.patch_size,
            share_mod=size.share_mod,
            qk_rms_norm=True,
        )
    for network in (encoder, flow):
        assert 2 * sum(value.numel() for value in network.state_dict().values()) < 15.9 * 2**20
