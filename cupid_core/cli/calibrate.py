"""`cupid calibrate`: measure how certain the results of a checkpoint are, and keep that in the checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
import tyro
from rich.console import Console

from cupid_core import config as settings_of
from cupid_core.cli.arguments import Assignments, OptionalFile
from cupid_core.cli.evaluate import ObjectBar
from cupid_core.config import CupidConfig
from cupid_core.errors import InputError
from cupid_core.evaluation.benchmark import BenchmarkOptions, open_journal, run_benchmark
from cupid_core.evaluation.calibrate import CALIBRATION_SEED, CONDITIONS, fit_calibration, restated
from cupid_core.evaluation.records import CaseRecord
from cupid_core.evaluation.report import certainty_table
from cupid_core.files import write_text
from cupid_core.models.locate import locate
from cupid_core.models.weights import PIPELINE
from cupid_core.reconstruct.pipeline import Cupid
from cupid_core.runtime.device import choose_device, inference_dtype
from cupid_core.scene.certainty import Calibration


def calibrate(
    checkpoint: tyro.conf.Positional[str] = "tabletop",
    *,
    n: int = 240,
    records: Path = Path("calibration"),
    config: OptionalFile = None,
    assignments: Assignments = (),
    device: str = "auto",
    threads: int = 0,
) -> int:
    """Reconstruct generated objects with truth under several conditions, and fit how far results are off.

    The calibration goes into the checkpoint's pipeline.json: from then on its results state calibrated deviations,
    and the probability that they are right. New weights need a new one.

    Args:
        checkpoint: embedded name or folder; its pipeline.json is rewritten.
        n: generated objects; some conditions use a part of them.
        records: folder for the results of single objects; the same command continues a run that was stopped.
        config: settings of the pipeline (a YAML file as config/default.yaml).
        assignments: change a setting, e.g. refine.iterations=5.
        device: auto, cpu, cuda or cuda:1; auto takes cuda where there is a GPU.
        threads: of the CPU; 0 takes all cores.
    """
    console = Console(width=None if Console().is_terminal else 160)
    folder = locate(checkpoint, download=False)
    if threads:
        torch.set_num_threads(threads)
    place, settings = choose_device(device), settings_of.load(CupidConfig, config, assignments)
    cupid = Cupid.from_pretrained(folder, device=place, dtype=inference_dtype(place), config=settings)
    records.mkdir(parents=True, exist_ok=True)
    measured = {name: _measured(cupid, name, n, records, console) for name in CONDITIONS}
    calibration = fit_calibration([record for some in measured.values() for record in some])
    _write(folder / PIPELINE, calibration)
    stated = {name: restated(some, calibration) for name, some in measured.items()}
    console.print(certainty_table(stated, "Certainty on the objects of the calibration"))
    console.print(
        f"calibrated on {calibration.objects} objects: {folder / PIPELINE}", highlight=False, soft_wrap=True
    )
    return 0


def _measured(cupid: Cupid, name: str, n: int, records: Path, console: Console) -> list[CaseRecord]:
    """Results of the objects under one condition."""
    condition = CONDITIONS[name]
    count = max(1, round(n * condition.share))
    options = BenchmarkOptions(
        objects=count,
        held_out=0,
        samples=condition.samples,
        seed=CALIBRATION_SEED,
        given_structure=False,
        pictures=0,
        refine=condition.refine,
        with_depth=condition.with_depth,
    )
    journal = open_journal(records / f"{name.replace(' ', '_')}.jsonl", cupid, options)
    console.print(f"condition: {name}", highlight=False)
    with ObjectBar(console, count) as bar:
        return run_benchmark(cupid, options, on_record=bar.show, journal=journal)


def _write(path: Path, calibration: Calibration) -> None:
    """Put a calibration into a pipeline.json; everything else stays."""
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.", hint="Give a checkpoint folder.") from error
    described["args"]["calibration"] = asdict(calibration)
    write_text(path, json.dumps(described, indent=1) + "\n")
