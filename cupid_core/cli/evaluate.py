"""`cupid evaluate`: measure a checkpoint on generated objects with known truth."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cupid_core import config as settings_of
from cupid_core.cli.arguments import Assignments, OptionalFile, Switch
from cupid_core.config import CupidConfig, Refine, SamplerConfig
from cupid_core.errors import InputError
from cupid_core.evaluation.benchmark import BenchmarkOptions, open_journal, run_benchmark
from cupid_core.evaluation.records import CaseRecord, RecordJournal
from cupid_core.evaluation.reliability import reliability_svg
from cupid_core.evaluation.report import tables, write_json
from cupid_core.evaluation.scenes import run_scenes
from cupid_core.evaluation.sheet import contact_sheet
from cupid_core.evaluation.tabletop_cases import UNSEEN_SEED
from cupid_core.files import atomic_write, write_text
from cupid_core.reconstruct.pipeline import Cupid
from cupid_core.reconstruct.stages import samplers_of
from cupid_core.runtime.device import choose_device, inference_dtype

NOTHING_FOUND = 1
# Without a terminal: often enough to see that it runs, seldom enough for a log file.
_LINE_EVERY_S = 10.0


def evaluate(
    what: tyro.conf.Positional[Literal["tabletop"]],
    *,
    checkpoint: str = "tabletop",
    without_checkpoint: str = "",
    n: int = 250,
    held_out: int | None = None,
    scenes: int = 0,
    samples: int = 4,
    family: str = "",
    seed: int = UNSEEN_SEED,
    steps: int = 0,
    appearance_steps: int = 0,
    config: OptionalFile = None,
    assignments: Assignments = (),
    device: str = "auto",
    threads: int = 0,
    true_structure: bool = True,
    rank_by_voxels: bool = False,
    refine: Refine = "none",
    color_only: Switch = False,
    json: OptionalFile = None,
    sheet: OptionalFile = None,
    sheet_rows: int = 8,
    reliability: OptionalFile = None,
    families: bool = True,
) -> int:
    """Run unseen generated objects through the whole pipeline and measure the results against their truth.

    Args:
        what: tabletop, the only benchmark there is.
        checkpoint: embedded name, folder, or hub id.
        without_checkpoint: a checkpoint whose stage 2 has conditioning "none": measured on the same structures and
            poses, for the worth of pose-aligned conditioning.
        n: unseen objects in all.
        held_out: how many of them are of families that no training sees; a fifth where it is not given.
        scenes: whole scenes with sensor depth, of three to seven objects each.
        samples: hypotheses per object; the best by agreement with image and mask counts.
        family: only this family.
        seed: of objects and noise; the same seed gives the same figures.
        steps: solver steps of stage 1; 0 takes what the checkpoint or the settings say.
        appearance_steps: solver steps of stage 2; 0 as above.
        config: settings of the pipeline (a YAML file as config/default.yaml).
        assignments: change a setting, e.g. refine.iterations=5.
        device: auto, cpu, cuda or cuda:1; auto takes cuda where there is a GPU.
        threads: of the CPU; 0 takes all cores.
        true_structure: also run stage 2 on the true structure and pose.
        rank_by_voxels: rank hypotheses by their voxels and mesh only the best; faster, and not quite the same.
        refine: none, pose or shape: what of the placed objects is fitted to depth and mask.
        color_only: give single objects no depth.
        json: all figures, also of every object. Finished objects are kept beside it (.jsonl): the same command
            continues a run that was stopped.
        sheet: pictures of the first objects, a PNG.
        sheet_rows: objects of each split in it.
        reliability: diagram of stated probabilities against what came true, an SVG.
        families: show the table of families.
    """
    console = Console(width=None if Console().is_terminal else 160)
    _check_writable(json, sheet, reliability)
    if threads:
        torch.set_num_threads(threads)
    place, settings = choose_device(device), settings_of.load(CupidConfig, config, assignments)
    cupid = _with_steps(_load(checkpoint, place, settings), steps, appearance_steps)
    other = _load(without_checkpoint, place, cupid.config) if without_checkpoint else None
    options = BenchmarkOptions(
        objects=n,
        held_out=held_out,
        samples=samples,
        seed=seed,
        pictures=sheet_rows if sheet else 0,
        family=family or None,
        given_structure=true_structure,
        rank_by_voxels=rank_by_voxels,
        refine=refine,
        with_depth=not color_only,
    )
    file = json.with_suffix(".jsonl") if json else None
    journal = open_journal(file, cupid, options, without=other) if file else None
    measured = _measure(cupid, options, scenes, console, without=other, journal=journal, families=families)
    checkpoints = {"checkpoint": checkpoint, "without_checkpoint": without_checkpoint}
    facts = {"benchmark": what, **checkpoints, "options": asdict(options) | {"scenes": scenes}, **_machine(place)}
    _write(console, measured, facts, json, sheet)
    if reliability is not None:
        write_text(reliability, reliability_svg(measured))
        console.print(f"reliability: {reliability}", highlight=False, soft_wrap=True)
    if journal is not None:
        journal.remove()
    return 0 if any(not record.failure for record in measured) else NOTHING_FOUND


def _measure(
    cupid: Cupid,
    options: BenchmarkOptions,
    scenes: int,
    console: Console,
    *,
    without: Cupid | None,
    journal: RecordJournal | None,
    families: bool,
) -> list[CaseRecord]:
    """Measure objects and scenes and print the figures; of a run that is stopped, those of what is measured."""
    bars = ObjectBar(console, options.objects), ObjectBar(console, scenes, unit="scenes")
    measured: list[CaseRecord] = []
    try:
        with bars[0] as bar:
            run_benchmark(cupid, options, without=without, on_record=bar.show, journal=journal)
        with bars[1] as bar:
            run_scenes(cupid, scenes, options, refine=options.refine, on_record=bar.show, journal=journal)
    finally:
        measured += [record for bar in bars for record in bar.measured]
        for table in tables(measured, families=families) if measured else ():
            console.print(table)
    return measured


def _machine(device: torch.device) -> dict[str, str]:
    """What the times depend on."""
    return {
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {device}",
    }


def _load(source: str, device: torch.device, settings: CupidConfig) -> Cupid:
    return Cupid.from_pretrained(source, device=device, dtype=inference_dtype(device), config=settings)


def _with_steps(cupid: Cupid, steps: int, appearance_steps: int) -> Cupid:
    """The same with other numbers of solver steps, where they are given."""
    if not steps and not appearance_steps:
        return cupid
    structure, appearance = samplers_of(cupid.networks, cupid.config)
    chosen = {
        "reconstruct": cupid.config.reconstruct.model_copy(update={"samplers": "settings"}),
        "structure_sampler": _stepped(structure, steps),
        "appearance_sampler": _stepped(appearance, appearance_steps),
    }
    return Cupid(cupid.networks, cupid.config.model_copy(update=chosen))


def _stepped(sampler: SamplerConfig, steps: int) -> SamplerConfig:
    values = sampler.model_dump() | ({"steps": steps} if steps else {})
    return settings_of.from_mapping(type(sampler), values, origin="--steps")


def _check_writable(*paths: Path | None) -> None:
    """Fail before the work, not after, where a result cannot be written."""
    for path in paths:
        if path is not None and not path.resolve().parent.is_dir():
            raise InputError(f"There is no folder {path.resolve().parent}.", hint="Make it first.")


def _write(
    console: Console, records: list[CaseRecord], facts: dict[str, Any], json: Path | None, sheet: Path | None
) -> None:
    if json is not None:
        write_json(records, facts, json)
        console.print(f"figures: {json}", highlight=False, soft_wrap=True)
    picture = contact_sheet(records) if sheet is not None else None
    if sheet is not None and picture is not None:
        with atomic_write(sheet) as temporary:
            picture.save(temporary, format="PNG")
        console.print(f"pictures: {sheet}", highlight=False, soft_wrap=True)


class ObjectBar:
    """A progress bar over objects or scenes with the mean silhouette IoU so far; lines without a terminal."""

    def __init__(self, console: Console, total: int, unit: str = "objects") -> None:
        self.measured: list[CaseRecord] = []
        self._unit, self._ious, self._scenes = unit, list[float](), set[int]()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[figure]}"))
        self._console, self._total, self._start, self._last_line = console, total, time.monotonic(), -_LINE_EVERY_S
        silent = not console.is_terminal or not total
        self._progress = Progress(*columns, *times, console=console, disable=silent)
        self._task = self._progress.add_task(unit, total=total, figure="")

    def __enter__(self) -> ObjectBar:
        self._start = time.monotonic()
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, record: CaseRecord) -> None:
        """One more object is measured."""
        self.measured.append(record)
        self._ious.append(record.figures.get("iou", 0.0))
        self._scenes.add(record.index)
        done = len(self._ious) if self._unit == "objects" else len(self._scenes)
        figure = f"silhouette IoU {sum(self._ious) / len(self._ious):.3f}"
        self._progress.update(self._task, completed=done, figure=figure)
        spent = time.monotonic() - self._start
        finished = self._unit == "objects" and done == self._total
        if not self._console.is_terminal and (spent - self._last_line >= _LINE_EVERY_S or finished):
            self._last_line = spent
            left = spent / done * (self._total - done)
            share = f"{done} of {self._total} {self._unit} ({100 * done / self._total:.0f} %)"
            line = f"{share}, {spent / 60:.1f} min, about {left / 60:.1f} min left, {figure}"
            self._console.print(line, highlight=False, soft_wrap=True)
