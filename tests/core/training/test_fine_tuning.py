"""Training goes on from an exported checkpoint alone: every stage, float16 weights, a new average."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from appearance_cases import CONTEXT, STAGE, VAE
from safetensors.torch import load_file
from tiny_stages import run_settings, structure_stage, vae_stage

from cupid_core.config import SamplerConfig
from cupid_core.data.tabletop import TabletopSettings
from cupid_core.errors import TrainingError
from cupid_core.training.appearance_stage import build_appearance_stage
from cupid_core.training.appearance_vae_stage import AppearanceVaeStage
from cupid_core.training.checkpoint import SHIPPED, TRAINING_ONLY, unpack_checkpoint, write_checkpoint
from cupid_core.training.export import EXPORT, write_networks
from cupid_core.training.fine_tune import PUBLISHED_KEYS, start_from_checkpoint
from cupid_core.training.loop import LoopOptions, train
from cupid_core.training.run_folder import STATE, load_state
from cupid_core.training.settings import TrainConfig
from cupid_core.training.stage import StageContext
from cupid_core.training.structure_settings import ImageEncoderSettings, StructureSettings
from cupid_core.training.tabletop_source import TabletopSourceSettings

SAMPLERS = (SamplerConfig(), SamplerConfig())
RUN = run_settings(2, precision="bfloat16", batch_size=2)
VIEWS = TabletopSourceSettings(
    objects=TabletopSettings(views_per_object=1, image_size=32, resolution=16),
    objects_per_shard=2,
    first_shards=1,
    most_shards=1,
)
STAGES = ("occupancy-vae", "uv-vae", "structure", "appearance-vae", "appearance")
# As the image encoder of `tiny_stages.structure_stage`.
LOOK = ImageEncoderSettings(
    image_size=32, stem_channels=(16, 24, 32), stem_residual=(), embed_dim=64, depth=1, num_heads=4
)


def make(name, root):
    """A stage of a training in a folder, fresh."""
    if name in ("occupancy-vae", "uv-vae"):
        return vae_stage(name.removesuffix("-vae"), root, RUN)
    if name == "structure":
        return structure_stage(root, RUN)
    if name == "appearance-vae":
        return AppearanceVaeStage(VAE.model_copy(update={"run": RUN}), replace(CONTEXT, root=root))
    config = TrainConfig(
        structure=StructureSettings(image_encoder=LOOK),
        appearance=STAGE.model_copy(update={"run": RUN}),
        tabletop=VIEWS,
    )
    return build_appearance_stage(config, StageContext(root, torch.device("cpu")))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """All five stages, one after the other, exported without being trained for long."""
    root = tmp_path_factory.mktemp("first")
    for name in STAGES:
        stage = make(name, root)
        with torch.no_grad():
            for value in stage.networks.parameters():
                value.add_(0.01 * torch.randn_like(value))  # nothing is zero, nothing as a fresh one
            write_networks(root / name / EXPORT, stage.exports())
        stage.close()
    folder = tmp_path_factory.mktemp("made") / "checkpoint"
    assert write_checkpoint(root, folder, SAMPLERS).missing == ()
    return folder


@pytest.fixture
def again(checkpoint, root):
    """A new training that has nothing but the checkpoint."""
    assert set(unpack_checkpoint(checkpoint, root)) == set(STAGES)
    return root


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_goes_on_from_a_checkpoint_alone(name, checkpoint, again, caplog):
    stage = make(name, again)
    done = start_from_checkpoint(stage, checkpoint, "skip")
    assert set(done) == set(stage.networks), "a network would start fresh"
    assert caplog.text == ""
    keys = {network: PUBLISHED_KEYS[name].get(network, network) for network in done}
    assert set(keys.values()) == set(SHIPPED[name] + TRAINING_ONLY[name])
    for network, fitted in done.items():
        assert not fitted.missing and not fitted.fitted and not fitted.unexpected
        saved = load_file(checkpoint / "ckpts" / f"{keys[network]}.safetensors")
        for key, value in stage.networks[network].state_dict().items():
            assert torch.equal(value, saved[key].to(value.dtype)), key
    before = {key: value.detach().clone() for key, value in stage.networks.named_parameters()}
    result = train(stage, RUN.model_copy(update={"steps": 2}), LoopOptions(again / name))
    assert result.reason == "finished"
    state = load_state(again / name / STATE, name)
    assert state.average.keys() == before.keys()
    for key, value in before.items():
        # Two steps of a small rate away from the checkpoint, and no trace of fresh weights in the average.
        assert float((state.average[key] - value).abs().max()) < 0.05, key


def test_weights_of_a_checkpoint_are_not_rounded_to_the_precision_of_the_run(checkpoint, again):
    stage = make("structure", again)
    start_from_checkpoint(stage, checkpoint, "skip")
    saved = load_file(checkpoint / "ckpts" / "sparse_structure_flow_model.safetensors")
    frozen = RUN.model_copy(update={"optimizer": RUN.optimizer.model_copy(update={"learning_rate": 1e-12})})
    train(stage, frozen, LoopOptions(again / "structure"))
    masters = load_state(again / "structure" / STATE, "structure").masters
    for key, value in saved.items():
        if key != "pos_emb":
            torch.testing.assert_close(masters[f"structure_flow.{key}"], value.float(), atol=1e-9, rtol=1e-6)


def test_what_lacks_in_a_checkpoint_is_said(checkpoint, again, tmp_path, caplog):
    plain = tmp_path / "plain"
    write_checkpoint(again, plain, SAMPLERS, trainable=False)
    assert not (plain / "ckpts" / "sparse_structure_encoder.safetensors").exists()
    start_from_checkpoint(make("occupancy-vae", again), plain, "skip")
    assert "has no 'encoder': it starts fresh" in caplog.text


def test_a_checkpoint_is_unpacked_once_and_packs_to_the_same(checkpoint, again, tmp_path):
    with pytest.raises(TrainingError, match="has an export already"):
        unpack_checkpoint(checkpoint, again)
    write_checkpoint(again, tmp_path / "same", SAMPLERS)
    assert (tmp_path / "same" / "SHA256SUMS").read_text() == (checkpoint / "SHA256SUMS").read_text()
