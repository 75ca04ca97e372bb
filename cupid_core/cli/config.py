"""`cupid config`: list, write and check settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from cupid_core import config as settings_of
from cupid_core.errors import ConfigError


def config(
    action: tyro.conf.Positional[Literal["describe", "write", "check"]],
    path: tyro.conf.Positional[Path | None] = None,
    *,
    settings: Annotated[settings_of.CupidConfig, tyro.conf.arg(name="")] = settings_of.CupidConfig(),  # noqa: B008
) -> int:
    """List every setting (describe), write a settings file (write), or check one (check).

    Args:
        action: describe prints a table; write makes a commented YAML file; check reads one.
        path: the YAML file of write and check.
        settings: values that differ from the defaults, for describe and write.
    """
    if action == "describe":
        _print_table(settings)
        return 0
    if path is None:
        raise ConfigError(f"`cupid config {action}` needs a file name.", hint=f"cupid config {action} FILE.yaml")
    if action == "write":
        settings_of.save(settings, path)
    else:
        settings_of.load(settings_of.CupidConfig, path)
    Console().print(f"{path}: good", highlight=False, soft_wrap=True)
    return 0


def _print_table(settings: settings_of.CupidConfig) -> None:
    rows = list(settings_of.describe(settings))
    table = Table(box=None, pad_edge=False)
    table.add_column("setting", min_width=max(len(row[0]) for row in rows))  # names are there to be copied whole
    for heading in ("value", "unit", "bounds", "meaning"):
        table.add_column(heading)
    for name, value, unit, bounds, description in rows:
        table.add_row(name, str(value), unit, bounds, description)
    Console().print(table)
