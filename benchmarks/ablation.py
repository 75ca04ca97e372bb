"""The effect of the pose-aligned conditioning of stage 2: the variants of the paper's Table 4.

    python benchmarks/ablation.py --config config/train/tabletop.yaml --root DIR --steps 4000

Trains the same flow five times, for the same steps on the same batches; only the conditioning differs. Image
encoder and appearance autoencoder are those in DIR from `cupid train`. Then measures each variant on unseen
objects with true structure and pose. A run that was stopped continues when the same command is given again;
finished measurements are kept.

Results are in DIR/ablation: ablation.csv, ablation.md, and a training folder per variant with a `checkpoint` for
`cupid evaluate tabletop --without-checkpoint`.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from compared_training import FRESH, link_stages, train_stage
from rich.console import Console
from rich.table import Table

from cupid_core import config as settings_of
from cupid_core.config import CupidConfig
from cupid_core.evaluation.report import summarize
from cupid_core.evaluation.true_structure import run_true_structure
from cupid_core.models.bundle import NetworkBundle
from cupid_core.training.checkpoint import write_checkpoint
from cupid_core.training.loop import RunResult
from cupid_core.training.settings import TrainConfig

STAGE = "appearance"
# Letters and names of the paper's Table 4.
VARIANTS = {
    "none": "a",
    "position": "b",
    "latent": "c",
    "latent_visible": "d",
    "latent_visual": "e",
}
# Folders that a variant shares with its training.
SHARED = ("shards", "occupancy-vae", "uv-vae", "structure", "appearance-vae")


@dataclass(frozen=True)
class Result:
    """One line of the table; PSNR in dB on true structure and pose, see docs/evaluation.md."""

    variant: str
    steps: int
    images: int
    objects: int
    psnr: float
    psnr_inside: float
    held_out_psnr: float
    held_out_psnr_inside: float


@dataclass(frozen=True)
class Plan:
    """Settings and folder of the training, steps of a variant, objects to measure, time to stop."""

    config: TrainConfig
    root: Path
    steps: int
    objects: int
    held_out: int
    device: str = "cpu"
    time_limit_s: float | None = None

    @property
    def folder(self) -> Path:
        """Folder of the results."""
        return self.root / "ablation"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="settings of the training")
    parser.add_argument("--root", type=Path, required=True, help="folder of the training, --out of `cupid train`")
    parser.add_argument("--steps", type=int, default=4000, help="of every variant")
    parser.add_argument("--objects", type=int, default=64, help="unseen objects of trained families to measure on")
    parser.add_argument("--held-out", type=int, default=16, help="objects of held-out families to measure on")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, help="stop training a variant after so long; run again to go on")
    options = parser.parse_args(arguments)
    config = settings_of.load(TrainConfig, options.config)
    limit = None if options.minutes is None else 60 * options.minutes
    plan = Plan(
        config, options.root, options.steps, options.objects, options.held_out, options.device, time_limit_s=limit
    )
    console = Console()
    if config.threads:
        torch.set_num_threads(config.threads)
    for variant in options.variants:
        if not any(known.variant == variant and known.steps == plan.steps for known in read_results(plan.folder)):
            run = train_variant(plan, variant)
            if run.step < plan.steps:
                console.print(f"{variant}: stopped at step {run.step} of {plan.steps}; give the command again")
                return 1
            add_result(plan.folder, measured(plan, variant, run))
        show(plan, console)
    return 0


def variant_config(plan: Plan, variant: str) -> TrainConfig:
    """The settings of a variant: the conditioning and the number of steps differ, nothing else."""
    appearance = plan.config.appearance
    changed = {
        "network": appearance.network.model_copy(update={"conditioning": variant}),
        "run": appearance.run.model_copy(update={"steps": plan.steps, **FRESH}),
    }
    return plan.config.model_copy(update={STAGE: appearance.model_copy(update=changed)})


def train_variant(plan: Plan, variant: str) -> RunResult:
    """Train a variant to the end or the time limit, continuing where it stopped.

    Raises:
        TrainingError: the earlier stages have not been trained, or the state is of another run.
    """
    home = plan.folder / variant
    link_stages(home, plan.root, SHARED)
    return train_stage(
        STAGE,
        variant_config(plan, variant),
        home,
        device=plan.device,
        time_limit_s=plan.time_limit_s,
        title=variant,
    )


def measured(plan: Plan, variant: str, run: RunResult) -> Result:
    """Make a checkpoint of a trained variant and measure its stage 2."""
    home = plan.folder / variant
    samplers = plan.config.samplers
    checkpoint = home / "checkpoint"
    write_checkpoint(home, checkpoint, (samplers.structure, samplers.appearance))
    networks = NetworkBundle.from_pretrained(checkpoint, device=plan.device)
    figures: dict[str, float] = {}
    for split, prefix, count in (("train", "", plan.objects), ("held_out", "held_out_", plan.held_out)):
        values = summarize(run_true_structure(networks, CupidConfig(), count, split=split)).values
        for name in ("psnr", "psnr_inside"):
            figures[prefix + name] = values.get(f"{name}_true_db", float("nan"))
    return Result(variant, run.step, run.images, plan.objects, **figures)


def read_results(folder: Path) -> list[Result]:
    """Results in ablation.csv; empty where it does not exist."""
    path = folder / "ablation.csv"
    if not path.is_file():
        return []
    kinds = {field.name: field.type for field in fields(Result)}
    convert = {"str": str, "int": int, "float": float}
    with path.open(encoding="utf-8", newline="") as stream:
        return [
            Result(**{name: convert[str(kinds[name])](value) for name, value in row.items()})
            for row in csv.DictReader(stream)
        ]


def add_result(folder: Path, result: Result) -> None:
    """Write ablation.csv and ablation.md with one more line, in place of an older one of the same run."""
    same = (result.variant, result.steps)
    results = [known for known in read_results(folder) if (known.variant, known.steps) != same] + [result]
    results.sort(key=lambda item: (item.steps, VARIANTS[item.variant]))
    with (folder / "ablation.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Result)])
        writer.writeheader()
        writer.writerows(asdict(item) for item in results)
    (folder / "ablation.md").write_text(markdown(results), encoding="utf-8")


def markdown(results: Sequence[Result]) -> str:
    """The table for docs."""
    lines = [
        "| | conditioning | steps | images | PSNR | PSNR inside | held-out PSNR | held-out PSNR inside |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for item in results:
        values = (item.psnr, item.psnr_inside, item.held_out_psnr, item.held_out_psnr_inside)
        cells = [f"({VARIANTS[item.variant]})", item.variant, f"{item.steps}", f"{item.images}"]
        lines.append("| " + " | ".join([*cells, *(f"{value:.2f}" for value in values)]) + " |")
    return "\n".join(lines) + "\n"


def show(plan: Plan, console: Console) -> None:
    """Print the results so far."""
    table = Table(
        "", "conditioning", "steps", "PSNR", "PSNR inside", "held out", title="True structure and pose, dB"
    )
    for item in read_results(plan.folder):
        values = (item.psnr, item.psnr_inside, item.held_out_psnr)
        table.add_row(
            f"({VARIANTS[item.variant]})", item.variant, str(item.steps), *(f"{value:.2f}" for value in values)
        )
    console.print(table)


if __name__ == "__main__":
    raise SystemExit(main())
