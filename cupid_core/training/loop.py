"""The training loop of every stage: batches, losses, steps, averages, logs, sample sheets, checkpoints.

It drives a stage through the protocol `training.stage.Stage`. A run that was stopped and resumed gives the same
numbers as one that was not, because batch and noise depend on the number of the step alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cupid_core.errors import TrainingError
from cupid_core.files import atomic_write
from cupid_core.training.export import EXPORT, write_networks
from cupid_core.training.log import LogWindow, RunLog
from cupid_core.training.optimizer import MasterOptimizer, WeightAverage
from cupid_core.training.parallel import Alone, BatchPrefetcher, Parallel, stop_signal
from cupid_core.training.run_folder import (
    STATE,
    TrainingState,
    changed_settings,
    exclusive,
    load_state,
    save_state,
)
from cupid_core.training.run_settings import RunSettings
from cupid_core.training.schedule import stable_then_decay
from cupid_core.training.shards import OutOfTimeError
from cupid_core.training.stage import Stage

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoopOptions:
    """Options of one call of `train`, which may be a part of a longer run.

    Attributes:
        folder: of the run; gets state.pt, losses.csv, validation.csv, sheets/ and export/.
        seed: of the noise; with the number of a batch it determines everything random.
        resume: continue from state.pt; False starts at step 0.
        time_limit_s: save and stop before so many seconds have passed; None for no limit.
        began: `time.monotonic()` from which the limit counts; None for the start of the loop.
        settings: YAML of all settings, kept in the state; a run is resumed with the same ones.
        accept_changes: resume although settings have changed.
    """

    folder: Path
    seed: int = 0
    resume: bool = False
    time_limit_s: float | None = None
    began: float | None = None
    settings: str = ""
    accept_changes: bool = False


@dataclass(frozen=True)
class Progress:
    """One line of progress.

    Attributes:
        step: finished steps.
        steps: of the whole run.
        images_per_s: throughput since the last report.
        values: means since the last report, or figures of a validation.
        kind: of the values.
    """

    step: int
    steps: int
    images_per_s: float
    values: Mapping[str, float]
    kind: Literal["losses", "validation"] = "losses"


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        step: finished steps.
        reason: all steps done, time limit, or a signal.
        images: samples processed.
        seconds: spent in steps, all parts of the run together.
    """

    step: int
    reason: Literal["finished", "time", "signal"]
    images: int
    seconds: float


OnProgress = Callable[[Progress], None]


def train(
    stage: Stage[Any],
    run: RunSettings,
    options: LoopOptions,
    on_progress: OnProgress | None = None,
    parallel: Parallel | None = None,
) -> RunResult:
    """Train a stage until its last step, the time limit, or a signal (SIGINT, SIGTERM); always saves at the end.

    Args:
        stage: to train; its networks are converted to the precision of the run.
        run: length, optimizer, precision, intervals.
        options: folder, seed, resume, time limit.
        on_progress: called with every line of the log and every validation.
        parallel: the group of processes; a single process where None.

    Raises:
        TrainingError: the state cannot be read, written, or does not fit the stage or its settings, or another
            process is training in the folder.
    """
    parallel = parallel or Alone()
    try:
        with exclusive(options.folder) if parallel.rank == 0 else nullcontext():
            return _Run(stage, run, options, on_progress or _ignore, parallel).until_stopped()
    finally:
        stage.close()


