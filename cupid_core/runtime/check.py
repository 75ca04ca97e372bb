"""Compares exported stages with torch: the largest difference, and the time of one call of both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cupid_core.models.bundle import NetworkBundle
from cupid_core.runtime.catalogue import ExampleSizes, stages
from cupid_core.runtime.export import Manifest
from cupid_core.runtime.onnx_stage import OnnxRunner, onnx_runner
from cupid_core.runtime.stage import TorchRunner

# Other numbers of images, hypotheses and voxels than those of the export: a frozen length shows.
CHECKED_SIZES = {
    "as exported": ExampleSizes(),
    "one object": ExampleSizes(crops=1, samples=1, radius=0.3, seed=1),
    "three objects": ExampleSizes(crops=3, samples=1, radius=0.25, seed=2),
}
_USUAL = CHECKED_SIZES["one object"]
_REPEATS = 5


@dataclass(frozen=True)
class StageDifference:
    """One stage on one set of inputs.

    Attributes:
        stage: name.
        sizes: which of `CHECKED_SIZES`.
        difference: largest over all outputs, absolute.
        largest: largest absolute value that torch computes.
        tolerance: largest difference that counts as equal, as a share of `largest`.
    """

    stage: str
    sizes: str
    difference: float
    largest: float
    tolerance: float

    @property
    def equal(self) -> bool:
        """Within the tolerance; false where a value is not finite."""
        return self.difference <= self.tolerance * self.largest


def check_stages(networks: NetworkBundle, folder: Path, manifest: Manifest) -> Iterator[StageDifference]:
    """Every exported stage in ONNX Runtime against the network in torch, at several sizes.

    Args:
        networks: of the checkpoint, on the CPU, in the precision of the manifest.
        folder: of the exported stages.
        manifest: of that folder.
    """
    runners = {name: onnx_runner(folder, item) for name, item in manifest.stages.items()}
    for label, sizes in CHECKED_SIZES.items():
        for stage in stages(networks, sizes):
            inputs = stage.examples()
            made, expected = runners[stage.name](inputs), TorchRunner(stage)(inputs)
            difference, largest = largest_difference(made, expected)
            yield StageDifference(stage.name, label, difference, largest, manifest.tolerance)


def with_times(networks: NetworkBundle, folder: Path, manifest: Manifest) -> Manifest:
    """The manifest with the time of one call of each stage in torch and in ONNX Runtime, measured now.

    Args:
        networks: of the checkpoint, on the CPU.
        folder: of the exported stages.
        manifest: of that folder.
    """
    timed = dict(manifest.stages)
    for stage in stages(networks, _USUAL):
        runner, inputs = onnx_runner(folder, timed[stage.name]), stage.examples()
        torch_ms, onnx_ms = interleaved_ms([_call(TorchRunner(stage), inputs), _call(runner, inputs)])
        timed[stage.name] = replace(timed[stage.name], torch_ms=torch_ms, onnx_ms=onnx_ms)
    return replace(manifest, stages=timed)


def largest_difference(made: Sequence[Tensor], expected: Sequence[Tensor]) -> tuple[float, float]:
    """Largest absolute difference of two lists of outputs, and the largest absolute value of the second."""
    differences = [
        (left.double() - right.double()).abs().max() for left, right in zip(made, expected, strict=True)
    ]
    return float(torch.stack(differences).max()), max(float(item.abs().max()) for item in expected)


def interleaved_ms(calls: Sequence[Callable[[], object]], repeats: int = _REPEATS) -> list[float]:
    """Median wall time of each call in milliseconds; they take turns, so that a busy moment hits all of them."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:  # the first call of each prepares buffers
        call()
    for _ in range(repeats):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(1000 * (time.perf_counter() - start))
    return [round(statistics.median(taken), 3) for taken in times]


def _call(runner: TorchRunner | OnnxRunner, inputs: Mapping[str, Tensor]) -> Callable[[], object]:
    return lambda: runner(inputs)
