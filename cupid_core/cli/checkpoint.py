"""`cupid checkpoint list|pull|verify`: checkpoints on this machine and on the hub."""

from __future__ import annotations

import tyro
from rich.console import Console
from rich.table import Table

from cupid_core.models import locate
from cupid_core.models.verify import verify as verify_networks
from cupid_core.models.weights import read_checkpoint


def show() -> int:
    """List the checkpoints that ship inside this package."""
    console = Console()
    for name, folder in locate.embedded().items():
        console.print(f"{name}  {folder}", markup=False, highlight=False, soft_wrap=True)
    if not locate.embedded():
        console.print("No checkpoint ships inside this version.")
    return 0


def pull(source: tyro.conf.Positional[str] = locate.PUBLISHED) -> int:
    """Fetch a checkpoint from the Hugging Face hub into the local cache.

    Args:
        source: hub id; organization/name@commit pins the content.
    """
    folder = locate.pull(source)
    console = Console()
    console.print(f"{folder}", markup=False, highlight=False, soft_wrap=True)
    pinned = f"{source.split('@')[0]}@{folder.name}"
    console.print(f"Pin it as {pinned}", markup=False, highlight=False, soft_wrap=True)
    return 0


def verify(source: tyro.conf.Positional[str] = locate.PUBLISHED) -> int:
    """Check a checkpoint file by file: hashes, names, shapes and values.

    Args:
        source: embedded name, folder, or hub id (organization/name@commit pins the content).

    Returns:
        0, or 1 when a network cannot be loaded.
    """
    table = Table("network", "class", "values", "sha256", "problem", box=None, pad_edge=False)
    reports = list(verify_networks(read_checkpoint(locate.locate(source, download=False))))
    for report in reports:
        verdict = f"[red]{report.problem}[/]" if report.problem else "[green]none[/]"
        table.add_row(report.key, report.class_name, f"{report.parameters:,}", report.sha256, verdict)
    Console().print(table)
    return int(any(report.problem for report in reports))
