"""The state of a training run in one file that is always whole. Knows files and tensors, not stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # the type only: loading is weights-only
from typing import Any

import torch
from torch import Tensor

from cupid_core.errors import TrainingError
from cupid_core.files import atomic_write

STATE = "state.pt"
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class TrainingState:
    """Everything a run continues from. Batches and noise follow from the number of the step and the seed.

    Attributes:
        stage: name of the stage.
        step: finished steps.
        seconds: time spent in steps so far.
        images: samples seen so far.
        seed: of the run.
        masters: float32 weights by name.
        average: averaged weights by name.
        optimizer: of `MasterOptimizer.state_dict`.
        settings: YAML of all settings of the run.
    """

    stage: str
    step: int
    seconds: float
    images: int
    seed: int
    masters: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    settings: str = ""


def save_state(state: TrainingState, path: Path) -> None:
    """Write a state; whatever happens, the file is the old one or the new one.

    Raises:
        OutputError: it cannot be written.
    """
    values = {"format": _FORMAT, **{name: getattr(state, name) for name in state.__dataclass_fields__}}
    values.update(masters=dict(state.masters), average=dict(state.average), optimizer=dict(state.optimizer))
    with atomic_write(path, also=(RuntimeError,)) as temporary, temporary.open("wb") as stream:
        torch.save(values, stream)


def load_state(path: Path, stage: str) -> TrainingState:
    """Read a state.

    Args:
        path: the file.
        stage: name of the stage it must be of.

    Raises:
        TrainingError: missing, damaged, of another stage or format.
    """
    hint = "Give the run folder of this stage, or start without --resume."
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(f"There is no {path} to resume from.", hint=hint) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, UnpicklingError) as error:
        raise TrainingError(f"{path} is damaged: {error}.", hint=hint) from error
    if not isinstance(values, dict) or values.pop("format", None) != _FORMAT or values.get("stage") != stage:
        raise TrainingError(f"{path} is not a state of '{stage}' that this version reads.", hint=hint)
    try:
        return TrainingState(**values)
    except TypeError as error:
        raise TrainingError(f"{path} is damaged: {error}.", hint=hint) from error
