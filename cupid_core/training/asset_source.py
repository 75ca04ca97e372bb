"""Batches of views of an asset data set in the published layout; knows the layout, not networks or losses.

An asset that cannot be read is reported and skipped: the next one takes its place.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cupid_core.data.assets.layout import AssetFolder, read_metadata, select
from cupid_core.data.assets.samples import StructureSample, structure_sample
from cupid_core.errors import CupidError, DatasetError
from cupid_core.training.settings import AssetSourceSettings
from cupid_core.training.structure_batch import StructureBatch, StructureTruth

_log = logging.getLogger(__name__)
_NEEDED = ("voxelized", "cond_rendered")
# The hash that names an asset is evenly distributed, so its first digits divide assets for good.
_HASH_DIGITS = 6
_UNSEEN_NUMBER = 2**40


class AssetSource:
    """`StructureSource` of assets.

    Args:
        settings: folders, selection, resolution, crop.
        seed: of the order and the crops.

    Raises:
        DatasetError: a folder is no data set, or nothing is left for training or for validation.
    """

    def __init__(self, settings: AssetSourceSettings, *, seed: int = 0) -> None:
        self._sample, self._seed = settings.sample, seed
        self._bad: set[str] = set()
        every = [
            AssetFolder(Path(root), record.sha256)
            for root in settings.roots
            for record in select(read_metadata(Path(root)), _NEEDED, settings.min_aesthetic_score)
        ]
        self._unseen = [asset for asset in every if _fraction(asset.sha256) < settings.validation_share]
        self._seen = [asset for asset in every if _fraction(asset.sha256) >= settings.validation_share]
        if not self._seen:
            raise DatasetError(
                f"{', '.join(settings.roots) or 'No folder'}: no asset with voxels and views is good enough.",
                cure="Prepare some with `cupid data prepare`, name their folder, or lower min_aesthetic_score.",
            )
        # A data set too small for a share of its own is validated on itself, which says so little as it should.
        self._unseen = self._unseen or self._seen[:1]

    def batch(self, number: int, size: int) -> StructureBatch:
        """Views of assets drawn evenly."""
        return _stacked([self._drawn(self._seen, (self._seed, number, place)) for place in range(size)])

    def validation(self, size: int) -> tuple[StructureBatch, StructureTruth | None]:
        """Unseen assets, drawn with a seed of their own."""
        samples = [self._drawn(self._unseen, (self._seed, _UNSEEN_NUMBER, place)) for place in range(size)]
        truth = StructureTruth(
            torch.stack([sample.view.K_normalised for sample in samples]),
            torch.stack([sample.view.T_camera_object.matrix() for sample in samples]),
            # Nobody says how an asset is symmetric: it counts as not at all.
            torch.tensor([[1, 0, 0]]).repeat(size, 1),
        )
        return _stacked(samples), truth

    def close(self) -> None:
        """Nothing runs in the background."""

    def _drawn(self, assets: list[AssetFolder], seeds: tuple[int, int, int]) -> StructureSample:
        first = int(np.random.default_rng(seeds).integers(len(assets)))
        for offset in range(len(assets)):
            asset = assets[(first + offset) % len(assets)]
            if asset.sha256 in self._bad:
                continue
            # A generator per attempt: whether bad assets were met before must not change what follows them.
            generator = np.random.default_rng((*seeds, offset))
            try:
                views = asset.views()
                view = views[int(generator.integers(len(views)))]
                return structure_sample(asset, view, self._sample, generator)
            except (CupidError, ValueError) as error:  # ValueError: an asset without any view
                _log.warning("Asset %s skipped. %s", asset.sha256, error)
                self._bad.add(asset.sha256)
        raise DatasetError("No asset of the data set can be read.", cure="The warnings above name each fault.")


def _fraction(sha256: str) -> float:
    """A number in [0, 1) that belongs to an asset."""
    return int(sha256[:_HASH_DIGITS], 16) / float(16**_HASH_DIGITS)


def _stacked(samples: list[StructureSample]) -> StructureBatch:
    images = torch.stack([sample.view.image for sample in samples])
    return StructureBatch(
        image=torch.cat([images, _silhouettes(images)], dim=1),
        occupancy=torch.stack([sample.occupancy for sample in samples]),
        uv=torch.stack([sample.uv for sample in samples]),
        flag=torch.stack([sample.flag for sample in samples]),
    )


def _silhouettes(images: Tensor) -> Tensor:
    """(B, 1, S, S): where there is any light; published samples carry no mask, nor does their encoder want it."""
    return (images.amax(dim=1, keepdim=True) > 0).float()
