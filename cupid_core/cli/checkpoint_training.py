"""`cupid checkpoint export|unpack`: between a training and a checkpoint."""

from __future__ import annotations

from pathlib import Path

import tyro
from rich.console import Console

from cupid_core import config as settings_of
from cupid_core.cli.arguments import Assignments, Switch
from cupid_core.models.locate import locate
from cupid_core.training.checkpoint import CheckpointLimits, unpack_checkpoint, write_checkpoint
from cupid_core.training.image_encoders import SMALL_ENCODERS
from cupid_core.training.settings import TrainConfig


def export(
    *,
    config: Path,
    out: Path = Path("training"),
    to: Path = Path("checkpoint"),
    any_size: Switch = False,
    assignments: Assignments = (),
) -> int:
    """Put the trained stages of a training together to a checkpoint.

    Args:
        config: settings of the training, e.g. config/train/tabletop.yaml.
        out: folder of the training, the --out of `cupid train`.
        to: folder of the checkpoint.
        any_size: allow files larger than what ships inside the package.
        assignments: change a setting of the training, e.g. samplers.structure.steps=12.

    Returns:
        0, or 1 when networks are missing because their stage is not trained.
    """
    console = Console()
    settings = settings_of.load(TrainConfig, config, assignments)
    kind = settings.structure.image_encoder.kind
    written = write_checkpoint(
        out,
        to,
        (settings.samplers.structure, settings.samplers.appearance),
        image_encoder="" if kind in SMALL_ENCODERS else kind,
        limits=None if any_size else CheckpointLimits(),
    )
    for name, size in (*written.sizes.items(), (str(to), sum(written.sizes.values()))):
        console.print(f"{size / 2**20:7.2f} MiB  {name}", markup=False, highlight=False, soft_wrap=True)
    for key in written.missing:
        console.print(f"missing: {key}", style="yellow")
    return int(bool(written.missing))


def unpack(source: tyro.conf.Positional[str] = "tabletop", *, out: Path) -> int:
    """Put the networks of a checkpoint where the stages of a new training look for them; undoes export.

    Args:
        source: embedded name or folder of the checkpoint.
        out: folder of the new training, the --out of `cupid train`.
    """
    stages = unpack_checkpoint(locate(source, download=False), out)
    Console().print(f"{out} now has {', '.join(stages)}", markup=False, highlight=False, soft_wrap=True)
    return 0
