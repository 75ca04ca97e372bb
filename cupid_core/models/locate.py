"""Finds checkpoint files: inside the package, in a folder, or in the Hugging Face hub's cache. Opens none of them.

The internet is used only by `pull`, or where the caller allows it and the files are not on this machine.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from cupid_core.errors import CheckpointError

EMBEDDED = Path(__file__).resolve().parents[1] / "checkpoints"
PUBLISHED = "hbb1/Cupid"
LAYOUT = (
    "A checkpoint is a folder with pipeline.json and, for every network it names, NAME.json beside "
    "NAME.safetensors; or give the name of one inside the package, or a hub id such as 'hbb1/Cupid' or "
    "'hbb1/Cupid@<commit>'. docs/training.md says how to train one."
)
_HUB_ID = re.compile(r"^(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?$")
_PATTERNS = ["*.json", "*.safetensors", "README.md", "LICENSE*"]


def embedded() -> dict[str, Path]:
    """Checkpoints that ship inside the package, by name."""
    return {path.parent.name: path.parent for path in sorted(EMBEDDED.glob("*/pipeline.json"))}


def locate(source: str | Path, *, download: bool = True) -> Path:
    """Folder of a checkpoint.

    Args:
        source: name of an embedded checkpoint, a folder, or a hub id with an optional "@revision" (a commit pins
            the content).
        download: allow a download from the hub when the files are not on this machine.

    Raises:
        CheckpointError: nothing of that name, or the hub cannot be reached.
    """
    name = str(source)
    if name in embedded():
        return embedded()[name]
    if Path(source).is_dir():
        return Path(source)
    match = _HUB_ID.match(name)
    if match is None or Path(source).exists():
        inside = ", ".join(embedded()) or "none"
        raise CheckpointError(f"'{name}' is no checkpoint (inside this package: {inside}).", hint=LAYOUT)
    try:
        return Path(_snapshot(match, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        if download:
            return pull(name)
        hint = f"`cupid checkpoint pull {name}` on a machine with network access. {LAYOUT}"
        raise CheckpointError(f"'{name}' is neither a folder nor in the local cache.", hint=hint) from error


def pull(hub_id: str) -> Path:
    """Fetch a checkpoint from the hub into its local cache; files that are there already are not fetched again.

    Args:
        hub_id: "organization/name" or "organization/name@revision".

    Raises:
        CheckpointError: not a hub id, unknown repository or revision, or the hub cannot be reached.
    """
    match = _HUB_ID.match(hub_id)
    if match is None:
        raise CheckpointError(f"'{hub_id}' is not a hub id.", hint="Write it as organization/name@commit.")
    try:
        return Path(_snapshot(match, local_files_only=False))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"'{hub_id}' could not be fetched: {first_line}",
            hint=f"Check the name, the revision and the network connection. {LAYOUT}",
        ) from error


def find_beside(folder: Path, relative: str, *, download: bool = False) -> Path:
    """A file of a checkpoint: relative to its folder, or "organization/name/path" in another hub repository.

    Raises:
        CheckpointError: it is in neither place.
    """
    path = folder / relative
    if path.is_file():
        return path
    parts = relative.split("/", 2)
    if len(parts) == 3:
        try:
            return Path(hf_hub_download("/".join(parts[:2]), parts[2], local_files_only=not download))
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            where = "/".join(parts[:2])
            raise CheckpointError(
                f"{relative} is neither in {folder} nor in the local cache.",
                hint=f"`cupid checkpoint pull {where}` fetches it, or copy it to {path}.",
            ) from error
    raise CheckpointError(f"{path} is missing.", hint=LAYOUT)


def sha256(path: Path) -> str:
    """Content hash of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def recorded_sha256(path: Path) -> str | None:
    """The content hash that was promised for a file, if any.

    Promised by a `SHA256SUMS` file in its folder or the one above, or by the hub's cache, which names the blob of
    a large file after its content hash.
    """
    for folder in (path.parent, path.parent.parent):
        sums = folder / "SHA256SUMS"
        if sums.is_file():
            for line in sums.read_text(encoding="utf-8").splitlines():
                digest, _, name = line.partition("  ")
                if (folder / name.strip()) == path:
                    return digest
    blob = path.resolve().name
    return blob if path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", blob) else None


def _snapshot(match: re.Match[str], *, local_files_only: bool) -> str:
    return str(
        snapshot_download(
            match["repository"],
            revision=match["revision"],
            allow_patterns=_PATTERNS,
            local_files_only=local_files_only,
        )
    )
