"""Each stage of the structure learns eight samples by heart: losses and figures go to where they belong."""

import pytest
import torch
from tiny_stages import run_settings, structure_stage, vae_stage

from cupid_core.training.loop import LoopOptions, train


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


def test_the_image_encoder_may_learn_first(root):
    run = run_settings(24, log_every=1)
    stage = structure_stage(root, run, kind="pyramid", encoder_first=12)
    flow = {name: value.clone() for name, value in stage.flow.state_dict().items()}
    lines, unmoved = [], []

    def look(progress):
        lines.append(progress)
        unmoved.append(all(torch.equal(value, flow[name]) for name, value in stage.flow.state_dict().items()))

    train(stage, run, LoopOptions(root / "run"), look)
    assert [line.step for line, still in zip(lines, unmoved, strict=True) if still] == list(range(1, 13))
    assert all(("velocity" in line.values) == (line.step > 12) for line in lines)
    assert lines[11].values["surface_error"] < lines[0].values["surface_error"]
