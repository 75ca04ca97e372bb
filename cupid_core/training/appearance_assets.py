"""Views of stage "appearance" from an asset data set in the published layout, with its structured latents.

An asset that cannot be read is reported and skipped: the next one takes its place. Knows the layout, not networks.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cupid_core.data.assets.layout import AssetFolder, read_metadata, select
from cupid_core.data.assets.samples import LatentScale, appearance_sample
from cupid_core.errors import ConfigError, CupidError, DatasetError
from cupid_core.training.appearance_batch import AppearanceView, collate
from cupid_core.training.appearance_settings import AssetLatentSettings
from cupid_core.training.appearance_source import Unseen
from cupid_core.training.settings import AssetSourceSettings
from cupid_core.training.voxel_truth import VoxelGrid

_log = logging.getLogger(__name__)
# Validation draws with a number that no batch reaches.
_UNSEEN_NUMBER = 2**40
# Larger objects are left out of the published training.
_MOST_VOXELS = 32768
# The same digits of the hash as the structure stages take, so that all stages keep the same assets unseen.
_HASH_DIGITS = 6


class AssetAppearanceSource:
    """`AppearanceSource` of assets. Their latents are given, so there is no truth to decode against.

    Args:
        assets: folders, selection, resolution, crop.
        latents: which latents, and their scale.
        seed: of the order and the crops.
        device: where validation batches go.

    Raises:
        DatasetError: a folder is no data set, or nothing in it is good enough.
        ConfigError: mean and deviation of the latents do not go together.
    """

    def __init__(
        self,
        assets: AssetSourceSettings,
        latents: AssetLatentSettings,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._sample, self._latents, self._seed, self._device = assets.sample, latents, seed, device
        self._scale = latent_scale(latents)
        self._bad: set[str] = set()
        needed = ("cond_rendered", f"latent_{latents.model}")
        every = [
            AssetFolder(Path(root), record.sha256)
            for root in assets.roots
            for record in select(read_metadata(Path(root)), needed, assets.min_aesthetic_score, _MOST_VOXELS)
        ]
        if not every:
            raise DatasetError(
                f"{', '.join(assets.roots) or 'No folder'}: no asset with views and latents '{latents.model}'.",
                cure="Prepare them with `cupid data prepare`, or name the folder of their latents.",
            )
        self._unseen = [asset for asset in every if _fraction(asset.sha256) < assets.validation_share]
        self._seen = [asset for asset in every if _fraction(asset.sha256) >= assets.validation_share] or every
        # A data set too small for a share of its own is validated on itself, which says as little as it should.
        self._unseen = self._unseen or self._seen[:1]

    def views(self, number: int, count: int) -> list[AppearanceView]:
        """Views of assets drawn evenly."""
        return [self._drawn(self._seen, (self._seed, number, place)) for place in range(count)]

    def unseen(self, split: str, count: int, at_once: int, grid: VoxelGrid) -> Iterator[Unseen]:
        """Assets kept for validation; there are no held-out families."""
        if split != "train":
            return
        for start in range(0, count, at_once):
            places = range(start, min(start + at_once, count))
            views = [self._drawn(self._unseen, (self._seed, _UNSEEN_NUMBER, place)) for place in places]
            yield Unseen(collate(views, grid, self._device), None)

    def close(self) -> None:
        """Nothing runs in the background."""

    def _drawn(self, assets: list[AssetFolder], seeds: tuple[int, int, int]) -> AppearanceView:
        first = int(np.random.default_rng(seeds).integers(len(assets)))
        for offset in range(len(assets)):
            asset = assets[(first + offset) % len(assets)]
            if asset.sha256 in self._bad:
                continue
            # A generator per attempt: whether bad assets were met before must not change what follows them.
            generator = np.random.default_rng((*seeds, offset))
            try:
                return self._read(asset, generator)
            except (CupidError, ValueError) as error:  # ValueError: an asset without any view
                _log.warning("Asset %s skipped. %s", asset.sha256, error)
                self._bad.add(asset.sha256)
        raise DatasetError("No asset of the data set can be read.", cure="The warnings above name each fault.")

    def _read(self, asset: AssetFolder, generator: np.random.Generator) -> AppearanceView:
        views = asset.views()
        view = views[int(generator.integers(len(views)))]
        sample = appearance_sample(
            asset, view, self._sample, self._latents.model, scale=self._scale, generator=generator
        )
        image = sample.view.image
        return AppearanceView(
            image=torch.cat([image, _silhouette(image)]),
            unoccluded=torch.ones_like(image[:1]),
            T_camera_object=sample.view.T_camera_object.matrix().float(),
            intrinsics=sample.view.K_normalised.float(),
            coords=sample.coords.long(),
            latent=sample.latent,
        )


def _fraction(sha256: str) -> float:
    """A number in [0, 1) that belongs to an asset."""
    return int(sha256[:_HASH_DIGITS], 16) / float(16**_HASH_DIGITS)


def latent_scale(settings: AssetLatentSettings) -> LatentScale | None:
    """How latents are normalised; None where they are not.

    Raises:
        ConfigError: not one mean and one deviation for each channel.
    """
    if not settings.mean and not settings.std:
        return None
    if not len(settings.mean) == len(settings.std) == settings.channels:
        raise ConfigError(
            f"{len(settings.mean)} means and {len(settings.std)} deviations for {settings.channels} channels.",
            cure="Give one of each for every channel, or none at all.",
        )
    return LatentScale(torch.tensor(settings.mean), torch.tensor(settings.std))


def _silhouette(image: Tensor) -> Tensor:
    """(1, S, S): where there is any light; published samples carry no mask, nor does their encoder want it."""
    return (image.amax(dim=0, keepdim=True) > 0).float()
