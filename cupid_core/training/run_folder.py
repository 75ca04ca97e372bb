"""The folder of a training run: its state file, its lock, and whether its settings are still the same.

The state file is always whole: it is written beside the old one and then replaces it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # the type only: loading is weights-only
from typing import Any

import torch
from torch import Tensor

from cupid_core.errors import TrainingError
from cupid_core.files import atomic_write

STATE = "state.pt"
LOCK = ".lock"
_FORMAT = 1
# Sections that several stages share, and settings that do not affect what a step learns, so they may change
# freely.
_SHARED = ("seed", "data", "tabletop", "assets")
_FREE = (
    "run.steps",
    "run.log_every",
    "run.validate_every",
    "run.sheet_every",
    "run.save_minutes",
    "run.spare_seconds",
    "run.prefetch",
    "run.start_from",
    "run.mismatch",
    "validation_",
    "tabletop.resident",
)


@dataclass(frozen=True, eq=False)
class TrainingState:
    """Everything that a resumed run needs. Batches and noise follow from the number of the step and the seed.

    Attributes:
        stage: name of the stage.
        step: finished steps.
        seconds: time spent in steps so far.
        images: samples processed so far.
        seed: of the run.
        masters: float32 weights by name.
        average: averaged weights by name.
        optimizer: result of `MasterOptimizer.state_dict`.
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
    """Write a state atomically: after a crash the file is the old one or the new one.

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
    if "optimiser" in values:  # written before the names became American
        values["optimizer"] = values.pop("optimiser")
    try:
        return TrainingState(**values)
    except TypeError as error:
        raise TrainingError(f"{path} is damaged: {error}.", hint=hint) from error


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock a folder within a context; the system releases it when the process ends, however it ends.

    Raises:
        TrainingError: another process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / LOCK).open("w", encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{folder}: {error.strerror}.", hint="Choose a writable --out.") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise TrainingError(
                f"Another process is training in {folder}.", hint="Stop it first, or choose another --out."
            ) from error
        yield


def changed_settings(saved: str, given: str, stage: str) -> list[str]:
    """Settings that differ and affect what the steps of a stage learn, as "name: before -> now".

    Settings that only one of the texts has are ignored: the other is of an older or newer version. Free to change
    are the length of the run, intervals of validation and logging, and other stages.

    Args:
        saved: YAML of all settings, as `config.to_yaml` writes it; empty where it was not saved.
        given: YAML of the settings of now.
        stage: name of the stage.
    """
    before, now = _flatten(saved), _flatten(given)
    section = stage.replace("-", "_")
    return [
        f"{name}: {value} -> {now[name]}"
        for name, value in before.items()
        if name in now and now[name] != value and _affects_training(name, section)
    ]


def _affects_training(name: str, section: str) -> bool:
    top, _, rest = name.partition(".")
    if top not in (section, *_SHARED):
        return False
    return not (rest if top == section else name).startswith(_FREE)


def _flatten(text: str) -> dict[str, str]:
    """Dotted names and values of nested "name: value" lines, two spaces per level; comments are ignored."""
    values: dict[str, str] = {}
    path: list[str] = []
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not colon or line.lstrip().startswith("#"):
            continue
        path = [*path[: (len(name) - len(name.lstrip())) // 2], name.strip()]
        if value.strip():
            values[".".join(path)] = value.strip()
    return values
