"""`cupid weights`: list, pull and verify checkpoints."""

from __future__ import annotations

from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from cupid_core.models.locate import PUBLISHED, embedded, locate, pull
from cupid_core.models.verify import verify
from cupid_core.models.weights import read_checkpoint


def weights(
    action: tyro.conf.Positional[Literal["list", "pull", "verify"]],
    source: tyro.conf.Positional[str] = PUBLISHED,
) -> int:
    """List the checkpoints on this machine, pull one from the hub, or verify one file by file.

    Args:
        action: list shows what is here; pull fetches a hub id into the local cache; verify checks hashes, names,
            shapes and values.
        source: embedded name, folder, or hub id (organization/name@<commit>).

    Returns:
        0, or 1 when verify finds a network that cannot be loaded.
    """
    console = Console()
    if action == "list":
        for name, folder in embedded().items():
            console.print(f"{name}  {folder}", highlight=False, soft_wrap=True)
        if not embedded():
            console.print("No checkpoint ships inside this version.")
        return 0
    if action == "pull":
        folder = pull(source)
        console.print(f"{folder}", highlight=False, soft_wrap=True)
        return 0
    return _verify(source, console)


def _verify(source: str, console: Console) -> int:
    table = Table("network", "class", "values", "sha256", "problem", box=None, pad_edge=False)
    reports = list(verify(read_checkpoint(locate(source, download=False))))
    for report in reports:
        verdict = f"[red]{report.problem}[/]" if report.problem else "[green]none[/]"
        table.add_row(report.key, report.class_name, f"{report.parameters:,}", report.sha256, verdict)
    console.print(table)
    return int(any(report.problem for report in reports))
