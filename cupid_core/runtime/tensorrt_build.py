"""Builds TensorRT engines of exported stages, and keeps them beside the graphs.

Works with `tensorrt` (JetPack, data centers) and with TensorRT for RTX, which builds without a GPU or driver.
Types come from the graph: a float16 engine is built from a float16 export, whose norms and outer layers are
float32 as in the published networks. An engine is complete when its description lies beside it; the description
says what the engine was built from, and an engine that does not fit is built again.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from cupid_core.errors import CheckpointError, ConfigError, MissingPackageError
from cupid_core.files import write_bytes, write_text
from cupid_core.models.locate import sha256
from cupid_core.runtime.export import ExportedStage, Manifest
from cupid_core.runtime.stage import Range
from cupid_core.runtime.stage_inputs import axes

# The same interface under three names: classic, and TensorRT for RTX with and without its thin wrapper.
_PACKAGES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
AHEAD_OF_TIME = "any"
"""In place of a GPU's name: built without one, for every architecture that TensorRT for RTX supports."""

Shapes = Mapping[str, tuple[tuple[int, ...], ...]]


@dataclass(frozen=True)
class EngineKey:
    """What an engine was built from; one that differs in anything is not used.

    Attributes:
        graph_sha256: of the exported stage.
        tensorrt: package and version.
        gpu: name of the GPU, or `AHEAD_OF_TIME`.
        precision: of the deep stacks.
        shapes: least, usual and most shape of each input.
    """

    graph_sha256: str
    tensorrt: str
    gpu: str
    precision: str
    shapes: Shapes

    def difference_from(self, other: EngineKey) -> str:
        """Why an engine of the other key does not fit; empty where it does."""
        if self.gpu != other.gpu:
            return f"it was built for the GPU '{other.gpu}', this is '{self.gpu}'"
        if self.tensorrt != other.tensorrt:
            return f"it was built by {other.tensorrt}, this is {self.tensorrt}"
        if self.graph_sha256 != other.graph_sha256:
            return "the stage was exported anew"
        if self.precision != other.precision:
            return f"it is {other.precision}, not {self.precision}"
        return "" if self.shapes == other.shapes else "it was built for other numbers of voxels"


def tensorrt_package() -> ModuleType:
    """TensorRT, whichever is installed.

    Raises:
        MissingPackageError: none is.
    """
    problem = ""
    for name in _PACKAGES:
        try:
            return importlib.import_module(name)
        except (ImportError, OSError) as error:
            problem = problem or str(error)
    raise MissingPackageError(
        f"TensorRT cannot be loaded: {problem}.",
        hint="On a Jetson it comes with JetPack; elsewhere `pip install tensorrt`, or on a GeForce or RTX GPU "
        "`pip install tensorrt-rtx-cu12-libs tensorrt-rtx-cu12-bindings`.",
    )


def version_of(trt: ModuleType) -> str:
    """Package and version, as recorded with engines."""
    return f"{trt.__name__.removesuffix('_bindings')} {trt.__version__}"


