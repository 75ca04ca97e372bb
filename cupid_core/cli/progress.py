"""Progress of a reconstruction: a bar per stage on a terminal, a line per stage elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from cupid_core.reconstruct.progress import Progress as Report

WORDS = {
    "crop": "crop the objects",
    "encode": "encode the images",
    "structure": "sample the structure",
    "pose": "solve the poses",
    "appearance": "sample the appearance",
    "decode": "decode the meshes",
    "measure": "compare with the image",
    "place": "place the objects",
    "write": "write the results",
}


class StageBars:
    """A reconstruction's `on_progress` for people.

    Args:
        console: where to show it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._printed = ""

    def __enter__(self) -> StageBars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, report: Report) -> None:
        """Show a stage's fraction; a stage that runs again starts its bar again."""
        words = WORDS.get(report.stage, report.stage)
        if not self._console.is_terminal:
            if report.stage != self._printed:
                self._console.print(words, highlight=False, soft_wrap=True)
            self._printed = report.stage
            return
        if report.stage not in self._tasks:
            self._tasks[report.stage] = self._progress.add_task(words, total=1.0)
        self._progress.update(self._tasks[report.stage], completed=report.fraction)
