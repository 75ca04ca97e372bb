"""What only a GPU can show; `benchmarks/gpu_check.py` runs these and prints a table beside them."""

import pytest
import torch

from cupid_core.errors import CupidError
from cupid_core.models.bundle import NetworkBundle
from cupid_core.models.locate import checkpoint_hash
from cupid_core.runtime.catalogue import stages
from cupid_core.runtime.check import largest_difference
from cupid_core.runtime.export import export_stages
from cupid_core.runtime.stage import TorchRunner
from cupid_core.runtime.tensorrt_build import build_engines, tensorrt_package
from cupid_core.runtime.tensorrt_stage import engine_runners

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]


def test_every_stage_on_the_gpu_equals_the_cpu(tiny_checkpoint, agree) -> None:
    here, there = (NetworkBundle.from_pretrained(tiny_checkpoint, device=device) for device in ("cpu", "cuda"))
    for stage, other in zip(stages(here), stages(there), strict=True):
        made, expected = TorchRunner(other)(other.examples()), TorchRunner(stage)(stage.examples())
        difference, largest = largest_difference([value.cpu() for value in made], expected)
        assert difference <= 2e-3 * largest, stage.name  # matrix products of a GPU may round to TF32


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 2e-3), ("float16", 5e-2)])
def test_engines_equal_torch(tiny_checkpoint, tmp_path, precision: str, tolerance: float) -> None:
    try:
        tensorrt_package()
    except CupidError as error:
        pytest.skip(str(error))
    networks = NetworkBundle.from_pretrained(tiny_checkpoint, torso=getattr(torch, precision))
    prepared = stages(networks, for_export=True)
    digest = checkpoint_hash(tiny_checkpoint)
    manifest = export_stages(prepared, tmp_path, checkpoint_sha256=digest, precision=precision)
    assert len(list(build_engines(tmp_path, manifest))) == len(manifest.stages)
    engines = engine_runners(tmp_path, manifest, torch.device("cuda"))
    reference = NetworkBundle.from_pretrained(tiny_checkpoint, device="cuda")
    for stage in stages(reference):
        inputs = stage.examples()
        difference, largest = largest_difference(engines[stage.name](inputs), TorchRunner(stage)(inputs))
        assert difference <= tolerance * largest, stage.name
