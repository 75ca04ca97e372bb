"""Where the views of stage "appearance" come from: shards of views and of latents, and unseen objects for figures.

Knows shards, cameras and the generator; must not know losses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from cupid_core.data.tabletop import sample_tabletop
from cupid_core.models.conv_image_encoder import with_hidden
from cupid_core.training.appearance_batch import AppearanceBatch, AppearanceView
from cupid_core.training.appearance_codec import FrozenCodec, encode
from cupid_core.training.appearance_latents import LatentRecipe
from cupid_core.training.appearance_settings import ShellNoiseSettings
from cupid_core.training.shards import ShardStore
from cupid_core.training.tabletop_source import TabletopSourceSettings
from cupid_core.training.tabletop_views import TabletopViewRecipe, unpack_bits
from cupid_core.training.view_change import (
    ViewChange,
    change_colour,
    change_image,
    draw_change,
    draw_hidden_known,
)
from cupid_core.training.voxel_truth import UNSEEN_SEED, VoxelGrid, VoxelTruth, tabletop_voxels


@dataclass(frozen=True, eq=False)
class Unseen:
    """Views of objects that no training sees.

    Attributes:
        batch: one view of each object, the true shell, the latents the autoencoder gives.
        voxels: the same voxels in the same order, with their truth; None where only the latents are known.
    """

    batch: AppearanceBatch
    voxels: VoxelTruth | None


class AppearanceSource(Protocol):
    """Views by number of the batch."""

    def views(self, number: int, count: int) -> list[AppearanceView]:
        """Training views; the same for the same number and count."""
        ...

    def unseen(self, split: str, count: int, at_once: int, grid: VoxelGrid) -> Iterator[Unseen]:
        """Unseen objects, always the same.

        Args:
            split: "train" or "held_out" families.
            count: objects in all.
            at_once: objects in a batch.
            grid: as the networks of the stage want their voxels indexed.
        """
        ...

    def close(self) -> None:
        """Stop background work."""
        ...


class TabletopAppearanceSource:
    """Generated objects: views as the structure stages see them, latents of the same objects.

    Args:
        root: folder of the shards; those of views are shared with other stages that have the same settings.
        settings: of views and shards.
        autoencoder: what stage "appearance-vae" exported, and where.
        shell: how wrong the voxels of training objects are.
        seed: of the data.
        workers: background processes for either kind of shards.
        device: where unseen objects are made.
    """

    def __init__(
        self,
        root: Path,
        settings: TabletopSourceSettings,
        autoencoder: tuple[Path, FrozenCodec],
        shell: ShellNoiseSettings,
        *,
        seed: int = 0,
        workers: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self._settings, self._seed, self._device = settings, seed, device
        folder, self._codec = autoencoder
        objects = settings.objects_per_shard
        views = TabletopViewRecipe(settings.objects, objects, seed)
        latents = LatentRecipe(folder, self._codec.digest, shell, objects, seed)
        self._views, self._latents = ShardStore(root, views, workers), ShardStore(root, latents, workers)
        self._request(settings.first_shards)

    def pool(self, number: int, size: int) -> int:
        """Shards that batch `number` may draw from; it grows with the number, never with the clock."""
        settings = self._settings
        views = settings.objects_per_shard * settings.objects.views_per_object
        grown = int(number * size / (settings.uses_per_view * views))
        return min(settings.first_shards + grown, settings.most_shards)

    def views(self, number: int, count: int) -> list[AppearanceView]:
        """Views drawn evenly from the pool, each changed afresh."""
        settings = self._settings
        generator = torch.Generator().manual_seed((self._seed << 40) + number)
        pool = self.pool(number, count)
        self._request(min(pool + 2, settings.most_shards))
        each = settings.objects.views_per_object
        found = []
        for _ in range(count):
            shard, row = (int(torch.randint(high, (1,), generator=generator)) for high in (pool, each))
            object_ = int(torch.randint(settings.objects_per_shard, (1,), generator=generator))
            views, latents = self._pair(shard, pool)
            found.append(self._view(views, latents, (object_, object_ * each + row), generator))
        return found

    def unseen(self, split: str, count: int, at_once: int, grid: VoxelGrid) -> Iterator[Unseen]:
        """See `AppearanceSource`; views as the generator gives them, not changed."""
        settings = self._settings.objects.model_copy(update={"views_per_object": 1})
        for start in range(0, count, at_once):
            some = range(start, min(start + at_once, count))
            with torch.no_grad():
                seen = sample_tabletop(some, settings, seed=UNSEEN_SEED, split=split, device=self._device)
                voxels = tabletop_voxels(
                    some, self._codec.grid, seed=UNSEEN_SEED, split=split, device=self._device
                )
                latent = encode(self._codec.encoder, voxels.truth, voxels.topology).mean
            batch = AppearanceBatch(
                image=with_hidden(seen.image, seen.occluder),
                unoccluded=1 - seen.occluder,
                T_camera_object=seen.T_camera_object,
                intrinsics=seen.intrinsics,
                topology=grid.index(voxels.topology.coords),
                latent=latent,
            )
            yield Unseen(batch, voxels)

    def close(self) -> None:
        """Stop the workers."""
        self._views.close()
        self._latents.close()

    def _request(self, count: int) -> None:
        self._views.request(count)
        self._latents.request(count)

    def _pair(self, shard: int, pool: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Views and latents of the same objects; damaged shards are passed over together."""
        for offset in range(pool):
            index = (shard + offset) % pool
            views, latents = self._views.read(index), self._latents.read(index)
            if views is not None and latents is not None:
                return views, latents
        # All are damaged: the store says so.
        return self._views.read_next_good(shard, pool), self._latents.read_next_good(shard, pool)

    def _view(
        self,
        views: dict[str, Tensor],
        latents: dict[str, Tensor],
        rows: tuple[int, int],
        generator: torch.Generator,
    ) -> AppearanceView:
        object_, row = rows
        size = views["image"].shape[-1]
        change = forced_mirror(
            draw_change(1, self._settings.change, generator), latents["mirrored"][object_ : object_ + 1]
        )
        occluder = unpack_bits(views["occluder"][row : row + 1], size * size).view(1, 1, size, size).float()
        image, hidden = change_image(views["image"][row : row + 1].float() / 255, occluder, change)
        image = change_colour(image, self._settings.change, generator)
        hidden = hidden * draw_hidden_known(1, self._settings.change, generator).view(1, 1, 1, 1)
        T_camera_object, intrinsics = changed_camera(
            views["T_camera_object"][row : row + 1], views["intrinsics"][row : row + 1], change
        )
        start, end = latents["start"][object_ : object_ + 2].tolist()
        return AppearanceView(
            image=with_hidden(image, hidden)[0],
            unoccluded=1 - hidden[0],
            T_camera_object=T_camera_object[0],
            intrinsics=intrinsics[0],
            coords=latents["coords"][start:end].long(),
            latent=latents["latent"][start:end].float(),
        )


