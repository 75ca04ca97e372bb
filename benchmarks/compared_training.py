"""Trainings in separate folders that share earlier stages, for comparisons of variants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cupid_core import config as settings_of
from cupid_core.errors import TrainingError
from cupid_core.training.catalogue import build_stage, stage_settings
from cupid_core.training.loop import LoopOptions, RunResult, train
from cupid_core.training.loop import Progress as TrainingProgress
from cupid_core.training.run_folder import STATE
from cupid_core.training.settings import TrainConfig
from cupid_core.training.stage import StageContext

# Settings of a compared run: fresh weights, no validation and no sheets.
FRESH = {"start_from": "", "validate_every": 0, "sheet_every": 0}


def link_stages(home: Path, root: Path, names: Sequence[str]) -> None:
    """Make a training folder that shares some stages (and "shards") with another.

    Args:
        home: the new folder, --out of its trainings.
        root: the folder that is shared from.
        names: of folders in it.

    Raises:
        TrainingError: one of the stages has not been trained.
    """
    home.mkdir(parents=True, exist_ok=True)
    for name in names:
        link, target = home / name, (root / name).resolve()
        if name != "shards" and not target.is_dir():
            raise TrainingError(f"{target} is missing.", hint="Train the earlier stages first, with this --root.")
        target.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(target, target_is_directory=True)


def train_stage(
    name: str, config: TrainConfig, home: Path, *, device: str, time_limit_s: float | None, title: str
) -> RunResult:
    """Train a stage to the end or the time limit, continuing where it stopped, with a progress bar.

    Args:
        name: of the stage.
        config: of the training.
        home: its folder.
        device: where it runs.
        time_limit_s: None for no limit.
        title: of the bar.

    Raises:
        TrainingError: earlier stages have not been trained, or the state is of another run.
    """
    folder = home / name
    options = LoopOptions(
        folder=folder,
        seed=config.seed,
        resume=(folder / STATE).is_file(),
        time_limit_s=time_limit_s,
        settings=settings_of.to_yaml(config),
    )
    context = StageContext(home, torch.device(device), config.seed, config.workers)
    stage = build_stage(name, config, context, resumed=options.resume)
    run = stage_settings(name, config).run
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[loss]}")) as bar:
        task = bar.add_task(title, total=run.steps, loss="")

        def report(news: TrainingProgress) -> None:
            bar.update(task, completed=news.step, loss=f"loss {news.values.get('loss', float('nan')):.4f}")

        return train(stage, run, options, report)
