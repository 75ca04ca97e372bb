"""Batches of the appearance autoencoder: voxels of generated objects with the truth at the corners of their cubes.

A batch depends on its number alone. Whole objects have thousands of voxels with 64 cubes each, so a step takes a
box of each object; voxels next to the cut are excluded from the loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.data.corner_truth import CornerTruth
from cupid_core.data.tabletop.fine_truth import corner_truth
from cupid_core.data.tabletop.objects import Objects, build_objects
from cupid_core.data.tabletop.splits import draw_shape
from cupid_core.models.topology import VoxelTopology
from cupid_core.training.appearance_settings import AppearanceVaeSettings, ShellNoiseSettings

# Cubes per voxel and axis of the published mesh decoder.
CUBES = 4
# Validation uses objects of this seed, which no training may have.
UNSEEN_SEED = 1_000_003
# Random numbers of boxes must differ from others of the same seed.
_STREAM = 7_919


@dataclass(frozen=True)
class VoxelGrid:
    """Resolution of the voxels, and the windows and levels for which networks need them indexed.

    Attributes:
        resolution: voxels per axis.
        window: edge of the attention windows; None without.
        levels: coarser levels.
    """

    resolution: int
    window: int | None = None
    levels: int = 0

    def index(self, voxels: Tensor) -> VoxelTopology:
        """The topology of voxels (N, 4)."""
        return VoxelTopology.build(voxels, self.resolution, window_size=self.window, levels=self.levels)


@dataclass(frozen=True, eq=False)
class VoxelTruth:
    """Voxels of O objects with the true surface inside them.

    Attributes:
        topology: of the N voxels, with the windows of the networks.
        truth: at the corners of their cubes, row for row with the voxels.
        in_loss: (N,) bool, false next to the cut of a box, where neighbors that exist are missing.
        interior: (O,) int64 number of voxels inside the object and not in its shell; for volumes of whole objects.
        objects: O.
    """

    topology: VoxelTopology
    truth: CornerTruth
    in_loss: Tensor
    interior: Tensor
    objects: int


class VoxelSource(Protocol):
    """Source of the voxels of the appearance autoencoder."""

    def batch(self, number: int) -> VoxelTruth:
        """Training voxels; the same for the same number."""
        ...

    def training_objects(self, count: int, at_once: int, cubes: int) -> Iterator[VoxelTruth]:
        """The first training objects, whole, with the truth at the corners of `cubes` cubes per voxel and axis."""
        ...

    def validation_objects(self, split: str, count: int, at_once: int) -> Iterator[VoxelTruth]:
        """Objects that no training uses, whole, of the trained ("train") or the other ("held_out") families."""
        ...


class TabletopVoxels:
    """`VoxelSource` of generated objects.

    Args:
        settings: boxes, and how many objects a batch has.
        grid: of the voxels.
        seed: of the data.
        device: where everything is computed.
    """

    def __init__(
        self, settings: AppearanceVaeSettings, grid: VoxelGrid, *, seed: int, device: torch.device | str
    ) -> None:
        self._settings, self._grid, self._seed, self._device = settings, grid, seed, device

    def batch(self, number: int) -> VoxelTruth:
        """Boxes of objects, or whole ones late in training."""
        return training_voxels(number, self._settings, self._grid, seed=self._seed, device=self._device)

    def training_objects(self, count: int, at_once: int, cubes: int) -> Iterator[VoxelTruth]:
        """See `VoxelSource`."""
        return self._whole((self._seed, "train"), count, at_once, cubes)

    def validation_objects(self, split: str, count: int, at_once: int) -> Iterator[VoxelTruth]:
        """See `VoxelSource`."""
        return self._whole((UNSEEN_SEED, split), count, at_once, CUBES)

    def _whole(self, data: tuple[int, str], count: int, at_once: int, cubes: int) -> Iterator[VoxelTruth]:
        seed, split = data
        for start in range(0, count, at_once):
            some = range(start, min(start + at_once, count))
            yield tabletop_voxels(some, self._grid, cubes, seed=seed, split=split, device=self._device)


def tabletop_voxels(
    indices: Sequence[int],
    grid: VoxelGrid,
    cubes: int = CUBES,
    *,
    seed: int,
    split: str = "train",
    device: torch.device | str,
) -> VoxelTruth:
    """Whole objects, with their true shells.

    Args:
        indices: of the objects.
        grid: of the voxels.
        cubes: cubes per voxel and axis at whose corners the truth is; figures need the number of the decoder.
        seed: of the data set.
        split: "train" or "held_out".
        device: where everything is computed.
    """
    objects = _build(indices, grid.resolution, seed, split, device)
    voxels = objects.shell.nonzero()
    in_loss = torch.ones(len(voxels), dtype=torch.bool, device=voxels.device)
    return _with_truth(objects, voxels, in_loss, grid, cubes)


def training_voxels(
    number: int, settings: AppearanceVaeSettings, grid: VoxelGrid, *, seed: int, device: torch.device | str
) -> VoxelTruth:
    """The batch of a number: boxes of objects that no other batch has, with small errors in their shells.

    Args:
        number: of the batch, from 0.
        settings: boxes, and how many objects a batch has.
        grid: of the voxels.
        seed: of the data set.
        device: where everything is computed; numbers are drawn on the CPU.
    """
    sample = settings.sample
    whole = sample.crop == 0 or 0 < sample.whole_from <= number
    # The stride between batches, so that no two batches share objects.
    stride = max(settings.run.batch_size, sample.whole_objects)
    count, first = sample.whole_objects if whole else settings.run.batch_size, number * stride
    objects = _build(range(first, first + count), grid.resolution, seed, "train", device)
    generator = torch.Generator().manual_seed((seed * _STREAM + number) % 2**63)
    shell = perturb_shell(objects.shell, settings.shell, generator)
    voxels = shell.nonzero()
    in_loss = torch.ones(len(voxels), dtype=torch.bool, device=voxels.device)
    if not whole:
        low = box_corners(shell, sample.crop, generator)
        voxels, in_loss = crop_to_boxes(voxels, low, sample.crop, grid.resolution)
    return _with_truth(objects, voxels, in_loss, grid)


def perturb_shell(shell: Tensor, settings: ShellNoiseSettings, generator: torch.Generator) -> Tensor:
    """Shells (O, r, r, r) bool with some voxels added and some removed, as sampled structures have."""
    device = shell.device
    chosen = torch.rand(len(shell), 1, 1, 1, generator=generator) < settings.perturbed
    random = torch.rand(shell.shape, generator=generator).to(device)
    around = F.max_pool3d(shell[:, None].float(), 3, 1, 1)[:, 0] > 0
    changed = (around & ~shell & (random < settings.extra)) | (shell & (random > settings.dropped))
    # An object must not become empty: where all voxels would be removed, the shell stays.
    usable = chosen.to(device) & changed.flatten(1).any(1)[:, None, None, None]
    return torch.where(usable, changed, shell)


def _build(indices: Sequence[int], resolution: int, seed: int, split: str, device: torch.device | str) -> Objects:
    return build_objects([draw_shape(seed, index, split=split) for index in indices], resolution, device)


def box_corners(shell: Tensor, edge: int, generator: torch.Generator) -> Tensor:
    """Lowest corner (O, 3) of a box of `edge` voxels around a random voxel of every object."""
    flat = shell.flatten(1)
    rank = (torch.rand(len(shell), generator=generator).to(shell.device) * flat.sum(1)).long()
    place = (flat.cumsum(1) > rank[:, None]).int().argmax(1)
    side = shell.shape[1]
    center = torch.stack([place // side**2, place // side % side, place % side], dim=1)
    return center - edge // 2


def crop_to_boxes(voxels: Tensor, low: Tensor, edge: int, resolution: int) -> tuple[Tensor, Tensor]:
    """The voxels (M, 4) inside their object's box, and a mask (M,) of those without a neighbor outside it."""
    start = low[voxels[:, 0]]
    inside = ((voxels[:, 1:] >= start) & (voxels[:, 1:] < start + edge)).all(1)
    voxels, start = voxels[inside], start[inside]
    # At the border of the grid there are no neighbors to cut off.
    above = (voxels[:, 1:] > start) | (voxels[:, 1:] == 0)
    below = (voxels[:, 1:] < start + edge - 1) | (voxels[:, 1:] == resolution - 1)
    return voxels, (above & below).all(1)


def _with_truth(
    objects: Objects, voxels: Tensor, in_loss: Tensor, grid: VoxelGrid, cubes: int = CUBES
) -> VoxelTruth:
    return VoxelTruth(
        topology=grid.index(voxels),
        truth=corner_truth(objects, voxels, cubes),
        in_loss=in_loss,
        interior=(objects.solid & ~objects.shell).flatten(1).sum(1),
        objects=len(objects.shapes),
    )
