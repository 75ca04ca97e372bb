"""Voxels of the appearance autoencoder from an asset data set, with the truth at the corners of their cubes.

This needs the surfaces that `cupid data prepare` writes; the published data sets have none.
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
from cupid_core.training.voxel_truth import CUBES, VoxelGrid, VoxelTruth, box_corners, crop_to_boxes, perturb_shell

# Surfaces kept in memory; each may have tens of megabytes.
_CACHED_SURFACES = 16


@dataclass(frozen=True, eq=False)
class _Object:
    """Truth of one object's voxels, with which of them count and how many are inside but not in the shell."""

    truth: CornerTruth
    in_loss: Tensor
    interior: int


class AssetVoxels:
    """`VoxelSource` of assets.

    Args:
        assets: folders and selection.
        settings: boxes, and how many objects a batch has.
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
        self._cache: OrderedDict[str, tuple[RayScene, Tensor]] = OrderedDict()

    def batch(self, number: int) -> VoxelTruth:
        """Boxes of assets with small errors in their shells, or whole assets late in training."""
        sample, size = self._settings.sample, self._settings.run.batch_size
        whole = sample.crop == 0 or 0 < sample.whole_from <= number
        count = sample.whole_objects if whole else size

        def read(asset: AssetFolder, generator: np.random.Generator) -> _Object:
            torch_generator = torch.Generator().manual_seed(int(generator.integers(2**62)))
            return self._box(asset, 0 if whole else sample.crop, torch_generator)

        return self._collate([self._pool.training(number, place, read) for place in range(count)])

    def training_objects(self, count: int, at_once: int, cubes: int) -> Iterator[VoxelTruth]:
        """See `VoxelSource`; sampled as the first batch is."""
        for places in _slices(count, at_once):
            yield self._collate(
                [self._pool.training(0, place, lambda asset, _: self._whole(asset, cubes)) for place in places]
            )

    def validation_objects(self, split: str, count: int, at_once: int) -> Iterator[VoxelTruth]:
        """See `VoxelSource`; there are no held-out families."""
        if split != "train":
            return
        for places in _slices(count, at_once):
            yield self._collate(
                [self._pool.validation(place, lambda asset, _: self._whole(asset)) for place in places]
            )

    def _whole(self, asset: AssetFolder, cubes: int = CUBES) -> _Object:
        scene, shell = self._scene_and_shell(asset)
        coords = shell.nonzero()
        solid = solid_voxels(scene, self._grid.resolution)
        truth = surface_corner_truth(scene, coords, self._grid.resolution, cubes)
        return _Object(truth, torch.ones(len(coords), dtype=torch.bool), int((solid & ~shell).sum()))

    def _box(self, asset: AssetFolder, edge: int, generator: torch.Generator) -> _Object:
        """A random box of `edge` voxels; the whole object where 0."""
        scene, shell = self._scene_and_shell(asset)
        shell = perturb_shell(shell[None], self._settings.shell, generator)
        voxels = shell.nonzero()
        in_loss = torch.ones(len(voxels), dtype=torch.bool)
        if edge:
            voxels, in_loss = crop_to_boxes(
                voxels, box_corners(shell, edge, generator), edge, self._grid.resolution
            )
        truth = surface_corner_truth(scene, voxels[:, 1:], self._grid.resolution, CUBES)
        return _Object(truth, in_loss, 0)

    def _scene_and_shell(self, asset: AssetFolder) -> tuple[RayScene, Tensor]:
        """Ray casting scene of an asset and its shell (r, r, r) bool, cached."""
        if asset.sha256 not in self._cache:
            resolution = self._grid.resolution
            self._cache[asset.sha256] = RayScene(asset.surface()), asset.occupancy(resolution)[0]
            if len(self._cache) > _CACHED_SURFACES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(asset.sha256)
        return self._cache[asset.sha256]

    def _collate(self, objects: list[_Object]) -> VoxelTruth:
        truth = joined_truth([some.truth for some in objects]).to(self._device)
        return VoxelTruth(
            topology=self._grid.index(truth.voxels),
            truth=truth,
            in_loss=torch.cat([some.in_loss for some in objects]).to(self._device),
            interior=torch.tensor([some.interior for some in objects], device=self._device),
            objects=len(objects),
        )


def _slices(count: int, at_once: int) -> Iterator[range]:
    for start in range(0, count, at_once):
        yield range(start, min(start + at_once, count))
