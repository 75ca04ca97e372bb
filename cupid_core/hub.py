"""Files of Hugging Face hub repositories, at a pinned commit, in the hub's own cache on this machine.

The content of a repository can change under its name at any time. So nothing is downloaded without the full commit
hash, "organization/name@<commit>"; a name without a commit only finds what is in the cache already.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cupid_core.errors import CheckpointError

_HUB_ID = re.compile(
    r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w.-]+))?(?P<path>(/\w[\w.-]*)+)?", re.ASCII
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubId:
    """A repository of the hub, or a file in it: "organization/name", "organization/name@<commit>/folder/file".

    Attributes:
        repository: "organization/name".
        commit: full hash (40 hexadecimal digits); empty where none was given.
        path: of the file in the repository; empty for the repository itself.
    """

    repository: str
    commit: str = ""
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> HubId | None:
        """Read an id; None where the text cannot be one.

        Raises:
            CheckpointError: a revision that is not a full commit hash.
        """
        match = _HUB_ID.fullmatch(text)
        if match is None or ".." in text:
            return None
        commit = match["revision"] or ""
        if commit and not _COMMIT.fullmatch(commit):
            raise CheckpointError(
                f"'{commit}' in '{text}' is not a full commit hash.", hint=_commit_hint(match["repository"])
            )
        return cls(match["repository"], commit, (match["path"] or "").lstrip("/"))

    def __str__(self) -> str:
        pin = f"@{self.commit}" if self.commit else ""
        return f"{self.repository}{pin}" + (f"/{self.path}" if self.path else "")

    def cached(self, file: str) -> Path | None:
        """A file of the repository in the local cache; None where it is not. Uses no network.

        Args:
            file: its path in the repository.

        Raises:
            CheckpointError: no commit is given and the cache has the file at several.
        """
        from huggingface_hub import constants

        snapshots = Path(constants.HF_HUB_CACHE) / f"models--{self.repository.replace('/', '--')}" / "snapshots"
        found = sorted(snapshots.glob(f"{self.commit or '*'}/{file}"))
        if len(found) > 1:
            commits = ", ".join(path.relative_to(snapshots).parts[0] for path in found)
            raise CheckpointError(
                f"{self.repository} is in the local cache at several commits: {commits}.",
                hint=f"Say which: {self.repository}@<commit>.",
            )
        return found[0] if found else None

    def file(self, name: str) -> Path:
        """A file of the repository, downloaded where it is not cached; errors as `cached` and `fetch`."""
        return self.cached(name) or self.fetch([name]) / name

    def fetch(self, patterns: list[str]) -> Path:
        """Download the files that match into the local cache; those that are there already are not fetched again.

        Returns:
            The folder of this commit.

        Raises:
            CheckpointError: no commit is given, unknown repository or commit, or the hub cannot be reached.
        """
        if not self.commit:
            raise CheckpointError(
                f"'{self}' names no commit, so what it contains may change.", hint=_commit_hint(self.repository)
            )
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        try:
            return Path(snapshot_download(self.repository, revision=self.commit, allow_patterns=patterns))
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"'{self}' could not be fetched: {first_line}",
                hint="Check the name, the commit and the network connection.",
            ) from error


def _commit_hint(repository: str) -> str:
    return (
        f"Write {repository}@<commit> with the 40 digits of a commit; "
        f"https://huggingface.co/{repository}/commits/main lists them."
    )
