"""The active voxels of one or several objects as plain index tensors.

Built once per object (or batch of objects) on the device of the coordinates, with sorting and searching only.
Every sparse operation is then a gather: a convolution reads `neighbors`, pooling reads `children`, attention
reads `items` or `windows`. Order of the voxels is the caller's; items may be interleaved.

Offsets: neighbor k = 9 i + 3 j + l is the step (i - 1, j - 1, l - 1) along x, y, z; 13 is the voxel itself.
Children: s = 4 i + 2 j + l is the cell 2 c + (i, j, l).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.models.padded_groups import PaddedGroups, group_by_key
from cupid_core.models.voxel_coords import cell_code, cell_of_code, check_arguments, check_voxels, cube

NEIGHBORS = 27
CENTER = 13
CHILDREN = 8


@dataclass(frozen=True)
class VoxelTopology:
    """N voxels of B items on a grid of `resolution` cells per axis.

    Attributes:
        coords: (N, 4) int64 (item, x, y, z).
        neighbors: (N, 27) int32 rows of the 3x3x3 neighborhood in the same item; N where there is no voxel.
        items: the voxels of each item as one group, for attention over a whole item and for statistics per item.
        windows: the voxels of each attention window, one entry per shift: 0, then half a window.
        down: the next coarser level, or None where it was not requested.
        resolution: cells per axis.
        batch_size: B; every item has at least one voxel.
        window_size: edge of the windows in voxels, or None where there are none.
    """

    coords: Tensor
    neighbors: Tensor
    items: PaddedGroups
    windows: tuple[PaddedGroups, ...]
    down: Coarsening | None
    resolution: int
    batch_size: int
    window_size: int | None

    @classmethod
    def build(
        cls,
        coords: Tensor,
        resolution: int,
        *,
        batch_size: int | None = None,
        window_size: int | None = None,
        levels: int = 0,
    ) -> VoxelTopology:
        """Index a set of voxels.

        Args:
            coords: (N, 4) integer (item, x, y, z), 0 <= x, y, z < resolution, no voxel twice, any order.
            resolution: cells per axis, divisible by 2**levels.
            batch_size: number of items; None takes the largest item number plus one.
            window_size: edge of the attention windows in voxels; None makes no windows.
            levels: how many coarser levels to make; these have no windows.

        Raises:
            InvalidTensorError: coords has a wrong shape or type, a voxel is outside the grid or duplicated, an
                item has no voxel, or the resolution, window or number of levels is not possible.
        """
        check_arguments(coords, resolution, window_size, levels)
        coords = coords.long()
        batch_size = check_voxels(coords, resolution, batch_size)
        return _index(coords, resolution, batch_size, window_size, levels)

    @property
    def item(self) -> Tensor:
        """(N,) int64 item of each voxel."""
        return self.coords[:, 0]

    def rows_of(self, item: int) -> Tensor:
        """The rows of one item, in the order given: (N_item,) int64."""
        return self.items.index[item][self.items.valid[item]]

    def per_voxel(self, values: Tensor) -> Tensor:
        """Spread values of the items to their voxels.

        Args:
            values: (B, C), or (1, C) for the same of every item.

        Returns:
            (N, C), or (1, C) where there is one item and that broadcasts.
        """
        values = values.expand(self.batch_size, -1)
        return values if self.batch_size == 1 else values.index_select(0, self.item)

    def repeat(self, copies: int) -> VoxelTopology:
        """The topology of a batch that holds these items `copies` times, one whole set after the other.

        Used to run several branches (guidance) or several samples of the same voxels in one call.
        """
        shift = torch.arange(copies, device=self.coords.device)[:, None, None]
        unit = torch.tensor([self.batch_size, 0, 0, 0], device=self.coords.device)
        return replace(
            self,
            coords=(self.coords + shift * unit).flatten(0, 1),
            neighbors=_repeat_rows(self.neighbors, self.coords.shape[0], copies),
            items=self.items.repeat(copies),
            windows=tuple(groups.repeat(copies) for groups in self.windows),
            down=None if self.down is None else self.down.repeat(copies),
            batch_size=self.batch_size * copies,
        )

    def subdivide(self) -> VoxelTopology:
        """The topology in which each voxel is replaced by its 8 children, adjacent in memory, z fastest.

        Neighbors follow from the parents' by arithmetic, so nothing is sorted or searched. The result has no
        windows and no coarser level.
        """
        device = self.coords.device
        child = cube(2, device)
        corner = torch.cat([self.coords[:, :1], 2 * self.coords[:, 1:]], dim=1)
        place = child[:, None] + cube(3, device) - 1
        step = _number(torch.div(place, 2, rounding_mode="floor") + 1, 3)
        parent = self.neighbors[:, step.flatten()].reshape(-1, CHILDREN, NEIGHBORS)
        absent = self.coords.shape[0]
        fine = torch.where(parent == absent, absent * CHILDREN, parent * CHILDREN + _number(place % 2, 2).int())
        return replace(
            self,
            coords=(corner[:, None] + F.pad(child, (1, 0))).flatten(0, 1),
            neighbors=_by_column(fine.flatten(0, 1)),
            items=self.items.subdivide(CHILDREN),
            windows=(),
            down=None,
            resolution=self.resolution * 2,
            window_size=None,
        )

    def tensors(self) -> list[Tensor]:
        """All index tensors in a fixed order, for tracing and for moving between devices."""
        return list(self.named_tensors().values())

    def named_tensors(self) -> dict[str, Tensor]:
        """The same under the path of each, such as "windows.0.index" or "down.topology.coords"."""
        return dict(_tensors(self, ""))

    def with_tensors(self, tensors: Sequence[Tensor]) -> VoxelTopology:
        """The same kind of topology around other tensors, in the order of `tensors()`.

        The voxels may be others, but what is not a tensor stays: batch size, resolution, which tables there are,
        and whether groups are padded. Make the template of a traced network from a batch that is padded.
        """
        remaining = iter(tensors)
        rebuilt: VoxelTopology = _with_tensors(self, remaining)
        return rebuilt

    def to(self, device: torch.device | str) -> VoxelTopology:
        """The same topology on another device."""
        return self.with_tensors([tensor.to(device) for tensor in self.tensors()])


@dataclass(frozen=True)
class Coarsening:
    """The step from N fine voxels to M coarse voxels of twice the size.

    Attributes:
        topology: the coarse level, voxels sorted by (item, x, y, z).
        parents: (N,) int64 coarse voxel of each fine voxel.
        children: (M, 8) int64 fine voxels of each coarse voxel; N where there is none.
        neighbors: (N, 27) int32 coarse voxel that holds each fine neighbor; M where there is no fine neighbor.
    """

    topology: VoxelTopology
    parents: Tensor
    children: Tensor
    neighbors: Tensor

    def repeat(self, copies: int) -> Coarsening:
        """The same step for `copies` equal batches, one after the other."""
        fine, coarse = self.parents.shape[0], self.children.shape[0]
        return Coarsening(
            topology=self.topology.repeat(copies),
            parents=_repeat_rows(self.parents[:, None], coarse, copies)[:, 0],
            children=_repeat_rows(self.children, fine, copies),
            neighbors=_repeat_rows(self.neighbors, coarse, copies),
        )


def step_to_parent(child: int, neighbor: int) -> tuple[int, int]:
    """Position of neighbor k of child s relative to the parent of s.

    Returns:
        Offset (0 to 26) of the parent of that neighbor, and which of its children (0 to 7) the neighbor is.
    """
    along = [
        child // 4 + neighbor // 9 - 1,
        child // 2 % 2 + neighbor // 3 % 3 - 1,
        child % 2 + neighbor % 3 - 1,
    ]
    offset, sibling = 0, 0
    for place in along:
        offset, sibling = 3 * offset + place // 2 + 1, 2 * sibling + place % 2
    return offset, sibling


def _index(coords: Tensor, resolution: int, batch_size: int, window: int | None, levels: int) -> VoxelTopology:
    neighbors = _find_neighbors(coords, resolution)
    shifts = () if window is None else (0, window // 2)
    return VoxelTopology(
        coords=coords,
        neighbors=neighbors,
        items=group_by_key(coords[:, 0].contiguous()),
        windows=tuple(_windows(coords, resolution, window or 1, shift) for shift in shifts),
        down=_coarsen(coords, neighbors, resolution, batch_size, levels) if levels else None,
        resolution=resolution,
        batch_size=batch_size,
        window_size=window,
    )


def _windows(coords: Tensor, resolution: int, window: int, shift: int) -> PaddedGroups:
    per_axis = (resolution - 1 + shift) // window + 1
    cell = torch.cat([coords[:, :1], torch.div(coords[:, 1:] + shift, window, rounding_mode="floor")], dim=1)
    return group_by_key(cell_code(cell, per_axis))


def _coarsen(coords: Tensor, neighbors: Tensor, resolution: int, batch_size: int, levels: int) -> Coarsening:
    """Merge voxels whose halved coordinates agree; several levels by recursion."""
    half = resolution // 2
    cell = torch.cat([coords[:, :1], torch.div(coords[:, 1:], 2, rounding_mode="floor")], dim=1)
    codes, parents = torch.unique(cell_code(cell, half), return_inverse=True)
    fine, coarse = coords.shape[0], codes.shape[0]
    children = torch.full((coarse, CHILDREN), fine, device=coords.device)
    children[parents, _number(coords[:, 1:] % 2, 2)] = torch.arange(fine, device=coords.device)
    holder = torch.cat([parents, parents.new_full((1,), coarse)]).int()
    return Coarsening(
        topology=_index(cell_of_code(codes, half), half, batch_size, None, levels - 1),
        parents=parents,
        children=children,
        neighbors=_by_column(holder[neighbors.long()]),
    )


def _find_neighbors(coords: Tensor, resolution: int) -> Tensor:
    """(N, 27) int32. The grid is padded by one cell, so a step beyond the border finds no voxel."""
    count, side = coords.shape[0], resolution + 2
    codes, order = torch.sort(cell_code(coords + torch.tensor([0, 1, 1, 1], device=coords.device), side))
    step = cube(3, coords.device) - 1
    wanted = codes[None, :] + ((step[:, 0] * side + step[:, 1]) * side + step[:, 2])[:, None]
    found = torch.searchsorted(codes, wanted).clamp_(max=count - 1)
    row = torch.where(codes[found] == wanted, order[found], count).int()
    table = torch.empty_like(row)
    table[:, order] = row
    return table.t()


def _number(digits: Tensor, base: int) -> Tensor:
    """Three digits (..., 3), the first the highest, as one number (...)."""
    return (digits[..., 0] * base + digits[..., 1]) * base + digits[..., 2]


def _by_column(table: Tensor) -> Tensor:
    """The same (N, 27) table laid out so that each column, which one gather reads, is contiguous."""
    return table.t().contiguous().t()


def _repeat_rows(table: Tensor, absent: int, copies: int) -> Tensor:
    """Repeat a table of rows into `absent` things for several copies of these things."""
    shift = torch.arange(copies, device=table.device, dtype=table.dtype)[:, None, None] * absent
    repeated = torch.where(table == absent, absent * copies, table + shift).flatten(0, 1)
    return _by_column(repeated)


def _tensors(value: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, tuple):
        for index, part in enumerate(value):
            yield from _tensors(part, f"{path}.{index}")
    elif isinstance(value, VoxelTopology | Coarsening | PaddedGroups):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name), f"{path}.{field.name}".removeprefix("."))


def _with_tensors(value: Any, remaining: Iterator[Tensor]) -> Any:
    if isinstance(value, Tensor):
        return next(remaining)
    if isinstance(value, tuple):
        return tuple(_with_tensors(part, remaining) for part in value)
    if isinstance(value, VoxelTopology | Coarsening | PaddedGroups):
        return replace(value, **{f.name: _with_tensors(getattr(value, f.name), remaining) for f in fields(value)})
    return value
