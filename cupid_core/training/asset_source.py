"""Batches of views of an asset data set in the published layout."""

from __future__ import annotations

import numpy as np
import torch

from cupid_core.data.assets.layout import AssetFolder
from cupid_core.data.assets.samples import StructureSample, structure_sample
from cupid_core.training.asset_pool import AssetPool
from cupid_core.training.settings import AssetSourceSettings
from cupid_core.training.structure_batch import StructureBatch, StructureTruth


class AssetSource:
    """`StructureSource` of assets.

    Args:
        settings: folders, selection, resolution, crop.
        seed: of the order and the crops.

    Raises:
        DatasetError: a folder is no data set, or no asset in it passes the selection.
    """

    def __init__(self, settings: AssetSourceSettings, *, seed: int = 0) -> None:
        self._sample = settings.sample
        self._pool = AssetPool(settings, ("voxelized", "cond_rendered"), seed=seed)

    def batch(self, number: int, size: int) -> StructureBatch:
        """Views of assets, sampled uniformly."""
        return stack_samples([self._pool.training(number, place, self._read) for place in range(size)])

    def validation(self, size: int) -> tuple[StructureBatch, StructureTruth | None]:
        """Validation assets, sampled with a seed of their own."""
        samples = [self._pool.validation(place, self._read) for place in range(size)]
        truth = StructureTruth(
            torch.stack([sample.view.K_normalized for sample in samples]),
            torch.stack([sample.view.T_camera_object.matrix() for sample in samples]),
            # Symmetries of assets are unknown: every asset counts as not symmetric.
            torch.tensor([[1, 0, 0]]).repeat(size, 1),
        )
        return stack_samples(samples), truth

    def close(self) -> None:
        """Nothing runs in the background."""

    def _read(self, asset: AssetFolder, generator: np.random.Generator) -> StructureSample:
        return structure_sample(asset, asset.drawn_view(generator), self._sample, generator)


def stack_samples(samples: list[StructureSample]) -> StructureBatch:
    """Samples as one batch on the CPU."""
    return StructureBatch(
        image=torch.stack([torch.cat([sample.view.image, sample.view.mask]) for sample in samples]),
        occupancy=torch.stack([sample.occupancy for sample in samples]),
        uv=torch.stack([sample.uv for sample in samples]),
        flag=torch.stack([sample.flag for sample in samples]),
    )
