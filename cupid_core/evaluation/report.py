"""Summaries of benchmark records, as tables and as JSON.

`ROWS` defines which figures there are, how they are summarized, and their names.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from cupid_core.evaluation.records import CaseRecord
from cupid_core.files import write_text

SPLIT_TITLES = {
    "train": "unseen objects, trained families",
    "held_out": "held-out families",
    "scene": "objects of whole scenes",
}


# The 95 % bound of a squared error with six degrees of freedom.
POSE_BOUND = 12.592


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: in JSON.
        title: in the table, with the unit.
        figure: of the records.
        sum_up: reduces values (never empty) to one number.
        digits: after the decimal point.
    """

    name: str
    title: str
    figure: str
    sum_up: Callable[[Sequence[float]], float]
    digits: int = 2


def within(limit: float) -> Callable[[Sequence[float]], float]:
    """Share of values up to a limit, percent."""
    return lambda values: 100 * sum(value <= limit for value in values) / len(values)


def at_least(limit: float) -> Callable[[Sequence[float]], float]:
    """Share of values from a limit on, percent."""
    return lambda values: 100 * sum(value >= limit for value in values) / len(values)


def _mean_percent(values: Sequence[float]) -> float:
    return 100 * statistics.fmean(values)


def _rotation(prefix: str, title: str, figure: str) -> tuple[Row, ...]:
    shares = tuple(
        Row(f"{prefix}_within_{limit}", f"{title}, within {limit} deg, %", figure, within(limit), 1)
        for limit in (5, 15, 30)
    )
    return (Row(f"{prefix}_median_deg", f"{title}, median, deg", figure, statistics.median, 1), *shares)


def _pictures(suffix: str, title: str) -> tuple[Row, ...]:
    return (
        Row(f"psnr{suffix}_db", f"PSNR, {title}, dB", f"psnr{suffix}", statistics.fmean),
        Row(f"psnr_inside{suffix}_db", f"PSNR inside, {title}, dB", f"psnr_inside{suffix}", statistics.fmean),
    )


def _hypotheses(figure: str, title: str, sum_up: Callable[[Sequence[float]], float]) -> tuple[Row, ...]:
    names = ("picked", "mean", "best")
    return tuple(
        Row(f"{name}_{figure}", f"{name} hypothesis: {title}", f"{name}_{figure}", sum_up) for name in names
    )


