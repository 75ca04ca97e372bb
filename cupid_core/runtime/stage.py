"""A stage: a part of the method that is one graph of tensors, so that any runtime can run it.

    name, flat tensor inputs with example values, output names, which axes vary and how far

A stage does not know which runtime runs it. A `Runner` runs one stage: torch here, the reference, or an exported
graph elsewhere in this room.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from cupid_core.errors import CupidError


class RuntimeFailedError(CupidError):
    """A runtime cannot run a stage on these inputs; torch can."""

    code = "runtime_failed"


class Range(NamedTuple):
    """How long a varying axis is: an engine works between `least` and `most` and is tuned for `usual`."""

    least: int
    usual: int
    most: int


@dataclass(frozen=True)
class StageInput:
    """One input of a stage.

    Attributes:
        name: of the tensor in the exported graph.
        example: a value of the right shape and dtype; index tables are int32.
        axes: name of each axis whose length varies. Axes of one name have one length in every call.
    """

    name: str
    example: Tensor
    axes: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One stage of a checkpoint.

    Attributes:
        name: unique in the catalogue; the file name of the exported graph.
        module: takes the inputs in order and returns a tuple of tensors.
        inputs: what it takes, none of them None.
        outputs: names of what it returns.
        ranges: of every axis name that occurs in the inputs.
        float32: what stays in float32 when the rest is float16 or bfloat16, in words.
    """

    name: str
    module: nn.Module
    inputs: tuple[StageInput, ...]
    outputs: tuple[str, ...]
    ranges: Mapping[str, Range]
    float32: str

    def examples(self) -> dict[str, Tensor]:
        """The example inputs by name."""
        return {item.name: item.example for item in self.inputs}

    def shape_range(self, name: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Least, usual and most shape of an input."""
        item = next(item for item in self.inputs if item.name == name)
        per_axis = [
            self.ranges[item.axes[axis]] if axis in item.axes else Range(length, length, length)
            for axis, length in enumerate(item.example.shape)
        ]
        least, usual, most = zip(*per_axis, strict=True)
        return least, usual, most


class Runner(Protocol):
    """Runs one stage in some runtime."""

    def __call__(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Run.

        Args:
            inputs: by name; names that the graph does not read are ignored.

        Returns:
            The outputs in the order of `Stage.outputs`, on the device of the inputs.

        Raises:
            RuntimeFailedError: the runtime refused; the caller runs the stage in torch.
        """
        ...


@dataclass(frozen=True)
class TorchRunner:
    """The reference: the module of the stage itself."""

    stage: Stage

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """See `Runner`."""
        made: tuple[Tensor, ...] = self.stage.module(*(inputs[item.name] for item in self.stage.inputs))
        return made
