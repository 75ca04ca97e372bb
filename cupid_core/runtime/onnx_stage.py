"""Runs an exported stage with ONNX Runtime, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cupid_core.errors import CheckpointError
from cupid_core.packages import optional_package
from cupid_core.runtime.export import ExportedStage
from cupid_core.runtime.stage import RuntimeFailedError


def onnx_runner(folder: Path, stage: ExportedStage) -> OnnxRunner:
    """The runner of an exported stage; errors as `OnnxRunner`.

    Dense volumes go one at a time: in a batch a 3D convolution of ONNX Runtime 1.32 is 2 to 3 times slower.
    """
    return OnnxRunner(folder / stage.file, one_by_one=stage.inputs == ("volume",))


class OnnxRunner:
    """A stage as an ONNX Runtime session.

    Args:
        path: of the graph.
        one_by_one: hand over one row of the inputs at a time.

    Raises:
        MissingPackageError: onnxruntime is not installed.
        CheckpointError: the file is no graph, or not one that this version can run.
    """

    def __init__(self, path: Path, *, one_by_one: bool = False) -> None:
        runtime = optional_package("onnxruntime", "export")
        self._one_by_one = one_by_one
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        # Threads that wait in a loop would take the time of everything else on a robot's computer.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise CheckpointError(
                f"{path} cannot be run by ONNX Runtime: {str(error).splitlines()[0]}",
                hint="Export the stages again with `cupid export`.",
            ) from error
        self._inputs = [item.name for item in self._session.get_inputs()]

    def __call__(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Runner`."""
        if not self._one_by_one:
            return self._run(inputs)
        count = len(next(iter(inputs.values())))
        rows = [self._run({name: value[row : row + 1] for name, value in inputs.items()}) for row in range(count)]
        return tuple(torch.cat(parts) for parts in zip(*rows, strict=True))

    def _run(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        feeds = {name: inputs[name].contiguous().numpy() for name in self._inputs}
        try:
            made = self._session.run(None, feeds)
        except Exception as error:
            raise RuntimeFailedError(
                f"ONNX Runtime refused a call: {str(error).splitlines()[0]}",
                hint="Export the stages again with `cupid export`, or use --runtime torch.",
            ) from error
        return tuple(torch.from_numpy(array) for array in made)
