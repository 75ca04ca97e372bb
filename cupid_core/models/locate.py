"""Finds the files of a checkpoint: inside the package, in a folder, or in the local cache of the Hugging Face hub.

No file is opened here except to hash it. The network is used only by `pull`, or where the caller allows it, the id
names a commit, and the files are not on this machine.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath

from cupid_core.errors import CheckpointError
from cupid_core.files import stays_inside
from cupid_core.hub import HubId

EMBEDDED = Path(__file__).resolve().parents[1] / "checkpoints"
PUBLISHED = "hbb1/Cupid"
LAYOUT = (
    "A checkpoint is a folder with pipeline.json and, for every network it names, NAME.json beside "
    "NAME.safetensors; or give the name of one inside the package, or a hub id such as 'hbb1/Cupid@<commit>'. "
    "docs/training.md says how to train one."
)
_PIPELINE = "pipeline.json"
_PATTERNS = ["*.json", "*.safetensors", "README.md", "LICENSE*"]


def embedded() -> dict[str, Path]:
    """Checkpoints that ship inside the package, by name."""
    return {path.parent.name: path.parent for path in sorted(EMBEDDED.glob(f"*/{_PIPELINE}"))}


def locate(source: str | Path, *, download: bool = True) -> Path:
    """Folder of a checkpoint.

    Args:
        source: name of an embedded checkpoint, a folder, or a hub id, "organization/name@<commit>"; without a
            commit only what is in the local cache is found.
        download: allow downloading what is not on this machine; files that are there are used without asking.

    Raises:
        CheckpointError: nothing of that name, no commit to download, or the hub cannot be reached.
    """
    name = str(source)
    if name in embedded():
        return embedded()[name]
    if Path(source).is_dir():
        return Path(source)
    hub_id = None if Path(source).exists() else HubId.parse(name)
    if hub_id is None or hub_id.path:
        inside = ", ".join(embedded()) or "none"
        raise CheckpointError(f"'{name}' is not a checkpoint (inside this package: {inside}).", hint=LAYOUT)
    cached = hub_id.cached(_PIPELINE)
    if cached is not None:
        return cached.parent
    if download:
        return pull(name)
    pinned = hub_id.commit or "<commit>"
    hint = f"`cupid checkpoint pull {hub_id.repository}@{pinned}` on a machine with network access. {LAYOUT}"
    raise CheckpointError(f"'{name}' is neither a folder nor in the local cache.", hint=hint)


def pull(hub_id: str) -> Path:
    """Download a checkpoint, or one network of it, from the hub into its local cache.

    Args:
        hub_id: "organization/name@<commit>", or "organization/name@<commit>/path" of one network without suffix.

    Returns:
        The folder of this commit in the cache.

    Raises:
        CheckpointError: not a hub id, no commit, unknown repository or commit, or the hub cannot be reached.
    """
    parsed = HubId.parse(hub_id)
    if parsed is None:
        raise CheckpointError(f"'{hub_id}' is not a hub id.", hint="Write it as organization/name@<commit>.")
    patterns = [f"{parsed.path}.json", f"{parsed.path}.safetensors"] if parsed.path else _PATTERNS
    return parsed.fetch(patterns)


def find_beside(folder: Path, relative: str, *, download: bool = False) -> Path:
    """A file that a checkpoint's json names.

    Args:
        folder: of the checkpoint.
        relative: path in that folder, or "organization/name@<commit>/path" in another hub repository; without a
            commit only the local cache is searched.
        download: allow downloading it from the other repository, at its commit.

    Raises:
        CheckpointError: it is in neither place, cannot be downloaded, or the path leaves the folder.
    """
    if not stays_inside(relative):
        raise CheckpointError(
            f"{folder} names the file '{relative}', which is outside of it.",
            hint="Paths in a checkpoint are relative to its folder and do not contain '..'.",
        )
    path = folder / relative
    if path.is_file():
        return path
    hub_id = HubId.parse(relative)
    if hub_id is None or not hub_id.path:
        raise CheckpointError(f"{path} is missing.", hint=LAYOUT)
    cached = hub_id.cached(hub_id.path)
    if cached is not None:
        return cached
    if download and hub_id.commit:
        return hub_id.file(hub_id.path)
    network = str(PurePosixPath(hub_id.path).with_suffix(""))
    wanted = HubId(hub_id.repository, hub_id.commit or "<commit>", network)
    raise CheckpointError(
        f"{relative} is neither in {folder} nor in the local cache.",
        hint=f"`cupid checkpoint pull {wanted}` fetches it, or copy it to {path}.",
    )


def sha256(path: Path) -> str:
    """Content hash of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def checkpoint_hash(source: str | Path) -> str:
    """One content hash for all json and safetensors files of a checkpoint, by their names in it.

    Raises:
        CheckpointError: it is not on this machine.
    """
    folder, digest = locate(source, download=False), hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".safetensors") and path.is_file():
            digest.update(f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n".encode())
    return digest.hexdigest()


def recorded_sha256(path: Path) -> str | None:
    """The content hash that was recorded for a file, if any.

    Recorded by a `SHA256SUMS` file in its folder or the one above, or by the hub's cache, which names the blob of
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
