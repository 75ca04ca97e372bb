"""Samples cached on disk in shards, made in the background, each the same whenever it is made.

Knows recipes and files, not what is in a shard. A shard is one safetensors file with a checksum; it is mapped, not
read, so that a batch may take single rows of many shards. A damaged shard is reported and skipped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import signal
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cupid_core.errors import DatasetError, TrainingError
from cupid_core.files import atomic_write, write_text

_log = logging.getLogger(__name__)
_POLL_S = 0.1
_CHECKSUM = "crc32"


class ShardRecipe(Protocol):
    """How a shard is made; must be picklable, and say all it depends on in `describe`."""

    @property
    def name(self) -> str:
        """Folder name, for people."""
        ...

    def describe(self) -> str:
        """Text that differs where shards differ; its hash is part of the folder's name."""
        ...

    def make(self, index: int) -> dict[str, Tensor]:
        """The tensors of a shard, on the CPU; a function of the index alone."""
        ...


def write_shard(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a shard atomically.

    Raises:
        OutputError: it cannot be written.
    """
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_write(path, also=(SafetensorError,)) as temporary:
        save_file(plain, temporary, metadata={_CHECKSUM: json.dumps(_checksums(plain))})


def read_shard(path: Path) -> dict[str, Tensor]:
    """Map a shard.

    Raises:
        DatasetError: missing, truncated, or its content is not what was written.
    """
    hint = "Delete the file; it is made again."
    try:
        with safe_open(path, framework="pt") as opened:
            written = json.loads((opened.metadata() or {}).get(_CHECKSUM, "null"))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}.", hint=hint) from error
    if written != _checksums(tensors):
        raise DatasetError(f"{path} is damaged: its checksum differs.", hint=hint)
    return tensors


def _checksums(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    return {
        name: zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data) if tensor.numel() else 0
        for name, tensor in sorted(tensors.items())
    }


class ShardStore:
    """The shards of a recipe in a folder.

    Args:
        root: the store makes its own folder in it, named after the recipe and its hash.
        recipe: how shards are made.
        workers: background processes; 0 makes a shard when it is read.
    """

    def __init__(self, root: Path, recipe: ShardRecipe, workers: int = 0) -> None:
        digest = hashlib.sha256(recipe.describe().encode()).hexdigest()[:8]
        self.folder = root / f"{recipe.name}-{digest}"
        write_text(self.folder / "recipe.txt", recipe.describe())
        self._recipe = recipe
        self._open: dict[int, dict[str, Tensor] | None] = {}
        self._workers: list[Any] = []
        if workers:
            context = multiprocessing.get_context("spawn")
            self._wanted = context.Value("q", 0)
            self._workers = [
                context.Process(
                    target=_work, args=(self.folder, recipe, (number, workers), self._wanted), daemon=True
                )
                for number in range(workers)
            ]
            for worker in self._workers:
                worker.start()

    def path(self, index: int) -> Path:
        """File of a shard."""
        return self.folder / f"{index:06d}.safetensors"

    def request(self, count: int) -> None:
        """Have the workers make shards 0 to count - 1, in order, if they are not there."""
        if self._workers and count > self._wanted.value:
            self._wanted.value = count

    def read(self, index: int) -> dict[str, Tensor] | None:
        """Tensors of a shard, mapped; None for a damaged one, which is reported once.

        Raises:
            TrainingError: a worker ended.
            OutputError: the shard cannot be written.
        """
        if index not in self._open:
            self.request(index + 1)
            self._await(index)
            try:
                self._open[index] = read_shard(self.path(index))
            except DatasetError as error:
                _log.warning("Shard skipped. %s", error)
                self._open[index] = None
        return self._open[index]

    def read_next_good(self, index: int, count: int) -> dict[str, Tensor]:
        """Tensors of the shard `next_good` names.

        Raises:
            DatasetError: all of them are damaged.
        """
        tensors = self.read(self.next_good(index, count))
        assert tensors is not None
        return tensors

    def next_good(self, index: int, count: int) -> int:
        """Number of this shard or, where it is damaged, of the next one of the first `count` that is not.

        Raises:
            DatasetError: all of them are damaged.
        """
        for offset in range(count):
            if self.read((index + offset) % count) is not None:
                return (index + offset) % count
        raise DatasetError(f"All {count} shards in {self.folder} are damaged.", hint="Delete the folder.")

    def close(self) -> None:
        """Stop the workers; what they have not finished leaves no file."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join()
        self._workers = []

    def _await(self, index: int) -> None:
        path = self.path(index)
        if not self._workers:
            if not path.is_file():
                write_shard(path, self._recipe.make(index))
            return
        responsible = self._workers[index % len(self._workers)]
        while not path.is_file():
            if not responsible.is_alive():
                raise TrainingError(
                    f"The process that makes shard {index} ended with code {responsible.exitcode}.",
                    hint="Its message is above; run without workers to see the whole error.",
                )
            time.sleep(_POLL_S)


def _work(folder: Path, recipe: ShardRecipe, share: tuple[int, int], wanted: Any) -> None:
    """Make every `share[1]`-th shard from `share[0]` on, as far as they are wanted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which stops this one
    torch.set_num_threads(1)
    index, parent = share[0], os.getppid()
    while os.getppid() == parent:
        if index >= wanted.value:
            time.sleep(_POLL_S)
            continue
        path = folder / f"{index:06d}.safetensors"
        if not path.is_file():
            write_shard(path, recipe.make(index))
        index += share[1]
