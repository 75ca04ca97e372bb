"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from cupid_core.config import PRESETS, Preset, Refine
from cupid_core.errors import InputError

# `--set refine.iterations=5`, as often as wanted; the names are those of the settings files.
Assignments = Annotated[
    tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(name="set", metavar="NAME=VALUE")
]
OptionalFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE")]
# A switch without the `--no-` twin that tyro makes by itself.
Switch = tyro.conf.FlagCreatePairsOff[bool]


def preset_with(name: str, *, samples: int, refine: Refine | None) -> Preset:
    """A preset, with what was asked for beside it.

    Args:
        name: fast, normal or best.
        samples: hypotheses per object; 0 keeps the preset's.
        refine: in place of the preset's; None keeps it.

    Raises:
        InputError: fewer than no samples.
    """
    if samples < 0:
        raise InputError(f"--samples is {samples}.", hint="Give 1 or more; 0 takes those of the preset.")
    preset = PRESETS[name]
    return Preset(samples or preset.samples, refine or preset.refine)
