"""`cupid config`: list, write and check settings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import tyro
from rich.console import Console

from cupid_core import config as settings_of
from cupid_core.cli.arguments import Assignments, OptionalFile
from cupid_core.config import CupidConfig


def describe(*, config: OptionalFile = None, assignments: Assignments = ()) -> int:
    """List every setting: its value, unit and bounds, and below what it means.

    Args:
        config: show the values of this settings file; the defaults without.
        assignments: change a setting, e.g. refine.iterations=5.
    """
    console = Console()
    for line in describe_lines(settings_of.load(CupidConfig, config, assignments), console.width):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return 0


def write(path: tyro.conf.Positional[Path], *, config: OptionalFile = None, assignments: Assignments = ()) -> int:
    """Write a settings file with all settings and a comment above each.

    Args:
        path: the YAML file to write.
        config: start from this settings file instead of the defaults.
        assignments: change a setting, e.g. refine.iterations=5.
    """
    settings_of.save(settings_of.load(CupidConfig, config, assignments), path)
    Console().print(f"{path}: written", markup=False, highlight=False, soft_wrap=True)
    return 0


def check(path: tyro.conf.Positional[Path]) -> int:
    """Check a settings file: names, types and bounds.

    Args:
        path: the YAML file to read.
    """
    settings_of.load(CupidConfig, path)
    Console().print(f"{path}: good", markup=False, highlight=False, soft_wrap=True)
    return 0


def describe_lines(settings: CupidConfig, width: int) -> Iterator[str]:
    """Per setting a line with name, value, unit and bounds, and the meaning below, wrapped to the width."""
    for name, value, unit, bounds, meaning in settings_of.describe(settings):
        shown = "''" if value == "" else value
        limits = "; ".join(part for part in (unit, bounds) if part not in ("", "1", "choice"))
        yield f"{name} = {shown}  [{limits}]" if limits else f"{name} = {shown}"
        yield from textwrap.wrap(meaning, width, initial_indent="    ", subsequent_indent="    ")
