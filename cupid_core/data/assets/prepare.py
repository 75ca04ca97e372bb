"""Prepares an asset data set from mesh files: many assets, several processes, one metadata.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cupid_core.config.assets import AssetPreparationConfig
from cupid_core.data.assets.mesh_file import MeshFileError, MeshSource, find_meshes, identify
from cupid_core.data.assets.prepare_asset import AssetReport, LatentRecipe, is_prepared, prepare_asset
from cupid_core.data.assets.record import PreparedAsset, read_records, write_whole
from cupid_core.data.assets.workers import Outcome, do_all
from cupid_core.errors import DatasetError

_METADATA = "metadata.csv"


@dataclass(frozen=True)
class AssetFailure:
    """A mesh that was left out.

    Attributes:
        source: its file.
        code: stable name of the reason.
        reason: readable text.
    """

    source: Path
    code: str
    reason: str


@dataclass(frozen=True)
class PreparationSummary:
    """Result of a preparation.

    Attributes:
        reports: of assets that are ready now, in the order in which they were finished.
        failures: meshes that were left out.
        replaced: assets that were removed because the content of their mesh file has changed.
        same: files with the same content as another one.
        stopped: whether it was interrupted; what is finished is kept.
        assets: in the data set now.
    """

    reports: tuple[AssetReport, ...]
    failures: tuple[AssetFailure, ...]
    replaced: tuple[str, ...]
    same: tuple[Path, ...]
    stopped: bool
    assets: int


Progress = Callable[[int, int, AssetReport | AssetFailure], None]


def prepare_assets(
    meshes: Sequence[Path],
    out: Path,
    config: AssetPreparationConfig,
    *,
    recipes: Sequence[LatentRecipe] = (),
    processes: int = 1,
    on_progress: Progress | None = None,
) -> PreparationSummary:
    """Prepare every mesh that is not ready, skip broken ones, write metadata.csv.

    An asset is named after the content of its mesh. A file whose content has changed replaces its former asset.
    Assets whose meshes are not given stay as they are, and so do rows and columns of metadata.csv from elsewhere.

    Args:
        meshes: files, or folders with files.
        out: folder of the data set; made where it is not there.
        config: how objects are prepared.
        recipes: of latents.
        processes: assets worked on at a time.
        on_progress: called with the number of finished meshes, the number of all, and the result of this one.

    Raises:
        DatasetError: nothing was given that could be a mesh.
        OutputError: the folder cannot be written.
    """
    sources, failures, same = _identified(find_meshes(meshes))
    replaced = _replace_changed(out, sources)
    # Checked here, so that processes are started only for assets that need work.
    ready = [source for source in sources if is_prepared(source, out, config, recipes)]
    reports = [prepare_asset(source, out, config, recipes) for source in ready]
    sources = [source for source in sources if source not in ready]
    total, stopped = len(sources) + len(reports) + len(failures), False
    work = partial(prepare_asset, out=out, config=config, recipes=tuple(recipes))

    def report_finished(news: AssetReport | AssetFailure) -> None:
        if on_progress is not None:
            on_progress(len(reports) + len(failures), total, news)

    for failure in failures:
        report_finished(failure)
    for report in reports:
        report_finished(report)
    try:
        outcome: Outcome[MeshSource, AssetReport]
        for outcome in do_all(work, sources, min(processes, len(sources))):
            if outcome.result is None:
                failures.append(AssetFailure(outcome.task.path, outcome.code, outcome.reason))
                report_finished(failures[-1])
            else:
                reports.append(outcome.result)
                report_finished(outcome.result)
    except KeyboardInterrupt:
        stopped = True
    count = write_metadata(out)
    return PreparationSummary(tuple(reports), tuple(failures), replaced, same, stopped, count)


def write_metadata(out: Path) -> int:
    """Update metadata.csv with the prepared assets.

    Returns:
        Number of its rows.

    Raises:
        DatasetError: the one that is there is no table.
        OutputError: it cannot be written.
    """
    rows = {row["sha256"]: row for row in _rows(out)}
    for name, record in read_records(out).items():
        found = record.columns()
        # Columns of removed parts must not stay "True".
        before = {key: value for key, value in rows.get(name, {}).items() if value != "True"}
        rows[name] = {**before, **found}
    return _write_rows(out, rows)


def _write_rows(out: Path, rows: dict[str, dict[str, str]]) -> int:
    first = ["sha256", "local_path", "aesthetic_score"]
    others = sorted({column for row in rows.values() for column in row} - set(first))
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, [*first, *others], restval="", lineterminator="\n")
    writer.writeheader()
    for name in sorted(rows):
        writer.writerow(rows[name])
    write_whole(out / _METADATA, stream.getvalue().encode())
    return len(rows)


def _rows(out: Path) -> list[dict[str, str]]:
    path = out / _METADATA
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{key: value or "" for key, value in row.items() if key} for row in csv.DictReader(file)]
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: {error}.", hint="Remove it; it is written again.") from error
    if any("sha256" not in row for row in rows):
        raise DatasetError(f"{path} has no column 'sha256'.", hint="Remove it; it is written again.")
    return rows


def _identified(paths: Sequence[Path]) -> tuple[list[MeshSource], list[AssetFailure], tuple[Path, ...]]:
    """Meshes of different content, files that cannot be read, and files whose content is among the first."""
    sources: dict[str, MeshSource] = {}
    failures, same = [], []
    for path in paths:
        try:
            source = identify(path)
        except MeshFileError as error:
            failures.append(AssetFailure(path, error.code, str(error)))
            continue
        if sources.setdefault(source.sha256, source) is not source:
            same.append(path)
    return list(sources.values()), failures, tuple(same)


def _replace_changed(out: Path, sources: Sequence[MeshSource]) -> tuple[str, ...]:
    """Remove assets whose file has changed; names of the removed ones."""
    names = {source.sha256 for source in sources}
    paths = {str(source.path) for source in sources}
    old: list[PreparedAsset] = [
        record for name, record in read_records(out).items() if record.source in paths and name not in names
    ]
    if not old:
        return ()
    gone = {record.sha256 for record in old}
    _write_rows(out, {row["sha256"]: row for row in _rows(out) if row["sha256"] not in gone})
    for record in old:
        record.remove(out)
    return tuple(sorted(gone))
