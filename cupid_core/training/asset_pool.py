"""The assets of data sets, divided into those for training and those for validation, and sampled from.

An asset that cannot be read is reported and skipped: the next one takes its place.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from cupid_core.data.assets.layout import AssetFolder, read_metadata, select
from cupid_core.errors import CupidError, DatasetError
from cupid_core.training.settings import AssetSourceSettings

ReadT = TypeVar("ReadT")
_log = logging.getLogger(__name__)
# The hash that names an asset is evenly distributed, so its first digits divide assets for good, in all stages.
_HASH_DIGITS = 6
# Validation samples as if for a batch of this number, which no training reaches.
VALIDATION_NUMBER = 2**40


class AssetPool:
    """Assets that have what a stage needs.

    Args:
        settings: folders and selection.
        needs: columns of metadata.csv that must be "True".
        seed: of the sampling.
        max_voxels: larger assets are left out; None keeps all.

    Raises:
        DatasetError: a folder is no data set, or no asset has all of this.
    """

    def __init__(
        self, settings: AssetSourceSettings, needs: Sequence[str], *, seed: int, max_voxels: int | None = None
    ) -> None:
        self._seed = seed
        self._damaged: set[str] = set()
        # Without a bound, assets that have no score are kept as well.
        score = settings.min_aesthetic_score or -math.inf
        every = [
            AssetFolder(Path(root), record.sha256)
            for root in settings.roots
            for record in select(read_metadata(Path(root)), needs, score, max_voxels)
        ]
        if not every:
            raise DatasetError(
                f"{', '.join(settings.roots) or 'No folder'}: no asset is selected that has {', '.join(needs)}.",
                hint="Prepare some with `cupid data prepare`, name their folder, or lower min_aesthetic_score.",
            )
        share = settings.validation_share
        self._training = [asset for asset in every if _fraction(asset.sha256) >= share] or every
        # A data set too small to be divided is validated on a training asset; such figures mean little.
        self._validation = [asset for asset in every if _fraction(asset.sha256) < share] or self._training[:1]

    def training(
        self, number: int, place: int, read: Callable[[AssetFolder, np.random.Generator], ReadT]
    ) -> ReadT:
        """What `read` makes of a training asset; the same for the same batch and place in it.

        Args:
            number: of the batch.
            place: in the batch.
            read: reads an asset; all its random numbers come from the generator.

        Raises:
            DatasetError: not one asset can be read.
        """
        return self._sample(self._training, (self._seed, number, place), read)

    def validation(self, place: int, read: Callable[[AssetFolder, np.random.Generator], ReadT]) -> ReadT:
        """The same for a validation asset; always the same for the same place."""
        return self._sample(self._validation, (self._seed, VALIDATION_NUMBER, place), read)

    def _sample(
        self,
        assets: list[AssetFolder],
        seeds: tuple[int, int, int],
        read: Callable[[AssetFolder, np.random.Generator], ReadT],
    ) -> ReadT:
        first = int(np.random.default_rng(seeds).integers(len(assets)))
        for offset in range(len(assets)):
            asset = assets[(first + offset) % len(assets)]
            if asset.sha256 in self._damaged:
                continue
            # A generator per attempt: the result must not depend on how many damaged assets were skipped before.
            generator = np.random.default_rng((*seeds, offset))
            try:
                return read(asset, generator)
            except CupidError as error:
                _log.warning("Asset %s skipped. %s", asset.sha256, error)
                self._damaged.add(asset.sha256)
        raise DatasetError(
            "No asset of the data set can be read.", hint="The warnings above say why for each of them."
        )


def _fraction(sha256: str) -> float:
    """A number in [0, 1) that depends on the asset alone."""
    return int(sha256[:_HASH_DIGITS], 16) / float(16**_HASH_DIGITS)
