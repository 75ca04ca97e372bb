"""Each structure stage overfits eight samples: losses and figures reach their limits."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from boxes import BoxSource
from tiny_stages import encoder_settings, encoder_stage, run_settings, structure_stage, vae_stage

from cupid_core.errors import InvalidTensorError, TrainingError
from cupid_core.training.export import EXPORT, write_networks
from cupid_core.training.image_encoder_stage import ImageEncoderStage
from cupid_core.training.loop import LoopOptions, train
from cupid_core.training.stage import StageContext
from cupid_core.training.structure_settings import ImageEncoderSettings, ImageEncoderStageSettings


def _trained(stage, run, folder):
    lines = []
    train(stage, run, LoopOptions(folder), lines.append)
    return lines[0].values, lines[-2].values, lines[-1].values


def test_occupancy(root):
    run = run_settings(120, validate_every=120)
    first, last, figures = _trained(vae_stage("occupancy", root, run), run, root / "run")
    assert first["loss"] > 0.3
    assert last["loss"] < 0.01
    assert figures["iou"] > 0.999 and figures["f1"] > 0.999


def test_uv(root):
    run = run_settings(160, validate_every=160)
    first, last, figures = _trained(vae_stage("uv", root, run), run, root / "run")
    assert last["loss"] < 0.06 * first["loss"]
    assert figures["uv_error_px"] < 0.5, "of 32 pixels"


@pytest.mark.parametrize("kind", ["conv", "pyramid"])
def test_structure_and_its_surface_points(kind, root):
    run = run_settings(220, validate_every=220)
    first, last, figures = _trained(structure_stage(root, run, kind=kind), run, root / "run")
    assert first["velocity"] > 1.5
    assert last["velocity"] < 0.06 * first["velocity"]
    assert last["surface_error"] < 0.01
    assert figures["velocity"] < 0.1


@pytest.mark.parametrize("kind", ["conv", "pyramid"])
def test_the_image_encoder_alone_and_the_structure_that_begins_with_it(kind, root):
    run = run_settings(150, validate_every=150, optimizer={"kind": "muon", "muon_convolutions": True})
    first, last, figures = _trained(encoder_stage(root, run, kind=kind), run, root / "image-encoder")
    assert first["surface_error"] > 0.1
    assert last["surface_error"] < 0.01 and figures["surface_error"] < 0.02
    assert figures["rotation_deg"] < 3 and figures["rotation_within_30"] == 1
    stage = structure_stage(root, run, kind=kind, trained_encoder=True)
    with torch.no_grad():
        figures = stage.validate()
    assert figures["surface_error"] < 0.02, "the encoder is the trained one"
    assert figures["velocity"] > 1.5, "the flow is not"


def test_an_encoder_of_other_sizes_or_none_is_refused(root):
    run = run_settings(1)
    structure_stage(root, run)
    with pytest.raises(TrainingError, match="image_encoder"):
        structure_stage(root, run, trained_encoder=True)
    with torch.no_grad():
        write_networks(root / "image-encoder" / EXPORT, encoder_stage(root, run).exports())
    with pytest.raises(TrainingError, match="image_encoder"):
        structure_stage(root, run, kind="conv", trained_encoder=True)
    structure_stage(root, run, kind="pyramid", trained_encoder=True)


def test_an_encoder_that_shrinks_takes_views_that_are_small_already(root):
    sizes = encoder_settings("pyramid", image_size=64, pyramid_shrink=2)
    context = StageContext(root, torch.device("cpu"))
    stage = ImageEncoderStage(ImageEncoderStageSettings(), sizes, context, BoxSource())
    torch.nn.init.normal_(stage.head.out.weight)
    small = stage.batch(0)
    assert small.image.shape[-1] == 32
    whole = replace(small, image=F.interpolate(small.image, size=64))
    with torch.no_grad():
        losses = [float(stage.loss(batch, torch.Generator()).total) for batch in (small, whole)]
    assert losses[0] == losses[1]
    assert stage.sheet() is not None
    with pytest.raises(InvalidTensorError):
        stage.loss(replace(small, image=F.avg_pool2d(small.image, 2)), torch.Generator())


def test_an_official_encoder_is_not_trained(root):
    with pytest.raises(TrainingError, match="official"):
        ImageEncoderStage(
            ImageEncoderStageSettings(),
            ImageEncoderSettings(kind="dinov2_vits14_reg"),
            StageContext(root, torch.device("cpu")),
            BoxSource(),
        )
