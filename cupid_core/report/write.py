"""The output folder: checked before the work, filled in one go, never half-written.

Everything is first written into a hidden folder on the same disk. Where the output folder does not exist yet, that
folder is then renamed to it. Where it exists, `objects.json` of the earlier run goes first, the new files replace
the old ones one by one, each by a rename, files of the earlier run that have no successor go, and `objects.json`
comes last. So a file under its final name is always complete, and an `objects.json` that is there names files of
one and the same run. Other files in the folder are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cupid_core.errors import OutputError
from cupid_core.files import output_error, staging_folder, stays_inside

INDEX = "objects.json"


def check_output(folder: Path) -> None:
    """Make sure, before any work, that results can be written; leaves nothing behind.

    Args:
        folder: where the results are to go; it need not exist yet, nor its parents.

    Raises:
        OutputError: it is a file, or neither it nor its nearest existing parent can be written to.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, not a folder.", hint="Choose another name for --out.")
    with staging_folder(folder):
        pass


@contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """A folder to write the results into; on leaving without an error they appear in `folder`.

    The caller writes into the folder that is handed out, among the rest `objects.json`. An error inside leaves
    `folder` as it was. A process that is killed inside leaves a hidden folder `.cupid-*` beside or in it.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.
    """
    with staging_folder(folder) as staging:
        try:
            yield staging
            if folder.exists():
                _replace_files(staging, folder)
            else:
                folder.parent.mkdir(parents=True, exist_ok=True)
                staging.rename(folder)
        except OSError as error:
            raise output_error(folder, error) from error


def _replace_files(staging: Path, folder: Path) -> None:
    """Move every file of `staging` into `folder`, whose earlier results are removed; the index is last."""
    outdated = _named_files(folder / INDEX)
    made = {path.relative_to(staging).as_posix() for path in staging.rglob("*") if path.is_file()}
    (folder / INDEX).unlink(missing_ok=True)
    for name in sorted(made - {INDEX}):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).replace(folder / name)
    for name in outdated - made:
        (folder / name).unlink(missing_ok=True)
    if INDEX in made:
        (staging / INDEX).replace(folder / INDEX)


def _named_files(index: Path) -> set[str]:
    """Files inside its folder that an earlier `objects.json` names; empty where there is none."""
    try:
        record = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    if not isinstance(record, dict) or record.get("schema") != "cupid.objects":
        return set()
    holders: list[Any] = [record, *_list(record.get("objects"))]
    files = [holder.get("files") for holder in holders if isinstance(holder, dict)]
    names = [name for entry in files if isinstance(entry, Mapping) for name in entry.values()]
    return {name for name in names if isinstance(name, str) and stays_inside(name)}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
