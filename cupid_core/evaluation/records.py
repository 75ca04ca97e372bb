"""The figures of single objects, and the journal that keeps them on disk while a benchmark runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_core.errors import InputError
from cupid_core.files import write_text

Picture = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class CaseRecord:
    """One object.

    Attributes:
        split: "train" (unseen objects of trained families), "held_out" (families no training saw) or "scene"
            (objects of whole scenes).
        index: number of the object, or of the scene.
        family: name.
        figures: by name; a figure that does not exist for the object is absent or NaN.
        failure: code of the error that left nothing to measure; empty where there is a result.
        occluded: something hides a part of the object.
        truncated: the border of the image cuts it.
        timings_s: seconds of each stage for this object and all its hypotheses.
        pictures: for the contact sheet, left to right; empty where not asked for.
    """

    split: str
    index: int
    family: str
    figures: Mapping[str, float]
    failure: str = ""
    occluded: bool = False
    truncated: bool = False
    timings_s: Mapping[str, float] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON can hold; figures that are not finite and pictures are left out."""
        return {
            "split": self.split,
            "index": self.index,
            "family": self.family,
            "failure": self.failure,
            "occluded": self.occluded,
            "truncated": self.truncated,
            "figures": {name: value for name, value in self.figures.items() if math.isfinite(value)},
            "timings_s": dict(self.timings_s),
        }


class RecordJournal:
    """A file of JSON lines: what is measured, then one line per object, written as soon as it is measured.

    A benchmark that was stopped continues from it: `finished` holds what earlier runs have measured. A last line
    that was cut off when the process ended is dropped.

    Args:
        path: the file; it is made where it does not exist.
        header: what determines the figures (weights, settings, seed), plain JSON values. Records under another
            header are not comparable.

    Raises:
        InputError: the file is a journal under another header, no journal at all, or cannot be read or written.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.finished: dict[tuple[str, int], list[CaseRecord]] = {}
        try:
            lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
            if lines:
                self._check(lines[0], header)
                for line in lines[1:]:
                    record = CaseRecord(**json.loads(line))
                    self.finished.setdefault((record.split, record.index), []).append(record)
            # Rewritten whole, so that what follows does not continue a line that was cut off.
            whole = [*lines, *([] if lines else [json.dumps(header)])]
            write_text(path, "".join(f"{line}\n" for line in whole))
        except OSError as error:
            raise InputError(
                f"{path} cannot be used: {error.strerror}.", hint="Choose a writable folder."
            ) from error
        except (ValueError, TypeError) as error:
            raise InputError(f"{path} is no journal of a benchmark: {error}.", hint=_HINT) from error

    def append(self, records: Sequence[CaseRecord]) -> None:
        """Add the records of one object or scene.

        Raises:
            InputError: the file cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write("".join(f"{json.dumps(record.to_plain())}\n" for record in records))
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be written: {error.strerror}.", hint="Free some space."
            ) from error

    def remove(self) -> None:
        """Delete the file; for a benchmark that is complete and whose figures are kept elsewhere."""
        self.path.unlink(missing_ok=True)

    def _check(self, line: str, header: Mapping[str, Any]) -> None:
        found = json.loads(line)
        wanted = json.loads(json.dumps(header))
        if found == wanted:
            return
        names = sorted({*found, *wanted}) if isinstance(found, dict) else ["everything"]
        different = [name for name in names if not isinstance(found, dict) or found.get(name) != wanted.get(name)]
        raise InputError(f"{self.path} holds other measurements: {', '.join(different)} differ.", hint=_HINT)


_HINT = "Delete the file to start anew, or write to another one."