def batch_generator(seed: int, number: int) -> torch.Generator:
    """The CPU generator of a batch; determined by seed and number."""
    mixed = (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & (2**63 - 1)
    return torch.Generator(device="cpu").manual_seed(mixed)


class _Run:
    """A run in progress."""

    def __init__(
        self,
        stage: Stage[Any],
        run: RunSettings,
        options: LoopOptions,
        on_progress: OnProgress,
        parallel: Parallel,
    ) -> None:
        self.began = time.monotonic() if options.began is None else options.began
        self.stage, self.run, self.options = stage, run, options
        self.on_progress, self.parallel = on_progress, parallel
        exact = {name: value.detach().float().clone() for name, value in stage.networks.named_parameters()}
        for network in stage.networks.children():
            network.to_precision(PRECISIONS[run.precision])  # type: ignore[operator]  # see Stage.networks
            network.train()
            if run.compiled:
                network.compile()
        self.optimizer = MasterOptimizer(stage.networks, run.optimizer, half=run.precision == "float16")
        for name, master in self.optimizer.masters.items():
            master.copy_(
                exact[name]
            )  # Not the rounded weights: masters of a checkpoint keep their full precision.
        self.average = WeightAverage(self.optimizer.masters, run.ema_decay)
        self.step, self.seconds, self.images = 0, 0.0, 0
        if options.resume:
            self._load()
        self.log = RunLog(options.folder, self.step) if parallel.rank == 0 else None
        self.prefetcher = BatchPrefetcher(stage, run.prefetch)
        self.window = LogWindow()

    def until_stopped(self) -> RunResult:
        reason: Literal["finished", "time", "signal"] = "finished"
        longest, save_s, saved_at, first = 0.0, 0.0, time.monotonic(), self.step
        with stop_signal() as stopped:
            try:
                while self.step < self.run.steps:
                    before = time.monotonic()
                    try:
                        self._step()
                        self._report()
                    except OutOfTimeError:  # data for the next step is not there yet
                        reason = "time"
                        break
                    # The first steps also make data and warm up, so they are no estimate of the next ones.
                    longest = max(longest if self.step > first + 2 else 0.0, time.monotonic() - before)
                    if self.parallel.any(stopped.is_set()):
                        reason = "signal"
                        break
                    if self._out_of_time(longest + save_s):
                        reason = "time"
                        break
                    if time.monotonic() - saved_at > 60 * self.run.save_minutes:
                        save_s, saved_at = self._save(), time.monotonic()
                self._save()
                if self.step:  # what has not trained yet must not pass for a result of this stage
                    self._export()
            finally:
                self.prefetcher.close()
                if self.log is not None:
                    self.log.close()
        return RunResult(self.step, reason, self.images, self.seconds)

    def _step(self) -> None:
        before = time.monotonic()
        images = 0
        for part in range(self.run.accumulate):
            number = (self.step * self.run.accumulate + part) * self.parallel.world + self.parallel.rank
            batch = self.prefetcher.get(number, number + self.parallel.world)
            loss = self.stage.loss(batch, batch_generator(self.options.seed, number))
            (loss.total * (self.optimizer.loss_scale / self.run.accumulate)).backward()  # type: ignore[no-untyped-call]
            self.window.add({"loss": loss.total, **loss.logged})
            images += loss.images * self.parallel.world
        if self.parallel.world > 1:
            self.parallel.average([_gradient(p) for p in self.optimizer.parameters.values()])
        self.step += 1
        share = stable_then_decay(self.step, self.run.steps, self.run.optimizer)
        report = self.optimizer.step(share)
        self.average.update(self.optimizer.masters, self.step)
        spent = time.monotonic() - before
        self.seconds, self.images = self.seconds + spent, self.images + images
        self.window.finish_step(report, images, spent)

    def _report(self) -> None:
        """Write log lines, validations and sample sheets that are due after this step."""
        if self.log is None:
            return
        last = self.step == self.run.steps
        if self.step % self.run.log_every == 0 or last:
            rate = self.run.optimizer.learning_rate * stable_then_decay(
                self.step, self.run.steps, self.run.optimizer
            )
            values, speed = self.window.mean()
            times = {"images_per_s": speed, "images": float(self.images), "seconds": self.seconds}
            self.log.write("losses", self.step, {**values, "learning_rate": rate, **times})
            self.on_progress(Progress(self.step, self.run.steps, speed, values))
            self.window = LogWindow()
        if _due(self.step, self.run.validate_every) or (last and self.run.validate_every):
            with self.averaged():
                figures = dict(self.stage.validate())
            self.log.write("validation", self.step, {**figures, "images": float(self.images)})
            self.on_progress(Progress(self.step, self.run.steps, 0.0, figures, kind="validation"))
        if _due(self.step, self.run.sheet_every) or (last and self.run.sheet_every):
            with self.averaged():
                picture = self.stage.sheet()
            if picture is not None:
                with atomic_write(self.options.folder / "sheets" / f"{self.step:07d}.png") as temporary:
                    picture.save(temporary, format="PNG")

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Context in which the networks have the averaged weights and no gradients."""
        with averaged_weights(self.stage, self.optimizer, self.average):
            yield

    def _out_of_time(self, needed: float) -> bool:
        limit = self.options.time_limit_s
        if limit is None:
            return False
        needed = 1.5 * needed + self.run.spare_seconds
        return self.parallel.any(time.monotonic() - self.began + needed > limit)

    def _save(self) -> float:
        before = time.monotonic()
        if self.parallel.rank == 0:
            state = TrainingState(
                self.stage.name,
                self.step,
                self.seconds,
                self.images,
                self.options.seed,
                self.optimizer.masters,
                self.average.values,
                self.optimizer.state_dict(),
                self.options.settings,
            )
            save_state(state, self.options.folder / STATE)
        return time.monotonic() - before

    @torch.no_grad()
    def _export(self) -> None:
        """Write the averaged weights, not rounded to the precision of the run; no step may follow."""
        if self.log is None:
            return
        for network in self.stage.networks.children():
            network.to_precision(torch.float32)  # type: ignore[operator]  # see Stage.networks
        for name, parameter in self.stage.networks.named_parameters():
            if name in self.average.values:
                parameter.copy_(self.average.values[name])
        self.stage.networks.eval()
        write_networks(self.options.folder / EXPORT, self.stage.exports())

    def _load(self) -> None:
        path = self.options.folder / STATE
        state = load_state(path, self.stage.name)
        restore_weights(self.optimizer, self.average, state, origin=str(path))
        try:
            self.optimizer.load_state_dict(state.optimizer)
        except ValueError as error:
            raise TrainingError(f"{path} has another optimizer: {error}.", hint=_HINT_FIT) from error
        if state.seed != self.options.seed:
            raise TrainingError(f"{path} is of seed {state.seed}, not {self.options.seed}.", hint=_HINT_FIT)
        changed = changed_settings(state.settings, self.options.settings, self.stage.name)
        if changed and not self.options.accept_changes:
            raise TrainingError(f"Settings are not those of {path}: {'; '.join(changed)}.", hint=_HINT_CHANGED)
        self.step, self.seconds, self.images = state.step, state.seconds, state.images


_HINT_FIT = "Resume with the settings the run was started with, or start it anew in another folder."
_HINT_CHANGED = "Resume with the settings the run was started with, or give --accept-changes."


def restore_weights(
    optimizer: MasterOptimizer, average: WeightAverage, state: TrainingState, *, origin: str
) -> None:
    """Load masters, networks and average from a state.

    Raises:
        TrainingError: names or shapes differ.
    """
    for held, saved in ((optimizer.masters, state.masters), (average.values, state.average)):
        wrong = sorted(
            name
            for name in held.keys() | saved.keys()
            if name not in held or name not in saved or held[name].shape != saved[name].shape
        )
        if wrong:
            some = ", ".join(wrong[:5])
            raise TrainingError(f"{origin} does not fit: {len(wrong)} weights differ ({some}).", hint=_HINT_FIT)
    with torch.no_grad():
        for name, value in optimizer.masters.items():
            value.copy_(state.masters[name])
    optimizer.refresh()
    average.load(state.average)


@contextmanager
def averaged_weights(stage: Stage[Any], optimizer: MasterOptimizer, average: WeightAverage) -> Iterator[None]:
    """Context in which the networks of a stage have the averaged weights and no gradients."""
    trained = {name: value.clone() for name, value in optimizer.masters.items()}
    optimizer.refresh(average.values)
    stage.networks.eval()
    try:
        # Validation has other batch sizes: compiling for them would take longer than running them.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        # Masters that are parameters themselves were overwritten, so all come back from the copy.
        optimizer.refresh(trained)
        stage.networks.train()


def _gradient(parameter: torch.nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0


def _ignore(progress: Progress) -> None:
    """No callback was given."""
