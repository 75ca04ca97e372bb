"""Runs engines that `tensorrt_build` made, on a GPU. Compiled and checked without one; never run on one so far."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from cupid_core.errors import CheckpointError
from cupid_core.runtime.export import ExportedStage, Manifest
from cupid_core.runtime.stage import Runner, RuntimeFailedError
from cupid_core.runtime.tensorrt_build import (
    described_engine,
    engine_key,
    engine_path,
    tensorrt_package,
    unusable_because,
    version_of,
)

_log = logging.getLogger(__name__)


class EngineRunner:
    """A stage as a TensorRT engine.

    Args:
        path: of the engine.
        stage: that it was built of; its shapes are those of the engine's profile.
        trt: the TensorRT package.
        device: a GPU.

    Raises:
        CheckpointError: TensorRT cannot load it.
    """

    def __init__(self, path: Path, stage: ExportedStage, trt: ModuleType, device: torch.device) -> None:
        self._stage, self._device = stage, device
        logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(logger)  # must live as long as its engine
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        context = None if self._engine is None else self._engine.create_execution_context()
        if context is None:
            raise CheckpointError(
                f"{path} cannot be loaded by {version_of(trt)}.", hint="Build it again with `cupid build`."
            )
        self._context = context
        self._types = {
            name: _torch_type(trt, self._engine.get_tensor_dtype(name)) for name in (*stage.inputs, *stage.outputs)
        }

    def __call__(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Runner`."""
        fed = {name: inputs[name].to(self._device, self._types[name]).contiguous() for name in self._stage.inputs}
        for name, value in fed.items():
            least, _, most = self._stage.shapes[name]
            if not all(low <= length <= high for low, length, high in zip(least, value.shape, most, strict=True)):
                raise RuntimeFailedError(
                    f"{name} is {tuple(value.shape)}, the engine takes {least} to {most}.",
                    hint="Build engines for more voxels with `cupid build --profile`.",
                )
            self._context.set_input_shape(name, tuple(value.shape))
            self._context.set_tensor_address(name, value.data_ptr())
        made = []
        for name in self._stage.outputs:
            shape = tuple(self._context.get_tensor_shape(name))
            made.append(torch.empty(shape, dtype=self._types[name], device=self._device))
            self._context.set_tensor_address(name, made[-1].data_ptr())
        if not self._context.execute_async_v3(torch.cuda.current_stream(self._device).cuda_stream):
            raise RuntimeFailedError("TensorRT could not run the engine.", hint="Use --runtime torch.")
        return tuple(made)


def engine_runners(folder: Path, manifest: Manifest, device: torch.device) -> dict[str, Runner]:
    """The engines of a folder of exported stages; where one does not fit, that is logged and it is left out.

    Raises:
        MissingPackageError: TensorRT is not installed.
        CheckpointError: no engine fits this machine.
    """
    trt = tensorrt_package()
    runners: dict[str, Runner] = {}
    reason = "nothing was exported"
    for name, stage in manifest.stages.items():
        key = engine_key(stage, manifest.precision, trt=trt)
        path = engine_path(folder, name, key.gpu)
        reason = unusable_because(path, key, any_shapes=True)
        if reason:
            _log.warning("%s runs in torch: of its engine, %s", name, reason)
        else:
            built, _ = described_engine(path)
            runners[name] = EngineRunner(path, replace(stage, shapes=built.shapes), trt, device)
    if not runners:
        raise CheckpointError(
            f"{folder} has no engine for this machine: {reason}.", hint="Build engines with `cupid build`."
        )
    return runners


def _torch_type(trt: ModuleType, kind: Any) -> torch.dtype:
    names = {
        "FLOAT": torch.float32,
        "HALF": torch.float16,
        "BF16": torch.bfloat16,
        "INT32": torch.int32,
        "INT64": torch.int64,
        "BOOL": torch.bool,
    }
    return next(found for name, found in names.items() if getattr(trt.DataType, name, None) == kind)
