"""Training samples cached on disk in shards, which background processes make.

A shard is one safetensors file with a checksum; it is mapped, not read, so that a batch may take single rows of
many shards. A damaged shard is reported and skipped.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import multiprocessing
import os
import signal
import time
import zlib
from collections.abc import Mapping, Sequence
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
_SAY_EVERY_S = 10.0
_CHECKSUM = "crc32"


class OutOfTimeError(TrainingError):
    """The time limit of a training has passed while a shard was waited for."""

    code = "out_of_time"


class ShardRecipe(Protocol):
    """How a shard is made; must be picklable, and `describe` everything that its tensors depend on."""

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
    """Memory-map a shard and check it.

    Raises:
        DatasetError: missing, truncated, or its content is not what was written.
    """
    hint = "Delete the file; it will be made again."
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
        root: gets a folder for the store, named after the recipe and its hash.
        recipe: how shards are made.
        workers: background processes; 0 makes a shard when it is read.
        deadline: `time.monotonic()` after which a shard that is not there is not waited for.
    """

    def __init__(self, root: Path, recipe: ShardRecipe, workers: int = 0, *, deadline: float = math.inf) -> None:
        self._deadline = deadline
        self._began = self._said_at = time.monotonic()
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
        """Ask the workers for shards 0 to count - 1, in order, as far as they are missing."""
        if self._workers and count > self._wanted.value:
            self._wanted.value = count

    def read(self, index: int) -> dict[str, Tensor] | None:
        """Memory-mapped tensors of a shard; None for a damaged one, which is logged once.

        Raises:
            TrainingError: a worker ended.
            OutputError: the shard cannot be written.
            OutOfTimeError: the deadline has passed and the shard is not there.
        """
        if index not in self._open:
            self.request(index + 1)
            self._wait_for(index)
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
        """Stop the workers; an unfinished shard leaves no file."""
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join()
        self._workers = []

    def _wait_for(self, index: int) -> None:
        path = self.path(index)
        if not self._workers:
            if not path.is_file():
                self._check_time(index)
                self._say(f"Making shard {index} of the data")
                write_shard(path, self._recipe.make(index))
            return
        responsible = self._workers[index % len(self._workers)]
        while not path.is_file():
            self._check_time(index)
            if not responsible.is_alive():
                raise TrainingError(
                    f"The process that makes shard {index} ended with code {responsible.exitcode}.",
                    hint="Its message is above; run without workers to get the whole error.",
                )
            self._say(f"Waiting for shard {index} of the data")
            time.sleep(_POLL_S)

    def _say(self, what: str) -> None:
        """Log what a training waits for, now and then."""
        now = time.monotonic()
        if now - self._said_at >= _SAY_EVERY_S:
            _log.info("%s, %.0f s after the start", what, now - self._began)
            self._said_at = now

    def _check_time(self, index: int) -> None:
        if time.monotonic() > self._deadline:
            raise OutOfTimeError(
                f"The time limit has passed before shard {index} was made.",
                hint="Start again with a longer limit; shards that are finished are kept.",
            )


class ShardRows:
    """Gathers single rows of many shards into one tensor.

    A batch takes rows of hundreds of shards. On a CPU they are read from the mapped files, which costs no memory
    and little beside a step. On an accelerator that would be most of the step: each shard is copied there once.

    Args:
        store: of the shards.
        names: of the tensors to read; each has the same number of rows in every shard.
        device: where rows are gathered to.
        resident: keep every used shard in the memory of the device.
    """

    def __init__(
        self, store: ShardStore, names: Sequence[str], device: torch.device, *, resident: bool = True
    ) -> None:
        self._store, self._names, self._device, self._resident = store, tuple(names), device, resident
        self._place: dict[int, int] = {}
        self._kept: dict[str, Tensor] = {}

    def gather(self, shards: Sequence[int], rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The named tensors, row b from shard `shards[b]`.

        Args:
            shards: (B,) numbers of shards that are not damaged.
            rows: (B,) int64 row of each, on the CPU, by the name of the tensor.

        Returns:
            (B, ...) tensors on the device.
        """
        if not self._resident:
            return {
                name: self._stacked(name, shards, rows[name].tolist()).to(self._device) for name in self._names
            }
        for shard in shards:
            if shard not in self._place:
                self._keep(shard)
        place = torch.tensor([self._place[shard] for shard in shards])
        return {
            name: self._kept[name][place.to(self._device), rows[name].to(self._device)] for name in self._names
        }

    def _stacked(self, name: str, shards: Sequence[int], rows: Sequence[int]) -> Tensor:
        return torch.stack([self._read(shard)[name][row] for shard, row in zip(shards, rows, strict=True)])

    def _read(self, shard: int) -> dict[str, Tensor]:
        tensors = self._store.read(shard)
        assert tensors is not None, "damaged shards are excluded by the caller"
        return tensors

    def _keep(self, shard: int) -> None:
        """Copy a shard to the device; a full buffer is doubled, so each shard is moved about once."""
        number = len(self._place)
        for name in self._names:
            tensor = self._read(shard)[name]
            kept = self._kept.get(name)
            if kept is None or number == len(kept):
                buffer = torch.empty(max(1, 2 * number), *tensor.shape, dtype=tensor.dtype, device=self._device)
                if kept is not None:
                    buffer[:number] = kept
                self._kept[name] = kept = buffer
            kept[number] = tensor.to(self._device)
        self._place[shard] = number


def _work(folder: Path, recipe: ShardRecipe, share: tuple[int, int], wanted: Any) -> None:
    """Make every `share[1]`-th shard from `share[0]` on, up to the number that is requested."""
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
