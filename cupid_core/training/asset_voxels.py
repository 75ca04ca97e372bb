"""Voxels of the appearance autoencoder from an asset data set: surfaces, and the truth at the corners of cubes.

Data sets that `cupid data prepare` made have the surfaces this needs; the published ones, whose meshes have no
color, do not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cupid_core.data.assets.layout import AssetFolder
from cupid_core.data.assets.ray_scene import RayScene
from cupid_core.data.assets.surface_truth import solid_voxels, surface_corner_truth
from cupid_core.data.corner_truth import CornerTruth, joined_truth
from cupid_core.training.appearance_settings import AppearanceVaeSettings
from cupid_core.training.asset_pool import AssetPool
from cupid_core.training.settings import AssetSourceSettings
from cupid_core.training.voxel_truth import CUBES, VoxelGrid, VoxelTruth, box_corners, boxed, perturbed

# Surfaces that are kept ready; each may be tens of megabytes.
_MOST_READY = 16


@dataclass(frozen=True, eq=False)
class _Object:
    """Truth of one object's voxels, with which of them count and how many are inside but not in the shell."""

    truth: CornerTruth
    counted: Tensor
    interior: int


class AssetVoxels:
    """`VoxelSource` of assets.

    Args:
        assets: folders and selection.
        settings: what is seen of how many objects.
        grid: of the voxels.
        seed: of the data.
        device: where batches go; the truth is computed on the CPU.

    Raises:
        DatasetError: a folder is no data set, or no asset has voxels and surface.
    """

    def __init__(
        self,
        assets: AssetSourceSettings,
        settings: AppearanceVaeSettings,
        grid: VoxelGrid,
        *,
        seed: int,
        device: torch.device | str,
    ) -> None:
        self._settings, self._grid, self._device = settings, grid, device
        self._pool = AssetPool(assets, ("voxelized", "surface"), seed=seed)
        self._ready: OrderedDict[str, tuple[RayScene, Tensor]] = OrderedDict()

    def batch(self, number: int) -> VoxelTruth:
        """Boxes of assets, their shells a little wrong, or whole ones late in training."""
        sample, size = self._settings.sample, self._settings.run.batch_size
        whole = sample.crop == 0 or 0 < sample.whole_from <= number
        count = sample.whole_objects if whole else size

        def read(asset: AssetFolder, generator: np.random.Generator) -> _Object:
            draws = torch.Generator().manual_seed(int(generator.integers(2**62)))
            return self._part(asset, 0 if whole else sample.crop, draws)

        return self._together([self._pool.seen(number, place, read) for place in range(count)])

    def seen(self, count: int, at_once: int, cubes: int) -> Iterator[VoxelTruth]:
        """See `VoxelSource`; drawn as the first batch is."""
        for places in _slices(count, at_once):
            yield self._together(
                [self._pool.seen(0, place, lambda asset, _: self._whole(asset, cubes)) for place in places]
            )

    def unseen(self, split: str, count: int, at_once: int) -> Iterator[VoxelTruth]:
        """See `VoxelSource`; there are no held-out families."""
        if split != "train":
            return
        for places in _slices(count, at_once):
            yield self._together(
                [self._pool.unseen(place, lambda asset, _: self._whole(asset)) for place in places]
            )

    def _whole(self, asset: AssetFolder, cubes: int = CUBES) -> _Object:
        scene, shell = self._opened(asset)
        coords = shell.nonzero()
        solid = solid_voxels(scene, self._grid.resolution)
        truth = surface_corner_truth(scene, coords, self._grid.resolution, cubes)
        return _Object(truth, torch.ones(len(coords), dtype=torch.bool), int((solid & ~shell).sum()))

    def _part(self, asset: AssetFolder, edge: int, generator: torch.Generator) -> _Object:
        """A box of `edge` voxels, everything where 0."""
        scene, shell = self._opened(asset)
        wrong = perturbed(shell[None], self._settings.shell, generator)
        voxels = wrong.nonzero()
        counted = torch.ones(len(voxels), dtype=torch.bool)
        if edge:
            voxels, counted = boxed(voxels, box_corners(wrong, edge, generator), edge, self._grid.resolution)
        truth = surface_corner_truth(scene, voxels[:, 1:], self._grid.resolution, CUBES)
        return _Object(truth, counted, 0)

    def _opened(self, asset: AssetFolder) -> tuple[RayScene, Tensor]:
        """The surface of an asset, ready for rays, and its shell (r, r, r) bool."""
        if asset.sha256 not in self._ready:
            resolution = self._grid.resolution
            self._ready[asset.sha256] = RayScene(asset.surface()), asset.occupancy(resolution)[0]
            if len(self._ready) > _MOST_READY:
                self._ready.popitem(last=False)
        self._ready.move_to_end(asset.sha256)
        return self._ready[asset.sha256]

    def _together(self, objects: list[_Object]) -> VoxelTruth:
        truth = joined_truth([some.truth for some in objects]).to(self._device)
        return VoxelTruth(
            topology=self._grid.index(truth.voxels),
            truth=truth,
            counted=torch.cat([some.counted for some in objects]).to(self._device),
            interior=torch.tensor([some.interior for some in objects], device=self._device),
            objects=len(objects),
        )


def _slices(count: int, at_once: int) -> Iterator[range]:
    for start in range(0, count, at_once):
        yield range(start, min(start + at_once, count))
