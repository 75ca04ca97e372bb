"""Results of the pose benchmark, as values and as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pose_methods import FAILURE_DEG, METHODS, Run
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Cell:
    """One method in one cell of the grid, over focal lengths and seeds.

    Attributes:
        method: name.
        thickness: of the box.
        noise: of uv.
        outliers: share.
        count: pairs.
        runs: number of problems.
        rotation_deg: median.
        translation_percent: median, of the distance.
        focal_percent: median.
        rms_px: median reported misfit.
        milliseconds: median.
        failures: runs more than 5 degrees off, or without a result.
    """

    method: str
    thickness: float
    noise: float
    outliers: float
    count: int
    runs: int
    rotation_deg: float
    translation_percent: float
    focal_percent: float
    rms_px: float
    milliseconds: float
    failures: int


@dataclass(frozen=True)
class Bar:
    """One acceptance criterion: the limit and the measured value."""

    name: str
    measured: str
    limit: str
    holds: bool


@dataclass
class Report:
    """All results of one run of the benchmark."""

    settings: dict[str, Any]
    cells: list[Cell] = field(default_factory=list)
    honesty: dict[str, float] = field(default_factory=dict)
    truncated: list[dict[str, float]] = field(default_factory=list)
    off_center: list[dict[str, float]] = field(default_factory=list)
    timing_ms: dict[str, float] = field(default_factory=dict)
    bars: list[Bar] = field(default_factory=list)

    def value(self, method: str, **place: float) -> Cell:
        """The cell of a method at thickness, noise, outliers and count."""
        for one in self.cells:
            if one.method == method and all(getattr(one, key) == wanted for key, wanted in place.items()):
                return one
        raise KeyError(f"{method} {place}")

    def has(self, method: str, **place: float) -> bool:
        """Whether the cell was measured."""
        return any(c.method == method and all(getattr(c, k) == v for k, v in place.items()) for c in self.cells)


def summarize(method: str, place: dict[str, float], runs: Sequence[Run]) -> Cell:
    """Medians of the runs of one method in one cell."""

    def median(values: Iterable[float]) -> float:
        return float(np.median(np.array(list(values))))

    return Cell(
        method=method,
        thickness=place["thickness"],
        noise=place["noise"],
        outliers=place["outliers"],
        count=int(place["count"]),
        runs=len(runs),
        rotation_deg=median(run.rotation_deg for run in runs),
        translation_percent=100.0 * median(run.translation for run in runs),
        focal_percent=100.0 * median(run.focal for run in runs),
        rms_px=median(run.rms_px for run in runs),
        milliseconds=1e3 * median(run.seconds for run in runs),
        failures=sum(not run.rotation_deg <= FAILURE_DEG for run in runs),
    )


def print_accuracy(console: Console, report: Report) -> None:
    """One table per number of pairs, noise and outliers: methods down, thickness across."""
    groups = sorted({(c.count, c.noise, c.outliers) for c in report.cells})
    thicknesses = sorted({c.thickness for c in report.cells}, reverse=True)
    for count, noise, outliers in groups:
        table = Table(
            title=f"N = {count}, uv noise {100 * noise:g} %, outliers {100 * outliers:g} %",
            caption="rotation deg, translation %, focal % (failures/runs, if any): medians over focals and seeds",
        )
        table.add_column("method")
        for thickness in thicknesses:
            table.add_column(f"thickness {thickness:g}" if thickness else "flat", justify="right")
        table.add_column("ms", justify="right")
        for method in METHODS:
            found = [
                c
                for c in report.cells
                if (c.method, c.count, c.noise, c.outliers) == (method, count, noise, outliers)
            ]
            if found:
                by_thickness = {c.thickness: c for c in found}
                cells = [_text(by_thickness[t]) if t in by_thickness else "" for t in thicknesses]
                table.add_row(method, *cells, f"{np.median([c.milliseconds for c in found]):.2f}")
        console.print(table)


def print_others(console: Console, report: Report) -> None:
    """Honesty of the covariance, truncated objects, off-center cameras, timing."""
    honesty = Table(title="normalized squared error / 6 over clean runs (1 is honest)")
    honesty.add_column("setting")
    honesty.add_column("mean", justify="right")
    for name, value in report.honesty.items():
        honesty.add_row(name, f"{value:.2f}")
    console.print(honesty)
    for title, rows in (
        ("a third of the object beyond the crop, uv clamped, N = 3000: median rotation deg", report.truncated),
        ("true principal point 1 % of the image off center, K unknown, N = 3000", report.off_center),
    ):
        table = Table(title=title)
        for name in rows[0] if rows else ():
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*[f"{value:.3g}" for value in row.values()])
        console.print(table)
    timing = Table(title="N = 20000, thickness 1, 0.3 % noise, one core, interleaved: median ms per object")
    timing.add_column("method")
    timing.add_column("ms", justify="right")
    for name, milliseconds in report.timing_ms.items():
        timing.add_row(name, f"{milliseconds:.3f}")
    console.print(timing)


def print_bars(console: Console, report: Report) -> None:
    """Which acceptance bars hold."""
    table = Table(title="acceptance bars (medians at N = 3000 unless said)")
    for name in ("bar", "measured", "limit", "holds"):
        table.add_column(name)
    for bar in report.bars:
        table.add_row(bar.name, bar.measured, bar.limit, "yes" if bar.holds else "[bold red]NO[/]")
    console.print(table)


def _text(c: Cell) -> str:
    def number(value: float) -> str:
        return f"{value:.2g}" if value < 100 else (f"{value:.0f}" if value < 1e3 else "-")

    focal = number(c.focal_percent) if c.focal_percent > 1e-3 else "0"
    failures = f" ({c.failures}/{c.runs})" if c.failures else ""
    return f"{number(c.rotation_deg)} {number(c.translation_percent)} {focal}{failures}"
