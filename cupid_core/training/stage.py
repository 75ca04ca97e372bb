"""The protocol of a training stage: networks, batches by number, a loss, validation, sample sheets and exports.

The loop (`training.loop`) drives every stage through it and owns optimizer, precision, checkpoints and time.
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
    """Folder, device and seed of a stage.

    Attributes:
        root: folder of the whole training. The run of stage "x" is in `root / "x"`, where later stages find its
            results; shards are in `root / "shards"`.
        device: of networks and batches.
        seed: of the data and of the first weights.
        workers: background processes that make shards; 0 makes each shard when it is first read.
        deadline: `time.monotonic()` after which data that is not there yet is not waited for.
    """

    root: Path
    device: torch.device
    seed: int = 0
    workers: int = 0
    deadline: float = math.inf


@dataclass(frozen=True, eq=False)
class StepLoss:
    """Loss of one batch.

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
    """A trained network as it is written into a checkpoint of the published layout.

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
    """A stage of the training.

    All random numbers of `batch` follow from its number, and those of `loss` come from the given generator, so
    that a resumed run continues exactly.

    Attributes:
        name: as on the command line, e.g. "structure".
        networks: the trained networks by name, on the stage's device, in float32. The loop converts their blocks
            to the precision of the run (every network has `to_precision(dtype)`), optimizes, averages and saves
            them. Frozen networks are not among them.
    """

    name: str
    networks: nn.ModuleDict

    def batch(self, number: int) -> BatchT:
        """The batch of this number, on the stage's device; always the same."""
        ...

    def loss(self, batch: BatchT, generator: torch.Generator) -> StepLoss:
        """Loss of the networks on a batch; `generator` is on the CPU."""
        ...

    def validate(self) -> Mapping[str, float]:
        """Figures on validation data; called without gradients and with the averaged weights in the networks."""
        ...

    def sheet(self) -> Image | None:
        """Image of samples on validation data, called as `validate`; None where the stage has none."""
        ...

    def exports(self) -> Sequence[ExportedNetwork]:
        """Networks for a checkpoint; called with the averaged weights in the networks."""
        ...

    def close(self) -> None:
        """Stop background work."""
        ...