def gpu_name() -> str:
    """Name of the first GPU, or `AHEAD_OF_TIME` where torch sees none."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else AHEAD_OF_TIME


def engine_path(folder: Path, name: str, gpu: str) -> Path:
    """Where the engine of a stage lies beside the exported stages."""
    slug = "".join(letter if letter.isalnum() else "-" for letter in gpu.lower())
    return folder / "engines" / f"{name}.{slug}.engine"


def engine_key(stage: ExportedStage, precision: str, *, trt: ModuleType, voxels: Range | None = None) -> EngineKey:
    """The key of an engine that this machine would build of a stage."""
    shapes = {name: stage.shapes[name] for name in stage.inputs}
    if voxels is not None:
        shapes = {name: _with_voxels(name, shape, voxels) for name, shape in shapes.items()}
    return EngineKey(stage.sha256, version_of(trt), gpu_name(), precision, shapes)


def unusable_because(path: Path, key: EngineKey, *, any_shapes: bool = False) -> str:
    """Why the engine at this path cannot be used under this key; empty where it can.

    Args:
        path: of the engine.
        key: what it should have been built from.
        any_shapes: other shapes than those of the key do not matter.
    """
    if not path.is_file() or not path.with_suffix(".json").is_file():
        return "there is none yet"
    try:
        other, content = described_engine(path)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return "its description is damaged"
    difference = key.difference_from(replace(other, shapes=key.shapes) if any_shapes else other)
    if difference:
        return difference
    return "" if sha256(path) == content else "it is damaged: its content is not what was written"


def described_engine(path: Path) -> tuple[EngineKey, str]:
    """What an engine was built from, and its content hash, by the description beside it."""
    read = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    content, shapes = read.pop("engine_sha256"), read.pop("shapes")
    shapes = {name: tuple(map(tuple, shape)) for name, shape in shapes.items()}
    return EngineKey(**read, shapes=shapes), str(content)


def build_engines(
    folder: Path,
    manifest: Manifest,
    *,
    voxels: Range | None = None,
    on_stage: Callable[[str, str], None] | None = None,
) -> Iterator[tuple[str, Path]]:
    """Build the engines that are missing or do not fit, one after the other.

    Args:
        folder: of exported stages.
        manifest: of that folder.
        voxels: least, usual and most number of voxels of a call; None takes those of the export.
        on_stage: told the name of each stage before it is built, and why it is.

    Yields:
        Name of each stage and the path of its engine, whether it was built now or before.

    Raises:
        MissingPackageError: TensorRT is not installed.
        CheckpointError: TensorRT refuses a graph.
        OutputError: the engine cannot be written.
    """
    trt = tensorrt_package()
    for name, stage in manifest.stages.items():
        key = engine_key(stage, manifest.precision, trt=trt, voxels=voxels)
        path = engine_path(folder, name, key.gpu)
        reason = unusable_because(path, key)
        if reason:
            if on_stage is not None:
                on_stage(name, reason)
            path.with_suffix(".json").unlink(missing_ok=True)
            write_bytes(path, _build(trt, folder / stage.file, key.shapes))
            described = asdict(key) | {"engine_sha256": sha256(path)}
            write_text(path.with_suffix(".json"), json.dumps(described, indent=1) + "\n")
        yield name, path


def voxel_range(text: str) -> Range | None:
    """The numbers of `--profile min,opt,max`; None for an empty text.

    Raises:
        ConfigError: not three rising whole numbers from 1.
    """
    if not text:
        return None
    try:
        numbers = Range(*(int(part) for part in text.split(",")))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"The profile is '{text}'.", hint="Write three numbers, e.g. 10,2000,8192.") from error
    if not 1 <= numbers.least <= numbers.usual <= numbers.most:
        raise ConfigError(f"The profile is '{text}'.", hint="The three numbers rise from at least 1.")
    return numbers


def _with_voxels(name: str, shape: tuple[tuple[int, ...], ...], voxels: Range) -> tuple[tuple[int, ...], ...]:
    """Least, usual and most shape of an input with other numbers of voxels; each coarser level has fewer."""
    least, usual, most = (list(part) for part in shape)
    for axis, dimension in axes(name).items():
        kind, _, level = dimension.partition(".")
        if kind in ("voxels", "longest"):
            coarser = int(level or 0)
            least[axis] = 1 if coarser else voxels.least
            most[axis] = max(voxels.most >> coarser, 1)
            usual[axis] = max(voxels.usual >> 2 * coarser, 1)
    return tuple(least), tuple(usual), tuple(most)


def _build(trt: ModuleType, graph: Path, shapes: Shapes) -> bytes:
    """The serialized engine of a graph."""
    refused = f"{version_of(trt)} refuses {graph.name}"
    hint = "Export the stages again with `cupid export`; if that does not help, this stage runs in torch."
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    typed = trt.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        errors = "; ".join(str(parser.get_error(index).desc()) for index in range(parser.num_errors))
        raise CheckpointError(f"{refused}: {errors or 'no reason given'}.", hint=hint)
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for name, (least, usual, most) in shapes.items():
        profile.set_shape(name, least, usual, most)
    config.add_optimization_profile(profile)
    engine: Any = builder.build_serialized_network(network, config)
    if engine is None:
        raise CheckpointError(f"{refused}: the engine could not be built.", hint=hint)
    return bytes(engine)