def forced_mirror(change: ViewChange, mirrored: Tensor) -> ViewChange:
    """The same change with the objects (B,) bool mirrored that are said to be, and no others."""
    turned = torch.where(change.mirrored ^ mirrored, -1.0, 1.0)
    across = torch.stack([turned, torch.ones_like(turned)], dim=1)
    return replace(change, matrix=change.matrix * across[:, None], mirrored=mirrored)


def changed_camera(T_camera_object: Tensor, intrinsics: Tensor, change: ViewChange) -> tuple[Tensor, Tensor]:
    """Camera of changed views: projecting with it gives the positions in the changed image.

    Args:
        T_camera_object: (B, 4, 4); of a mirrored object it becomes a mirroring matrix, no rigid motion.
        intrinsics: (B, 3, 3) normalised; of a rolled view they gain a skew and lose their order.
        change: of these views.

    Returns:
        (B, 4, 4) and (B, 3, 3).
    """
    plane = torch.eye(3).repeat(len(intrinsics), 1, 1)
    middle = torch.full((2, 1), 0.5)
    plane[:, :2, :2] = change.matrix
    plane[:, :2, 2:] = middle - change.matrix @ middle + change.shift[..., None]
    flip = torch.eye(4).repeat(len(intrinsics), 1, 1)
    flip[:, 1, 1] = torch.where(change.mirrored, -1.0, 1.0)
    return T_camera_object @ flip, plane @ intrinsics
