"""Views of stage "appearance" from an asset data set in the published layout, with its structured latents."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from cupid_core.data.assets.layout import AssetFolder
from cupid_core.data.assets.samples import LatentScale, appearance_sample
from cupid_core.errors import ConfigError
from cupid_core.training.appearance_batch import AppearanceView, collate
from cupid_core.training.appearance_settings import AssetLatentSettings
from cupid_core.training.appearance_source import ValidationViews
from cupid_core.training.asset_pool import AssetPool
from cupid_core.training.settings import AssetSourceSettings
from cupid_core.training.voxel_truth import VoxelGrid

# As in the published training, larger objects are left out.
_MAX_VOXELS = 32768


class AssetAppearanceSource:
    """`AppearanceSource` of assets. Their latents are given, so there is no truth to decode against.

    Args:
        assets: folders, selection, resolution, crop.
        latents: which latents, and their scale.
        seed: of the order and the crops.
        device: where validation batches go.

    Raises:
        DatasetError: a folder is no data set, or no asset in it passes the selection.
        ConfigError: mean and deviation of the latents do not have one value per channel.
    """

    def __init__(
        self,
        assets: AssetSourceSettings,
        latents: AssetLatentSettings,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._sample, self._latents, self._device = assets.sample, latents, device
        self._scale = latent_scale(latents)
        needs = ("cond_rendered", f"latent_{latents.model}")
        self._pool = AssetPool(assets, needs, seed=seed, max_voxels=_MAX_VOXELS)

    def views(self, number: int, count: int) -> list[AppearanceView]:
        """Views of assets, sampled uniformly."""
        return [self._pool.training(number, place, self._read) for place in range(count)]

    def validation(self, split: str, count: int, at_once: int, grid: VoxelGrid) -> Iterator[ValidationViews]:
        """Assets kept for validation; there are no held-out families."""
        if split != "train":
            return
        for start in range(0, count, at_once):
            places = range(start, min(start + at_once, count))
            views = [self._pool.validation(place, self._read) for place in places]
            yield ValidationViews(collate(views, grid, self._device), None)

    def close(self) -> None:
        """Nothing runs in the background."""

    def _read(self, asset: AssetFolder, generator: np.random.Generator) -> AppearanceView:
        view = asset.drawn_view(generator)
        sample = appearance_sample(
            asset, view, self._sample, self._latents.model, scale=self._scale, generator=generator
        )
        return AppearanceView(
            image=torch.cat([sample.view.image, sample.view.mask]),
            unoccluded=torch.ones_like(sample.view.mask),
            T_camera_object=sample.view.T_camera_object.matrix().float(),
            intrinsics=sample.view.K_normalized.float(),
            coords=sample.coords.long(),
            latent=sample.latent,
        )


def latent_scale(settings: AssetLatentSettings) -> LatentScale | None:
    """Mean and deviation that normalize the latents; None where they are not normalized.

    Raises:
        ConfigError: not one mean and one deviation for each channel.
    """
    if not settings.mean and not settings.std:
        return None
    if not len(settings.mean) == len(settings.std) == settings.channels:
        raise ConfigError(
            f"{len(settings.mean)} means and {len(settings.std)} deviations for {settings.channels} channels.",
            hint="Give one of each for every channel, or none at all.",
        )
    return LatentScale(torch.tensor(settings.mean), torch.tensor(settings.std))
