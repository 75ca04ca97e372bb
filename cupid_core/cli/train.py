"""`cupid train`: train one stage of the networks."""

from __future__ import annotations

import logging
import math
import re
import time
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cupid_core import config as settings_of
from cupid_core.cli import process_clock
from cupid_core.cli.arguments import Assignments
from cupid_core.errors import ConfigError
from cupid_core.runtime.device import choose_device
from cupid_core.training import shards
from cupid_core.training.catalogue import build_stage, stage_settings
from cupid_core.training.loop import LoopOptions, RunResult, train
from cupid_core.training.loop import Progress as TrainingProgress
from cupid_core.training.parallel import Accelerated, Alone
from cupid_core.training.settings import TrainConfig
from cupid_core.training.stage import StageContext

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def train_command(
    stage: tyro.conf.Positional[str],
    *,
    config: Path,
    out: Path = Path("training"),
    resume: bool = False,
    time_limit: str = "",
    device: str = "auto",
    several: bool = False,
    accept_changes: bool = False,
    assignments: Assignments = (),
) -> int:
    """Train a stage: occupancy-vae, uv-vae, image-encoder, structure, appearance-vae or appearance.

    Args:
        stage: which one; later ones need the results of earlier ones in the same --out.
        config: settings, e.g. config/train/tabletop.yaml.
        out: folder of the training; each stage has its own in it, all share the data in shards/.
        resume: continue where the stage was stopped.
        time_limit: stop, saved, before the command has run for this long: 90s, 9m, 2h; empty for no limit.
        device: auto, cpu, cuda or cuda:1; auto takes cuda where there is a GPU.
        several: one of several processes started by `accelerate launch`.
        accept_changes: resume although settings were changed since.
        assignments: change a setting of the training, e.g. structure.run.batch_size=8.
    """
    console = Console()
    logging.basicConfig(level=logging.WARNING, handlers=[RichHandler(console=console, show_path=False)])
    logging.getLogger(shards.__name__).setLevel(logging.INFO)  # the first ones take minutes
    settings = settings_of.load(TrainConfig, config, assignments)
    section = stage_settings(stage, settings)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    parallel = Accelerated() if several else Alone()
    place = parallel.device if isinstance(parallel, Accelerated) else choose_device(device)
    began, limit = process_clock.started.get() or time.monotonic(), seconds(time_limit)
    deadline = math.inf
    if limit is not None and not several:  # several processes must end at the same step, so all wait for data
        deadline = began + limit - section.run.spare_seconds
    context = StageContext(out, place, settings.seed, settings.workers, deadline)
    options = LoopOptions(
        folder=out / stage,
        seed=settings.seed,
        resume=resume,
        time_limit_s=limit,
        began=began,
        settings=settings_of.to_yaml(settings),
        accept_changes=accept_changes,
    )
    built = build_stage(stage, settings, context, resumed=resume)
    with _Bar(console, stage, section.run.steps) as bar:
        result = train(built, section.run, options, bar.show, parallel)
    _print_end(console, stage, result, options.folder)
    return 0


def seconds(text: str) -> float | None:
    """A duration like 90s, 9m, 1.5h as seconds; None where empty.

    Raises:
        ConfigError: not a duration.
    """
    if not text:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if match is None:
        raise ConfigError(f"'{text}' is not a duration.", hint="Write 90s, 9m or 2h.")
    return float(match[1]) * _UNITS[match[2]]


class _Bar:
    """A progress bar on a terminal, lines elsewhere."""

    def __init__(self, console: Console, stage: str, steps: int) -> None:
        self._console, self._start, self._first = console, time.monotonic(), 0
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(stage, total=steps, losses="")

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, news: TrainingProgress) -> None:
        """Show a line of the log or a validation."""
        text = "  ".join(f"{name} {value:.4g}" for name, value in news.values.items())
        if news.kind == "losses":
            text = f"{news.images_per_s:.1f} images/s  {text}"
            self._progress.update(self._task, completed=news.step, losses=text)
        if news.kind == "validation" or not self._console.is_terminal:
            spent = time.monotonic() - self._start
            self._first = self._first or news.step  # of a resumed run, more than 1
            done = news.step - self._first
            left = f", about {spent / done * (news.steps - news.step) / 60:.0f} min left" if done else ""
            share = (
                f"step {news.step}/{news.steps} ({100 * news.step / news.steps:.0f} %), {spent / 60:.1f} min{left}"
            )
            self._console.print(f"{share}  {news.kind}  {text}", highlight=False, soft_wrap=True)


def _print_end(console: Console, stage: str, result: RunResult, folder: Path) -> None:
    why = {"finished": "finished", "time": "out of time", "signal": "stopped"}[result.reason]
    again = "" if result.reason == "finished" else "; --resume continues"
    console.print(
        f"{stage}: {why} at step {result.step}, {result.images} images, {result.seconds / 3600:.2f} h of steps; "
        f"saved in {folder}{again}",
        highlight=False,
        soft_wrap=True,
    )
