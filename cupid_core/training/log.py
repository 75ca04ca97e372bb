"""Logs of a run as CSV files, and as TensorBoard events where that package is installed."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cupid_core.files import atomic_write
from cupid_core.training.optimizer import StepReport


class CsvLog:
    """A CSV file whose first column is "step"; new names become new columns.

    Args:
        path: of the file.
        keep_to_step: rows of later steps are dropped, because a resumed run repeats these steps.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, keep_to_step: int) -> None:
        self._path = path
        self._columns = ["step"]
        rows: list[dict[str, str]] = []
        if path.is_file() and keep_to_step > 0:
            with path.open(newline="", encoding="utf-8") as stream:
                reader = csv.DictReader(stream)
                rows = [row for row in reader if (row.get("step") or "").isdigit()]
                self._columns = list(reader.fieldnames or ["step"])
        self._rewrite([row for row in rows if int(row["step"]) <= keep_to_step])

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append a row."""
        row = {"step": str(step), **{name: f"{value:.6g}" for name, value in values.items()}}
        if new := [name for name in row if name not in self._columns]:
            with self._path.open(newline="", encoding="utf-8") as stream:
                rows = list(csv.DictReader(stream))
            self._columns += new
            self._rewrite(rows)
        with self._path.open("a", newline="", encoding="utf-8") as stream:
            csv.DictWriter(stream, self._columns, restval="").writerow(row)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        with atomic_write(self._path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, self._columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)


class RunLog:
    """Losses and validations of a run.

    Args:
        folder: of the run; gets losses.csv, validation.csv and, where TensorBoard is installed, its events.
        keep_to_step: see `CsvLog`.
    """

    def __init__(self, folder: Path, keep_to_step: int) -> None:
        self._files = {kind: CsvLog(folder / f"{kind}.csv", keep_to_step) for kind in ("losses", "validation")}
        self._events = _event_writer(folder / "tensorboard", keep_to_step)

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Append a row to "losses" or "validation"."""
        self._files[kind].write(step, values)
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush and close the events."""
        if self._events is not None:
            self._events.close()


def _event_writer(folder: Path, keep_to_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # an optional package
        return None
    return SummaryWriter(str(folder), purge_step=keep_to_step + 1)


class LogWindow:
    """Values since the last line of the log; they stay on the device until `mean`, so no step waits for them."""

    def __init__(self) -> None:
        self._sums: dict[str, list[Tensor | float]] = {}
        self._images, self._seconds = 0, 0.0

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Add the values of a batch."""
        for name, value in values.items():
            self._sums.setdefault(name, []).append(value.detach() if isinstance(value, Tensor) else value)

    def finish_step(self, report: StepReport, images: int, seconds: float) -> None:
        """Add the report of an optimizer step, its number of images and its duration."""
        self.add({"gradient": report.norm, "clip": report.bound, "skipped": float(report.skipped)})
        self._images, self._seconds = self._images + images, self._seconds + seconds

    def mean(self) -> tuple[dict[str, float], float]:
        """Mean of every value, and images per second."""
        means = {name: sum(float(value) for value in values) / len(values) for name, values in self._sums.items()}
        return means, self._images / max(self._seconds, 1e-9)