ROWS: tuple[Row, ...] = (
    Row("iou", "silhouette IoU, mean", "iou", statistics.fmean, 3),
    Row("iou_stated", "silhouette IoU the result states, mean", "iou_stated", statistics.fmean, 3),
    Row("random_iou", "  random view: silhouette IoU, mean", "random_iou", statistics.fmean, 3),
    Row("uv_px", "UV error, median of medians, px of 128", "uv_px", statistics.median),
    *_rotation("rotation", "rotation, K known", "rotation_deg"),
    *_rotation("rotation_free", "rotation, K unknown", "rotation_free_deg"),
    *_rotation("random_rotation", "  random view: rotation", "random_rotation_deg"),
    Row("occupancy_iou", "occupancy IoU, mean", "occupancy_iou", statistics.fmean, 3),
    Row("occupancy_f1", "occupancy F1 at one voxel, mean", "occupancy_f1", statistics.fmean, 3),
    *_pictures("", "whole pipeline"),
    *_pictures("_without", "same, without pose-aligned conditioning"),
    *_pictures("_true", "true structure and pose"),
    *_pictures("_true_without", "same, without pose-aligned conditioning"),
    Row("chamfer_percent", "Chamfer, canonical, % of the cube", "chamfer", _mean_percent),
    Row("fscore", "F-score at 1/32, canonical, mean", "fscore", statistics.fmean, 3),
    Row("placed_iou", "placed: silhouette IoU, mean", "placed_iou", statistics.fmean, 3),
    Row("placed_iou_90", "placed: silhouette IoU of at least .90, %", "placed_iou", at_least(0.9), 1),
    Row("placed_chamfer", "placed: Chamfer, whole, % of longest side", "placed_chamfer_percent", statistics.fmean),
    Row("placed_fscore", "placed: F-score at 1/32, whole, mean", "placed_fscore", statistics.fmean, 3),
    Row("hidden_recall", "placed: hidden surface met within 1/32, mean", "hidden_recall", statistics.fmean, 3),
    Row("placed_depth", "placed: depth, median, % of the longest side", "placed_depth_percent", statistics.median),
    Row("translation_median_mm", "with depth: translation, median, mm", "translation_mm", statistics.median, 1),
    Row("scale_median_percent", "with depth: scale, median, %", "scale_percent", statistics.median, 1),
    Row("metric_rotation_deg", "with depth: rotation, median, deg", "metric_rotation_deg", statistics.median, 1),
    Row("chamfer_visible_mm", "with depth: Chamfer, visible, mm", "chamfer_visible_mm", statistics.median, 1),
    Row("fscore_visible", "with depth: F-score at 10 mm, visible, mean", "fscore_visible", statistics.fmean, 3),
    Row("chamfer_whole_mm", "with depth: Chamfer, whole, mm", "chamfer_whole_mm", statistics.median, 1),
    Row("fscore_whole", "with depth: F-score at 10 mm, whole, mean", "fscore_whole", statistics.fmean, 3),
    *_hypotheses("rotation_deg", "rotation, median, deg", statistics.median),
    *_hypotheses("chamfer", "Chamfer, % of the cube", _mean_percent),
    Row("nees_median", "stated covariance: squared error of the pose, median (6)", "nees", statistics.median, 1),
    Row("nees_inside", "stated covariance: pose inside the 95 % bound, %", "nees", within(POSE_BOUND), 1),
    Row("scale_inside", "stated scale: within one deviation, %", "scale_deviations", within(1.0), 1),
    Row("right", "right: 15 deg and 10 mm, %", "right", _mean_percent, 1),
    Row("called_good", "called good, %", "called_good", _mean_percent, 1),
    Row("called_failed", "called failed, %", "called_failed", _mean_percent, 1),
    Row("right_if_good", "right, of those called good, %", "right_if_good", _mean_percent, 1),
    Row("good_if_right", "called good, of those that are right, %", "good_if_right", _mean_percent, 1),
)  # fmt: skip
# What a calibration is judged by, by name of the row.
CERTAINTY_ROWS = (
    "nees_median",
    "nees_inside",
    "scale_inside",
    "right",
    "called_good",
    "right_if_good",
    "good_if_right",
)

# Columns of the table of families, by name of their row.
FAMILY_ROWS = ("iou", "rotation_median_deg", "uv_px", "occupancy_f1", "psnr_db", "fscore")


@dataclass(frozen=True)
class Summary:
    """Summary of some records.

    Attributes:
        count: records.
        failed: records without a result; figures count them as the worst (`measure.FAILURE_FIGURES`) or ignore
            them.
        values: by name of the row; rows that no record has a figure for are absent.
        counted: number of records behind each value.
    """

    count: int
    failed: int
    values: Mapping[str, float]
    counted: Mapping[str, int]


def summarize(records: Sequence[CaseRecord]) -> Summary:
    """Every row of the table from some records."""
    values: dict[str, float] = {}
    counted: dict[str, int] = {}
    for row in ROWS:
        found = [record.figures.get(row.figure, math.nan) for record in records]
        found = [value for value in found if not math.isnan(value)]
        if found:
            values[row.name], counted[row.name] = float(row.sum_up(found)), len(found)
    return Summary(len(records), sum(bool(record.failure) for record in records), values, counted)


def by_split(records: Sequence[CaseRecord]) -> dict[str, Summary]:
    """Summaries of trained families, held-out ones and scenes, in this order."""
    grouped = {split: [record for record in records if record.split == split] for split in SPLIT_TITLES}
    return {split: summarize(some) for split, some in grouped.items() if some}


