"""What is trained comes out as a checkpoint that loads, and goes in again to be trained further."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny_stages import run_settings, structure_stage, vae_stage

from cupid_core.config import SamplerConfig
from cupid_core.errors import TrainingError
from cupid_core.models.conv_image_encoder import ConvImageTransformer
from cupid_core.models.structure_vae import SparseStructureDecoder, SparseStructureEncoder
from cupid_core.models.verify import verify
from cupid_core.models.weights import read_checkpoint
from cupid_core.training.checkpoint import CheckpointLimits, write_checkpoint
from cupid_core.training.export import EXPORT, read_network, write_networks
from cupid_core.training.fine_tune import start_from_checkpoint
from cupid_core.training.loop import LoopOptions, train
from cupid_core.training.stage import ExportedNetwork
from cupid_core.training.structure_vae_stage import volume

SAMPLERS = (SamplerConfig(steps=12, guidance_strength=1.0, rescale_t=2.0), SamplerConfig())


@pytest.fixture
def trained(root):
    run = run_settings(3, precision="bfloat16", batch_size=4)
    for kind in ("occupancy", "uv"):
        train(vae_stage(kind, root, run), run, LoopOptions(root / f"{kind}-vae"))
    stage = structure_stage(root, run)
    train(stage, run, LoopOptions(root / "structure"))
    return root


def test_the_export_of_an_autoencoder_has_a_latent_of_unit_size_and_the_same_answer(root):
    run = run_settings(1)
    for kind in ("occupancy", "uv"):
        stage = vae_stage(kind, root, run)
        with torch.no_grad():
            write_networks(root / kind, stage.exports())
            batch, _ = stage._source.validation(8)
            read = volume(batch, kind, centered=True)
            mean, logvar = stage.encoder(read)
            expected = stage.decoder(mean)
            keys = [exported.key for exported in stage.exports()]
            encoder = read_network(root / kind, keys[0], SparseStructureEncoder, torch.device("cpu"))
            decoder = read_network(root / kind, keys[1], SparseStructureDecoder, torch.device("cpu"))
            latent, latent_logvar = encoder(read)
        rms = latent.transpose(0, 1).flatten(1).square().mean(1).sqrt()
        torch.testing.assert_close(rms, torch.ones(4), atol=5e-3, rtol=0)
        torch.testing.assert_close(decoder(latent), expected, atol=2e-2, rtol=2e-2)  # float16 files
        # Mean and deviation are scaled alike.
        torch.testing.assert_close(
            latent / torch.exp(0.5 * latent_logvar), mean / torch.exp(0.5 * logvar), atol=2e-2, rtol=2e-2
        )


def test_a_checkpoint_of_all_stages_is_in_the_published_layout(trained, tmp_path):
    written = write_checkpoint(trained, tmp_path / "made", SAMPLERS, limits=CheckpointLimits())
    assert set(written.missing) == {"slat_decoder_mesh", "slat_flow_model"}
    checkpoint = read_checkpoint(tmp_path / "made")
    assert checkpoint.arguments.sparse_structure_sampler.params.steps == 12
    assert checkpoint.arguments.sparse_structure_sampler.params.rescale_t == 2.0
    reports = list(verify(checkpoint))
    assert {report.key for report in reports} == {
        "sparse_structure_decoder",
        "sparse_structure_uv_decoder",
        "image_encoder",
        "sparse_structure_flow_model",
    }
    assert {(report.problem, report.sha256) for report in reports} == {("", "equal")}
    for path in (tmp_path / "made" / "ckpts").glob("*.safetensors"):
        assert {value.dtype for value in load_file(path).values()} == {torch.float16}


def test_the_exported_weights_are_the_averaged_ones(trained):
    from cupid_core.training.run_folder import STATE, load_state

    state = load_state(trained / "structure" / STATE, "structure")
    exported = load_file(trained / "structure" / EXPORT / "ckpts" / "sparse_structure_flow_model.safetensors")
    for name, value in exported.items():
        if name != "pos_emb":
            assert torch.equal(value, state.average[f"structure_flow.{name}"].half()), "not rounded to bfloat16"


def test_sizes_are_limited(trained, tmp_path):
    with pytest.raises(TrainingError, match="MiB, allowed"):
        write_checkpoint(trained, tmp_path / "made", SAMPLERS, limits=CheckpointLimits(file_bytes=1000))
    with pytest.raises(TrainingError, match="All files"):
        write_checkpoint(trained, tmp_path / "made", SAMPLERS, limits=CheckpointLimits(total_bytes=1000))
    assert not (tmp_path / "made").exists()
    with pytest.raises(TrainingError, match="No stage"):
        write_checkpoint(tmp_path, tmp_path / "made", SAMPLERS)


def test_weights_that_float16_cannot_hold_are_refused(tmp_path):
    network = ConvImageTransformer(img_size=32, stem_channels=(4, 4, 4), embed_dim=8, depth=0, stem_residual=())
    with torch.no_grad():
        network.cls_token.fill_(1e6)
    with pytest.raises(TrainingError, match="cls_token"):
        write_networks(tmp_path, [ExportedNetwork("image_encoder", "ConvImageTransformer", {}, network)])


def test_stages_that_build_on_untrained_ones_say_so(root, tmp_path):
    with pytest.raises(TrainingError, match="earlier stages first"):
        read_network(tmp_path, "sparse_structure_decoder", SparseStructureDecoder, torch.device("cpu"))
    run = run_settings(1)
    with torch.no_grad():
        write_networks(tmp_path, vae_stage("uv", root, run).exports())
    with pytest.raises(TrainingError, match="is a SparseStructureDecoder"):
        read_network(tmp_path, "sparse_structure_uv_decoder", SparseStructureEncoder, torch.device("cpu"))


@pytest.mark.parametrize("strategy", ["skip", "partial", "zeropad"])
def test_a_stage_starts_from_a_checkpoint_of_other_shapes(trained, tmp_path, strategy):
    write_checkpoint(trained, tmp_path / "made", SAMPLERS)
    path = tmp_path / "made" / "ckpts" / "sparse_structure_flow_model.safetensors"
    saved = load_file(path)
    stage = structure_stage(trained, run_settings(1))
    stage.networks["structure_flow"].input_layer = torch.nn.Linear(80, 96)
    fresh = stage.networks["structure_flow"].input_layer.weight.detach().clone()
    done = start_from_checkpoint(stage, tmp_path / "made", strategy)
    assert set(done) == {"structure_flow", "image_encoder", "surface_head"}
    assert done["structure_flow"].fitted == ("input_layer.weight",)
    weight = stage.networks["structure_flow"].input_layer.weight
    kept, given = weight[:, 64:], saved["input_layer.weight"].float()
    assert torch.equal(weight[:, :64], fresh[:, :64] if strategy == "skip" else given)
    assert torch.equal(kept, torch.zeros_like(kept) if strategy == "zeropad" else fresh[:, 64:])
    bias = stage.networks["structure_flow"].input_layer.bias
    assert torch.equal(bias, saved["input_layer.bias"].float())


def test_a_checkpoint_without_networks_of_the_stage_is_refused(root, tmp_path):
    (tmp_path / "ckpts").mkdir()
    with pytest.raises(TrainingError, match="has no network for the stage 'uv-vae'"):
        start_from_checkpoint(vae_stage("uv", root, run_settings(1)), tmp_path, "skip")


def test_the_json_beside_the_weights_rebuilds_the_network(trained):
    folder = trained / "structure" / EXPORT
    described = json.loads((folder / "ckpts" / "image_encoder.json").read_text())
    assert described["name"] == "ConvImageTransformer"
    encoder = read_network(folder, "image_encoder", ConvImageTransformer, torch.device("cpu"))
    tokens = encoder(torch.rand(2, 4, 32, 32))
    assert tokens.shape == (2, 5 + 16, 64)
