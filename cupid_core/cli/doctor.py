"""`cupid doctor`: what this machine has, what is missing, and what that means."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cupid_core.runtime.environment import inspect_environment

COLORS = {"ok": "green", "missing": "yellow", "problem": "red"}


def doctor() -> int:
    """Report what this machine has for the package, what is missing, and what that means.

    Returns:
        0, or 1 when something the package cannot do without is missing.
    """
    findings = inspect_environment()
    table = Table("", "part", "found", "meaning", box=None, pad_edge=False)
    for finding in findings:
        level = f"[{COLORS[finding.level]}]{finding.level}[/]"
        table.add_row(level, finding.name, escape(finding.found or "-"), escape(finding.meaning))
    Console().print(table)
    return int(any(finding.level == "problem" for finding in findings))
