"""Sets of voxels that attend to each other, as padded gather tables.

A group is a window of the grid or a whole item. Groups have different sizes; the table pads them to the largest,
so attention inside all groups is one batched call without a loop over them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PaddedGroups:
    """A partition of N voxels into G groups of at most L voxels.

    Attributes:
        index: (G, L) int64 voxel of each place. Padding names some voxel of its own group, so a padded place
            never carries numbers from another group.
        valid: (G, L) bool, false at padding. Every group has at least one voxel.
        slot: (N,) int64 place of each voxel in the flattened (G * L) table.
        padded: whether any place is padding; false lets attention run without a mask.
    """

    index: Tensor
    valid: Tensor
    slot: Tensor
    padded: bool

    @property
    def mask(self) -> Tensor | None:
        """`valid`, or None where nothing is padded."""
        return self.valid if self.padded else None

    def gather(self, rows: Tensor) -> Tensor:
        """Put rows (N, ...) into their groups: (G, L, ...)."""
        return rows.index_select(0, self.index.flatten()).reshape(*self.index.shape, *rows.shape[1:])

    def scatter(self, padded_rows: Tensor) -> Tensor:
        """Undo `gather`: (G, L, ...) to (N, ...); padding is dropped."""
        return padded_rows.flatten(0, 1).index_select(0, self.slot)

    def repeat(self, copies: int) -> PaddedGroups:
        """The groups of `copies` equal sets of voxels, one set after the other."""
        count, places = self.slot.shape[0], self.index.shape[0] * self.index.shape[1]
        shift = torch.arange(copies, device=self.index.device)[:, None, None]
        return PaddedGroups(
            index=(self.index + shift * count).flatten(0, 1),
            valid=self.valid.repeat(copies, 1),
            slot=(self.slot + shift[:, 0] * places).flatten(),
            padded=self.padded,
        )

    def subdivide(self, children: int) -> PaddedGroups:
        """The same groups after each voxel was replaced by `children` voxels that stay adjacent in memory."""
        child = torch.arange(children, device=self.index.device)
        return PaddedGroups(
            index=(self.index[..., None] * children + child).flatten(1),
            valid=self.valid.repeat_interleave(children, dim=1),
            slot=(self.slot[:, None] * children + child).flatten(),
            padded=self.padded,
        )


def group_by_key(key: Tensor) -> PaddedGroups:
    """Group voxels with equal keys; groups in ascending order of key, voxels inside in the order given.

    Args:
        key: (N,) int64, N >= 1.

    Returns:
        The partition; the largest group size is read back to the host once.
    """
    ordered, order = torch.sort(key, stable=True)
    _, group, size = torch.unique_consecutive(ordered, return_inverse=True, return_counts=True)
    start = size.cumsum(0) - size
    rank = torch.arange(key.shape[0], device=key.device) - start[group]
    longest = int(size.max())
    place = torch.arange(longest, device=key.device)
    valid = place < size[:, None]
    index = order[torch.where(valid, start[:, None] + place, start[:, None])]
    slot = torch.empty_like(order)
    slot[order] = group * longest + rank
    return PaddedGroups(index=index, valid=valid, slot=slot, padded=bool(key.shape[0] < valid.numel()))
