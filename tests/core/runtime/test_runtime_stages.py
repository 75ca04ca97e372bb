"""Stages as flat tensors, exported, and run by ONNX Runtime: the same numbers as the networks, at any size."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cupid_core.errors import CheckpointError
from cupid_core.models.bundle import NetworkBundle
from cupid_core.models.weights import SamplerEntry, SamplerParameters
from cupid_core.runtime.catalogue import ExampleSizes, guided_and_plain, stages
from cupid_core.runtime.check import CHECKED_SIZES, check_stages, interleaved_ms, largest_difference, with_times
from cupid_core.runtime.export import MANIFEST, OPSET, Manifest
from cupid_core.runtime.onnx_stage import OnnxRunner, onnx_runner
from cupid_core.runtime.stage import RuntimeFailedError, TorchRunner

STAGES = [
    "image_encoder", "structure_condition", "structure_step", "structure_step_guided", "occupancy_decoder",
    "uv_decoder", "slat_encoder", "appearance_condition", "appearance_step", "appearance_step_guided",
    "mesh_trunk",
]  # fmt: skip


def test_the_catalogue_lists_every_stage_in_order(tiny_checkpoint: Path) -> None:
    networks = NetworkBundle.from_pretrained(tiny_checkpoint)
    found = list(stages(networks))
    assert [stage.name for stage in found] == STAGES
    for stage in found:
        made = TorchRunner(stage)(stage.examples())
        assert len(made) == len(stage.outputs)
        assert all(bool(value.isfinite().all()) for value in made)
        for item in stage.inputs:
            least, usual, most = stage.shape_range(item.name)
            triples = zip(least, usual, most, strict=True)
            assert all(low <= middle <= high for low, middle, high in triples), (stage.name, item.name)
            fixed = [axis for axis in range(item.example.dim()) if axis not in item.axes]
            assert all(least[axis] == most[axis] == item.example.shape[axis] for axis in fixed)


def test_axes_of_one_name_have_one_length(tiny_checkpoint: Path) -> None:
    networks = NetworkBundle.from_pretrained(tiny_checkpoint)
    for sizes in CHECKED_SIZES.values():
        for stage in stages(networks, sizes):
            lengths: dict[str, set[int]] = {}
            for item in stage.inputs:
                for axis, name in item.axes.items():
                    lengths.setdefault(name, set()).add(item.example.shape[axis])
            assert all(len(found) == 1 for found in lengths.values()), (stage.name, lengths)


@pytest.mark.parametrize(
    ("strength", "interval", "expected"),
    [(0.0, (0.0, 1.0), (False,)), (3.0, (0.0, 1.0), (True,)), (3.0, (0.5, 1.0), (False, True))],
)
def test_only_the_velocities_that_the_sampler_calls_are_stages(strength, interval, expected) -> None:
    entry = SamplerEntry(name="x", params=SamplerParameters(cfg_strength=strength, cfg_interval=interval))
    assert guided_and_plain(entry) == expected


def test_the_image_encoder_takes_the_planes_of_its_network(tiny_checkpoint: Path) -> None:
    from cupid_core.models.conv_image_encoder import ConvImageTransformer

    encoder = ConvImageTransformer(
        img_size=32, planes=("rgb", "mask", "points", "gravity"), stem_channels=(8, 8, 8), embed_dim=32, depth=1
    ).eval()
    networks = replace(NetworkBundle.from_pretrained(tiny_checkpoint), image_encoder=encoder)
    stage = next(stages(networks))
    assert stage.inputs[0].example.shape[1:] == (10, 32, 32)
    assert TorchRunner(stage)(stage.examples())[0].shape[1:] == (21, 32)


def test_exported_stages_equal_torch_at_any_size(exported) -> None:
    found = list(check_stages(exported.networks, exported.folder, exported.manifest))
    assert {item.stage for item in found} == set(STAGES) and {item.sizes for item in found} == set(CHECKED_SIZES)
    assert [item for item in found if not item.equal] == []


def test_the_graphs_are_valid_of_the_documented_opset_and_take_int32_tables(exported) -> None:
    import onnx

    for name, item in exported.manifest.stages.items():
        graph = onnx.load(exported.folder / item.file)
        onnx.checker.check_model(graph)
        assert {entry.version for entry in graph.opset_import if not entry.domain} == {OPSET}, name
        types = {value.name: value.type.tensor_type.elem_type for value in graph.graph.input}
        assert set(types) == set(item.inputs)
        assert onnx.TensorProto.INT64 not in types.values(), name
        kinds = {node.op_type for node in graph.graph.node}
        refused_by_tensorrt = {"SplitToSequence", "SequenceAt", "Unique", "Compress", "NonZero", "Loop", "If"}
        assert not kinds & refused_by_tensorrt, name
        antialiased = [
            node.name
            for node in graph.graph.node
            if node.op_type == "Resize" and any(part.name == "antialias" and part.i for part in node.attribute)
        ]
        assert antialiased == [], name


def test_a_wrong_graph_is_found(exported) -> None:
    """The comparison with torch fails for the graph of another network."""
    swapped = dict(exported.manifest.stages)
    swapped["structure_step"] = replace(swapped["structure_step"], file=swapped["structure_step"].file)
    networks = replace(exported.networks, structure_flow=_other_weights(exported.networks))
    found = check_stages(networks, exported.folder, replace(exported.manifest, stages=swapped))
    assert {item.stage for item in found if not item.equal} >= {"structure_step", "structure_step_guided"}


def _other_weights(networks: NetworkBundle) -> torch.nn.Module:
    import copy

    flow = copy.deepcopy(networks.structure_flow)
    flow.out_layer.weight.data.mul_(1.01)
    return flow


def test_a_difference_that_is_not_a_number_is_never_equal() -> None:
    difference, largest = largest_difference([torch.tensor([1.0, torch.nan])], [torch.tensor([1.0, 2.0])])
    assert not difference <= 1e9 * largest


def test_times_are_measured_for_every_stage(exported) -> None:
    timed = with_times(exported.networks, exported.folder, exported.manifest)
    assert all(item.torch_ms > 0 and item.onnx_ms > 0 for item in timed.stages.values())


def test_interleaved_times_tell_a_slow_call_from_a_fast_one() -> None:
    small, large = torch.randn(10, 10), torch.randn(600, 600)
    fast, slow = interleaved_ms([lambda: small @ small, lambda: large @ large])
    assert fast < slow


def test_a_manifest_reads_as_it_was_written(exported, tmp_path: Path) -> None:
    assert Manifest.load(exported.folder) == exported.manifest
    with pytest.raises(CheckpointError, match="no exported stages"):
        Manifest.load(tmp_path)
    for text in ("{", "[]", '{"stages": {}}', '{"stages": {"a": {}}}'):
        (tmp_path / MANIFEST).write_text(text)
        with pytest.raises(CheckpointError, match="cannot be used"):
            Manifest.load(tmp_path)


def test_onnx_runtime_says_what_it_refuses(exported, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes((exported.folder / exported.manifest.stages["uv_decoder"].file).read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cannot be run by ONNX Runtime"):
        OnnxRunner(broken)
    runner = onnx_runner(exported.folder, exported.manifest.stages["image_encoder"])
    with pytest.raises(RuntimeFailedError, match="refused a call"):
        runner({"image": torch.zeros(1, 5, 56, 56)})


def test_volumes_one_by_one_give_the_batch(exported, agree) -> None:
    stage = next(item for item in stages(exported.networks, ExampleSizes(crops=3)) if item.name == "uv_decoder")
    inputs: Mapping[str, Tensor] = stage.examples()
    path = exported.folder / exported.manifest.stages["uv_decoder"].file
    together, apart = OnnxRunner(path)(inputs), OnnxRunner(path, one_by_one=True)(inputs)
    agree("logits", apart[0], together[0], 1e-4)
