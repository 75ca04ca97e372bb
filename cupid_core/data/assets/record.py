"""Records of the finished parts of an asset, with digests of their inputs and checksums of their files.

One json file per asset in `prepared/`. A later run skips the parts whose digest is the same.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cupid_core.files import write_bytes

FOLDER = "prepared"


@dataclass(frozen=True)
class PartRecord:
    """One finished part of an asset.

    Attributes:
        digest: of everything that the part depends on.
        columns: of metadata.csv that are "True" where this part exists.
        files: checksum of each of its files, by path relative to the data set.
        facts: further columns of metadata.csv.
        made_of: digests of the other parts it was made of, by their names.
    """

    digest: str
    columns: tuple[str, ...]
    files: Mapping[str, int]
    facts: Mapping[str, str] = field(default_factory=dict)
    made_of: Mapping[str, str] = field(default_factory=dict)

    def is_whole(self, root: Path) -> bool:
        """Whether all its files are unchanged."""
        return all(checksum(root / name) == expected for name, expected in self.files.items())


@dataclass(frozen=True)
class PreparedAsset:
    """All finished parts of an asset.

    Attributes:
        sha256: its name.
        source: the mesh file it was made from.
        parts: by name.
    """

    sha256: str
    source: str
    parts: Mapping[str, PartRecord] = field(default_factory=dict)

    def with_part(self, name: str, part: PartRecord) -> PreparedAsset:
        """A copy with a part added or replaced."""
        return replace(self, parts={**self.parts, name: part})

    def without(self, name: str) -> PreparedAsset:
        """A copy without a part."""
        return replace(self, parts={key: part for key, part in self.parts.items() if key != name})

    def columns(self) -> dict[str, str]:
        """Its row of metadata.csv."""
        row = {"sha256": self.sha256, "local_path": self.source}
        for part in self.parts.values():
            row |= dict.fromkeys(part.columns, "True") | dict(part.facts)
        return row

    def write(self, root: Path) -> None:
        """Write the record.

        Raises:
            OutputError: they cannot be written.
        """
        text = json.dumps(asdict(self), indent=1)
        write_bytes(root / FOLDER / f"{self.sha256}.json", text.encode())

    def remove(self, root: Path) -> None:
        """Delete the files and the record."""
        for part in self.parts.values():
            remove_files(root, part)
        (root / FOLDER / f"{self.sha256}.json").unlink(missing_ok=True)


def read_record(root: Path, sha256: str) -> PreparedAsset | None:
    """The record of an asset; None where it is missing or unreadable, so that everything is made again."""
    try:
        return _parsed(json.loads((root / FOLDER / f"{sha256}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def read_records(root: Path) -> dict[str, PreparedAsset]:
    """The records of all assets of a data set, by name."""
    names = sorted(path.stem for path in (root / FOLDER).glob("*.json"))
    found = {name: read_record(root, name) for name in names}
    return {name: record for name, record in found.items() if record is not None}


def remove_files(root: Path, part: PartRecord) -> None:
    """Delete the files of a part, and folders that became empty."""
    folders = set()
    for name in part.files:
        (root / name).unlink(missing_ok=True)
        folders.add((root / name).parent)
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def write_whole(path: Path, content: bytes) -> int:
    """Write a file atomically, and its folder where that is missing.

    Returns:
        Checksum (CRC-32) of the content.

    Raises:
        OutputError: it cannot be written.
    """
    write_bytes(path, content)
    return zlib.crc32(content)


def checksum(path: Path) -> int | None:
    """CRC-32 of a file; None where it cannot be read."""
    try:
        return zlib.crc32(path.read_bytes())
    except OSError:
        return None


def digest_of(*parts: Any) -> str:
    """A short name for plain values that differs where they differ."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _parsed(values: Any) -> PreparedAsset:
    parts = {
        name: PartRecord(
            str(part["digest"]),
            tuple(part["columns"]),
            {str(file): int(number) for file, number in part["files"].items()},
            *({str(key): str(value) for key, value in part[table].items()} for table in ("facts", "made_of")),
        )
        for name, part in values["parts"].items()
    }
    return PreparedAsset(str(values["sha256"]), str(values["source"]), parts)
