"""What a stage of the training is: networks, batches by number, a loss, pictures and exports.

The one loop (`training.loop`) drives every stage through this protocol. A stage knows its networks and its
data; it must not know optimizers, precision, checkpoints or clocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from PIL.Image import Image
from torch import Tensor, nn

BatchT = TypeVar("BatchT")


@dataclass(frozen=True)
class StageContext:
    """Where a stage runs.

    Attributes:
        root: folder of the whole training; stage "x" keeps its run in `root / "x"`, shards lie in `root /
        "shards"`,
            and a stage finds the results of an earlier one in that one's run folder.
        device: where networks and batches are.
        seed: of the data and of the first weights.
        workers: processes that make shards in the background; 0 makes them when they are asked for.
        deadline: `time.monotonic()` after which data that is not there yet is not waited for.
    """

    root: Path
    device: torch.device
    seed: int = 0
    workers: int = 0
    deadline: float = math.inf


@dataclass(frozen=True, eq=False)
class StepLoss:
    """Result of the loss of one batch.

    Attributes:
        total: scalar to differentiate.
        logged: scalars for the log, by name; detached by the loop.
        images: samples in the batch, for the throughput.
    """

    total: Tensor
    logged: Mapping[str, Tensor | float] = field(default_factory=dict)
    images: int = 1


@dataclass(frozen=True, eq=False)
class ExportedNetwork:
    """A trained network as it goes into a checkpoint of the published layout.

    Attributes:
        key: name in pipeline.json, e.g. "sparse_structure_decoder".
        class_name: published class name.
        arguments: constructor arguments, plain json values.
        network: with the weights to write, in float32; they are written in float16.
    """

    key: str
    class_name: str
    arguments: Mapping[str, Any]
    network: nn.Module


class Stage(Protocol[BatchT]):
    """One thing to train.

    Everything random in `batch` follows from its number, everything random in `loss` is drawn from the generator
    given to it: so a resumed run continues exactly.

    Attributes:
        name: as on the command line, e.g. "structure".
        networks: what is trained, by name, on the stage's device, in float32; the loop puts their torsos into the
            precision of the run (every network has `to_precision(dtype)`), optimizes, averages and saves them.
            Networks that only help (frozen) are kept elsewhere.
    """

    name: str
    networks: nn.ModuleDict

    def batch(self, number: int) -> BatchT:
        """The batch of this number, on the stage's device; the same whenever it is asked for."""
        ...

    def loss(self, batch: BatchT, generator: torch.Generator) -> StepLoss:
        """Loss of the networks on a batch; `generator` is on the CPU."""
        ...

    def validate(self) -> Mapping[str, float]:
        """Figures on unseen data, without gradients; called with the averaged weights in the networks."""
        ...

    def sheet(self) -> Image | None:
        """Picture of samples on unseen data; called as `validate`. None: this stage has none."""
        ...

    def exports(self) -> Sequence[ExportedNetwork]:
        """What goes into a checkpoint; called with the averaged weights in the networks."""
        ...

    def close(self) -> None:
        """Stop background work."""
        ...
