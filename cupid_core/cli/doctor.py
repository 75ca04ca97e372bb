"""`cupid doctor`: what this machine has, what is missing, what that means, and whether it is ready."""

from __future__ import annotations

import textwrap

from rich.console import Console
from rich.markup import escape

from cupid_core.runtime.environment import inspect_environment, readiness

COLORS = {"ok": "green", "missing": "yellow", "problem": "red"}
_INDENT = " " * len("missing  ")


def doctor() -> int:
    """Report what this machine has for the package, what is missing, and whether it is ready.

    Returns:
        0, or 1 when something the package cannot do without is missing.
    """
    console = Console()
    findings = inspect_environment()
    for finding in findings:
        level = f"[{COLORS[finding.level]}]{finding.level:<{len('missing')}}[/]"
        found = f": {finding.found}" if finding.found else ""
        console.print(
            f"{level}  [bold]{escape(finding.name)}[/bold]{escape(found)}", highlight=False, soft_wrap=True
        )
        for line in textwrap.wrap(
            finding.meaning, console.width, initial_indent=_INDENT, subsequent_indent=_INDENT
        ):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    ready, sentence = readiness(findings)
    console.print(sentence, style="green" if ready else "red", markup=False, highlight=False, soft_wrap=True)
    return int(not ready)
