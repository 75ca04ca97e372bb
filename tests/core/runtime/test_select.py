"""Which runtime runs the stages: what is prepared, what was asked for, what falls back; results are equal."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.config import CupidConfig, SamplerConfig, assign
from cupid_core.errors import CheckpointError, ConfigError
from cupid_core.models.bundle import NetworkBundle
from cupid_core.models.structure_decode import DecodedStructure
from cupid_core.models.topology import VoxelTopology
from cupid_core.reconstruct.pipeline import Cupid
from cupid_core.reconstruct.stages import encode, sample_appearance, sample_structure
from cupid_core.runtime.networks import with_runners
from cupid_core.runtime.onnx_stage import onnx_runner
from cupid_core.runtime.select import cache_folder, find_stages, in_runtime
from cupid_core.runtime.stage import RuntimeFailedError
from cupid_core.sampling.noise import NoiseSource

GUIDED_HALF = SamplerConfig(steps=4, guidance_strength=2.0, guidance_from_t=0.5, rescale_t=1.0)


@torch.inference_mode()
def method(networks: NetworkBundle, voxels: DecodedStructure | None = None) -> tuple[dict[str, Tensor], Any]:
    """Every step that runs networks, for two objects with two hypotheses; guidance in half of the times.

    Args:
        networks: of the tiny checkpoint.
        voxels: for stage 2; None takes what was sampled. A voxel at the threshold may fall on either side.
    """
    images = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    condition = encode(networks, images, F.interpolate(images, size=(32, 32)))
    sampled = sample_structure(networks, condition, GUIDED_HALF, NoiseSource(1), samples=2)
    voxels = sampled if voxels is None else voxels
    assert bool((voxels.counts > 0).all()), "an item without voxels: stage 2 would not be compared"
    depth = 2.0 + voxels.uv_coords[:, 3] / 16
    appearance = sample_appearance(
        networks, condition, voxels.uv_coords, voxels.uv, GUIDED_HALF, NoiseSource(2), depth=depth
    )
    made = {"tokens": condition.tokens, "latent": appearance.latent}
    topology = VoxelTopology.build(appearance.coords, 16, window_size=4)
    made["fields"] = networks.mesh_decoder(appearance.latent, topology).rows
    return made, sampled


def test_the_method_gives_the_same_in_both_runtimes(exported, agree) -> None:
    items = exported.manifest.stages.items()
    counted = {name: Counting(onnx_runner(exported.folder, item)) for name, item in items}
    compiled = with_runners(exported.networks, counted)
    plain, voxels = method(exported.networks)
    made, sampled = method(compiled, voxels)
    assert all(runner.calls for runner in counted.values()), {name: item.calls for name, item in counted.items()}
    assert torch.equal(sampled.counts, voxels.counts)
    agree("image positions", sampled.uv, voxels.uv, 1e-3)
    for name, value in plain.items():
        agree(name, made[name], value, {"atol": 2e-3, "rtol": 1e-3})


class Counting:
    """A runner that counts its calls."""

    def __init__(self, runner) -> None:
        self.runner, self.calls = runner, 0

    def __call__(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        self.calls += 1
        return self.runner(inputs)


class Refusing:
    """A runner that takes no inputs."""

    def __call__(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        raise RuntimeFailedError("Too many voxels.", hint="")


def test_a_refused_call_runs_in_torch_and_is_logged_once(exported, caplog) -> None:
    names = list(exported.manifest.stages)
    compiled = with_runners(exported.networks, dict.fromkeys(names, Refusing()))
    with caplog.at_level(logging.WARNING):
        (made, _), (plain, _) = method(compiled), method(exported.networks)
    assert all(torch.equal(made[name], value) for name, value in plain.items())
    logged = [record.message for record in caplog.records]
    assert sorted(text.split()[0] for text in logged) == sorted(names)
    assert "structure_step runs in torch: Too many voxels." in logged


def test_the_original_bundle_is_unchanged(exported) -> None:
    before = exported.networks.structure_flow.velocity
    with_runners(exported.networks, dict.fromkeys(exported.manifest.stages, Refusing()))
    assert exported.networks.structure_flow.velocity == before


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_nothing_prepared_leaves_torch_or_says_what_to_run(exported, cache: Path) -> None:
    networks = exported.networks
    assert in_runtime(networks, exported.checkpoint, "torch") is networks
    assert in_runtime(networks, exported.checkpoint, "auto") is networks
    with pytest.raises(CheckpointError, match="cupid export --checkpoint"):
        in_runtime(networks, exported.checkpoint, "onnx")
    with pytest.raises(ConfigError, match="runs on a GPU"):
        in_runtime(networks, exported.checkpoint, "tensorrt")


def test_stages_are_found_in_the_cache_beside_the_checkpoint_and_where_named(exported, cache: Path) -> None:
    place = cache_folder(exported.manifest.checkpoint_sha256)
    shutil.copytree(exported.folder, place)
    assert find_stages(exported.checkpoint) == (place, exported.manifest)
    compiled = in_runtime(exported.networks, exported.checkpoint, "onnx")
    assert compiled.runtimes == dict.fromkeys(exported.manifest.stages, "onnx")
    assert find_stages(exported.checkpoint, str(exported.folder)) == (exported.folder, exported.manifest)


def test_stages_of_another_checkpoint_are_not_used(exported, cache: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(exported.checkpoint, other)
    (other / "pipeline.json").write_text(
        (other / "pipeline.json").read_text().replace('"steps": 25', '"steps": 9')
    )
    shutil.copytree(exported.folder, cache_folder(exported.manifest.checkpoint_sha256))
    assert find_stages(other) is None
    with pytest.raises(CheckpointError, match="another checkpoint"):
        find_stages(other, str(exported.folder))


def test_auto_takes_what_was_measured_faster(exported, cache: Path) -> None:
    timed = {
        name: replace(item, torch_ms=2.0, onnx_ms=1.0 if name == "mesh_trunk" else 3.0)
        for name, item in exported.manifest.stages.items()
    }
    place = cache_folder(exported.manifest.checkpoint_sha256)
    shutil.copytree(exported.folder, place)
    replace(exported.manifest, stages=timed).save(place)
    assert in_runtime(exported.networks, exported.checkpoint, "auto").runtimes == {"mesh_trunk": "onnx"}
    assert len(in_runtime(exported.networks, exported.checkpoint, "onnx").runtimes) == len(timed)


def test_a_damaged_graph_is_an_error_where_asked_for_and_torch_under_auto(exported, cache: Path, caplog) -> None:
    place = cache_folder(exported.manifest.checkpoint_sha256)
    shutil.copytree(exported.folder, place)
    graph = place / exported.manifest.stages["mesh_trunk"].file
    graph.write_bytes(graph.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="cannot be run by ONNX Runtime"):
        in_runtime(exported.networks, exported.checkpoint, "onnx")
    assert "mesh_trunk" not in in_runtime(exported.networks, exported.checkpoint, "auto").runtimes
    assert "mesh_trunk runs in torch" in caplog.text


def test_the_python_interface_takes_a_runtime_and_records_it(exported, cache: Path) -> None:
    config = assign(CupidConfig(), [f"reconstruct.stages_folder={exported.folder}"])
    cupid = Cupid.from_pretrained(exported.checkpoint, config=config, runtime="onnx")
    assert cupid.networks.runtimes["image_encoder"] == "onnx"
    chosen = assign(config, ["reconstruct.runtime=torch"])
    assert Cupid.from_pretrained(exported.checkpoint, config=chosen).networks.runtimes == {}
