"""Stages as ONNX files, with a manifest beside them that says what they were made from.

A folder with a manifest is complete: the graphs are written first. Opset 20 is the newest that TensorRT 10.0
documents. Every length that varies is a dynamic axis. Weights beyond a gigabyte lie in a file beside the graph,
because a graph may not exceed two.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from cupid_core.errors import CheckpointError
from cupid_core.files import staging_folder, write_text
from cupid_core.models.locate import sha256
from cupid_core.packages import optional_package
from cupid_core.runtime.stage import Stage

OPSET = 20
MANIFEST = "stages.json"
_EXTRA = "export"
# A protobuf file may hold two gigabytes; half of it leaves room for the graph.
_LARGEST_GRAPH_BYTES = 1 << 30
# Differences of float32 sums in another order, as a share of the largest value.
TOLERANCE = {"float32": 1e-4, "float16": 3e-2, "bfloat16": 2e-1}


@dataclass(frozen=True)
class ExportedStage:
    """One exported stage.

    Attributes:
        file: name of the graph in the folder.
        sha256: of the graph; with external weights, of these too.
        size_mb: of graph and weights.
        nodes: in the graph.
        seconds: that the export took.
        inputs: names that the graph reads; those of the stage that it does not read are left out.
        outputs: names in order.
        shapes: least, usual and most shape of each of these inputs.
        float32: what stays in float32 when the rest is float16 or bfloat16.
        torch_ms: of one call in torch on the example, where it was measured.
        onnx_ms: the same in ONNX Runtime.
    """

    file: str
    sha256: str
    size_mb: float
    nodes: int
    seconds: float
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, tuple[tuple[int, ...], ...]]
    float32: str = ""
    torch_ms: float | None = None
    onnx_ms: float | None = None


@dataclass(frozen=True)
class Manifest:
    """What a folder of exported stages holds.

    Attributes:
        checkpoint_sha256: of the checkpoint they were made from.
        precision: of the deep stacks, e.g. "float32".
        versions: of the packages that made them.
        tolerance: largest difference from torch that counts as equal, as a share of the largest value.
        stages: by name.
    """

    checkpoint_sha256: str
    precision: str
    versions: Mapping[str, str]
    tolerance: float
    stages: Mapping[str, ExportedStage] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write it to a folder, atomically.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_text(folder / MANIFEST, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read that of a folder.

        Raises:
            CheckpointError: there is none, or it is not one of this version.
        """
        path = folder / MANIFEST
        hint = "`cupid export --checkpoint CHECKPOINT --to FOLDER` makes one."
        try:
            read = json.loads(path.read_text(encoding="utf-8"))
            found = {name: _exported(item) for name, item in read.pop("stages").items()}
            return cls(**read, stages=found)
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{folder} has no exported stages: there is no {MANIFEST}.", hint=hint
            ) from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{path} cannot be used: {error}.", hint=hint) from error


def export_stages(
    stages: Iterable[Stage],
    folder: Path,
    *,
    checkpoint_sha256: str,
    precision: str,
    on_stage: Callable[[str, ExportedStage], None] | None = None,
) -> Manifest:
    """Export stages to a folder.

    Args:
        stages: of a checkpoint, from `catalogue.stages`.
        folder: is made where it is missing; earlier files of the same names are replaced.
        checkpoint_sha256: recorded in the manifest.
        precision: of the deep stacks of the networks, recorded too.
        on_stage: told about each finished stage.

    Raises:
        MissingPackageError: onnx or onnxscript is not installed.
        OutputError: the folder cannot be written.
    """
    made_with = versions()
    made: dict[str, ExportedStage] = {}
    with staging_folder(folder) as staging:
        for stage in stages:
            exported = export_stage(stage, staging)
            made[stage.name] = exported
            if on_stage is not None:
                on_stage(stage.name, exported)
        manifest = Manifest(checkpoint_sha256, precision, made_with, TOLERANCE[precision], made)
        _move_into(staging, folder)
    manifest.save(folder)
    return manifest


def export_stage(stage: Stage, folder: Path) -> ExportedStage:
    """Export one stage as NAME.onnx, and NAME.onnx.data where the weights are large."""
    start = time.perf_counter()
    program = _program(stage)
    graph = program.model.graph
    for value in list(graph.inputs):
        if not value.uses():  # an index table that this network does not read
            graph.inputs.remove(value)
    path = folder / f"{stage.name}.onnx"
    weights = sum(parameter.numel() * parameter.element_size() for parameter in stage.module.state_dict().values())
    program.save(str(path), external_data=weights > _LARGEST_GRAPH_BYTES)
    files = [item for item in (path, path.with_name(f"{path.name}.data")) if item.is_file()]
    inputs = tuple(str(value.name) for value in graph.inputs)
    return ExportedStage(
        file=path.name,
        sha256="-".join(sha256(item) for item in files),
        size_mb=round(sum(item.stat().st_size for item in files) / 1e6, 2),
        nodes=sum(1 for _ in graph),
        seconds=round(time.perf_counter() - start, 1),
        inputs=inputs,
        outputs=stage.outputs,
        shapes={name: stage.shape_range(name) for name in inputs},
        float32=stage.float32,
    )


def _program(stage: Stage) -> Any:
    """The graph as torch's exporter makes it."""
    dynamic = tuple(dict.fromkeys(item.axes, torch.export.Dim.DYNAMIC) for item in stage.inputs)
    with torch.no_grad(), _quiet():
        return torch.onnx.export(
            stage.module,
            tuple(item.example for item in stage.inputs),
            dynamo=True,
            dynamic_shapes=(dynamic,),  # of the one argument *inputs
            input_names=[item.name for item in stage.inputs],
            output_names=list(stage.outputs),
            opset_version=OPSET,
            optimize=True,
            verbose=False,
        )


def versions() -> dict[str, str]:
    """Of the packages that an exported graph depends on."""
    names = ("onnx", "onnxscript")
    return {"torch": torch.__version__, "opset": str(OPSET)} | {
        name: str(optional_package(name, _EXTRA).__version__) for name in names
    }


def _exported(item: dict[str, Any]) -> ExportedStage:
    shapes = {name: tuple(map(tuple, ranges)) for name, ranges in item.pop("shapes").items()}
    inputs, outputs = tuple(item.pop("inputs")), tuple(item.pop("outputs"))
    return ExportedStage(**item, shapes=shapes, inputs=inputs, outputs=outputs)


def _move_into(staging: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)  # until the new one is there, the folder is not complete
    for path in sorted(staging.iterdir()):
        path.replace(folder / path.name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's remarks about its own progress and its own deprecations concern nobody here."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch.__trace", "onnxscript")]
    levels = [item.level for item in loggers]
    for item in loggers:
        item.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for item, level in zip(loggers, levels, strict=True):
            item.setLevel(level)
