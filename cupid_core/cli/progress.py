"""Progress of long commands: bars on a terminal, lines with share and time elsewhere."""

from __future__ import annotations

import time
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


# Without a terminal: often enough to see that it runs, seldom enough for a log file.
LINE_EVERY_S = 10.0


class ProgressLines:
    """Lines with share and time, for a console that is no terminal: the first and the last, and now and then one.

    Args:
        console: where to print them.
        every_s: least seconds between two lines.
    """

    def __init__(self, console: Console, every_s: float = LINE_EVERY_S) -> None:
        self._console, self._every_s = console, every_s
        self._what, self._start, self._last = "", 0.0, 0.0

    def show(self, what: str, share: float, figure: str = "") -> None:
        """Print how far something is, where it is time to.

        Args:
            what: in words; where they differ from those before, something new begins.
            share: 0 to 1.
            figure: more to say, such as a count.
        """
        now = time.monotonic()
        if what != self._what:
            self._what, self._start, self._last = what, now, now
            self._print(what if share <= 0.0 else f"{what}: {_words(share, 0.0, figure)}")
        elif now - self._last >= self._every_s or (share >= 1.0 and now - self._start >= self._every_s):
            self._last = now
            self._print(f"{what}: {_words(share, now - self._start, figure)}")

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _words(share: float, seconds: float, figure: str) -> str:
    """Share, time so far and to go, as far as they say something."""
    parts = [f"{100 * share:.0f} %", _duration(seconds)]
    if 0.0 < share < 1.0 and seconds > 0.0:
        parts.append(f"about {_duration(seconds * (1 - share) / share)} left")
    return ", ".join([*parts, figure] if figure else parts)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


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
        self._lines = ProgressLines(console)

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
            self._lines.show(words, report.fraction)
            return
        if report.stage not in self._tasks:
            self._tasks[report.stage] = self._progress.add_task(words, total=1.0)
        self._progress.update(self._tasks[report.stage], completed=report.fraction)
