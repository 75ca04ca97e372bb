"""Rows of many shards in one tensor: from mapped files on a CPU, from the memory of the device elsewhere.

A batch takes single rows of hundreds of shards. Mapped files cost no memory, and reading rows one by one is
nothing beside a step on a CPU; on an accelerator it would be most of the step, so there each shard is copied once.
Knows shards and row numbers, not what is in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cupid_core.training.shards import ShardStore


class ShardRows:
    """Gathers rows.

    Args:
        store: of the shards.
        names: the tensors that are wanted; each has the same number of rows in every shard.
        device: where rows are gathered to.
        resident: keep every shard that was used in the memory of the device.
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
        assert tensors is not None, "the caller asks for good shards"
        return tensors

    def _keep(self, shard: int) -> None:
        """Copy a shard to the device; the room for them doubles when it is full, so each is moved about once."""
        number = len(self._place)
        for name in self._names:
            tensor = self._read(shard)[name]
            kept = self._kept.get(name)
            if kept is None or number == len(kept):
                room = torch.empty(max(1, 2 * number), *tensor.shape, dtype=tensor.dtype, device=self._device)
                if kept is not None:
                    room[:number] = kept
                self._kept[name] = kept = room
            kept[number] = tensor.to(self._device)
        self._place[shard] = number