def by_family(records: Sequence[CaseRecord]) -> dict[str, Summary]:
    """Summaries of the families of single objects, worst silhouette IoU first."""
    grouped: dict[str, list[CaseRecord]] = {}
    for record in records:
        if record.split != "scene":
            grouped.setdefault(record.family, []).append(record)
    summaries = {family: summarize(some) for family, some in grouped.items()}
    return dict(sorted(summaries.items(), key=lambda item: (item[1].values.get("iou", 0.0), item[0])))


def mean_timings(records: Sequence[CaseRecord]) -> dict[str, float]:
    """Mean seconds of each stage for an object and all its hypotheses, over the objects that have a result."""
    names = dict.fromkeys(name for record in records for name in record.timings_s)
    timed = [record.timings_s for record in records if record.timings_s]
    return {name: statistics.fmean(timings.get(name, 0.0) for timings in timed) for name in names}


def tables(records: Sequence[CaseRecord], *, families: bool = True) -> Iterable[Table]:
    """The tables of figures, times and families."""
    splits = by_split(records)
    if not splits:
        return
    table = Table("figure", *(SPLIT_TITLES[split] for split in splits), title="Tabletop benchmark")
    table.add_row("objects (without a result)", *(f"{s.count} ({s.failed})" for s in splits.values()))
    for row in ROWS:
        cells = [_cell(summary, row) for summary in splits.values()]
        if any(cells):
            table.add_row(row.title, *cells)
    yield table
    timings = mean_timings([record for record in records if record.split != "scene"])
    if timings:
        table = Table(*timings, "all", title="Seconds per object, all its hypotheses together")
        table.add_row(*(f"{value:.2f}" for value in timings.values()), f"{sum(timings.values()):.2f}")
        yield table
    if families and (found := by_family(records)):
        chosen = [row for row in ROWS if row.name in FAMILY_ROWS]
        table = Table("family", "objects", *(row.title for row in chosen), title="Families, worst first")
        for family, summary in found.items():
            table.add_row(family, str(summary.count), *(_cell(summary, row) for row in chosen))
        yield table


def _cell(summary: Summary, row: Row) -> str:
    if row.name not in summary.values:
        return ""
    text = f"{summary.values[row.name]:.{row.digits}f}"
    missing = summary.count - summary.counted[row.name]
    return f"{text} (n {summary.counted[row.name]})" if missing else text


def to_json(records: Sequence[CaseRecord], facts: Mapping[str, Any]) -> str:
    """All figures as JSON; absent and undefined ones are left out.

    Args:
        records: of a benchmark.
        facts: what was measured: checkpoint, options, versions; plain values.
    """
    summaries = {
        "splits": {split: _plain(summary) for split, summary in by_split(records).items()},
        "families": {family: _plain(summary) for family, summary in by_family(records).items()},
        "timings_s": mean_timings([record for record in records if record.split != "scene"]),
    }
    objects = [record.to_plain() for record in records]
    return json.dumps({**facts, **summaries, "objects": objects}, indent=1, allow_nan=False) + "\n"


def write_json(records: Sequence[CaseRecord], facts: Mapping[str, Any], path: Path) -> None:
    """Write `to_json` to a file atomically.

    Raises:
        OutputError: it cannot be written.
    """
    write_text(path, to_json(records, facts))


def _plain(summary: Summary) -> dict[str, Any]:
    return {
        "count": summary.count,
        "failed": summary.failed,
        "values": dict(summary.values),
        "counted": dict(summary.counted),
    }


def certainty_table(measured: Mapping[str, Sequence[CaseRecord]], title: str) -> Table:
    """How true stated certainty is, one line per group of records."""
    rows = [row for row in ROWS if row.name in CERTAINTY_ROWS]
    table = Table("", "objects", *(row.title for row in rows), title=title)
    for name, some in measured.items():
        summary = summarize(some)
        table.add_row(name, str(summary.count), *(_cell(summary, row) for row in rows))
    return table
