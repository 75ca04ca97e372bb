"""Training and validation data of stage "appearance", from shards of views and of latents of generated objects."""

from __future__ import annotations

import math
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
from cupid_core.training.shards import ShardRows, ShardStore
from cupid_core.training.tabletop_source import TabletopSourceSettings
from cupid_core.training.tabletop_views import TabletopViewRecipe, unpack_bits
from cupid_core.training.view_change import (
    ViewChange,
    change_color,
    change_image,
    draw_change,
    draw_occlusion_known,
)
from cupid_core.training.voxel_truth import UNSEEN_SEED, VoxelGrid, VoxelTruth, tabletop_voxels

_OF_VIEWS = ("image", "occluder", "intrinsics", "T_camera_object")


@dataclass(frozen=True, eq=False)
class ValidationViews:
    """Views of objects that no training uses.

    Attributes:
        batch: one view of each object, the true shell, the latents of the autoencoder.
        voxels: the same voxels in the same order, with their truth; None where only the latents are known.
    """

    batch: AppearanceBatch
    voxels: VoxelTruth | None


class AppearanceSource(Protocol):
    """Views by number of the batch."""

    def views(self, number: int, count: int) -> list[AppearanceView]:
        """Training views; the same for the same number and count."""
        ...

    def validation(self, split: str, count: int, at_once: int, grid: VoxelGrid) -> Iterator[ValidationViews]:
        """Unseen objects, always the same.

        Args:
            split: "train" or "held_out" families.
            count: objects in all.
            at_once: objects in a batch.
            grid: resolution, windows and levels for which the networks of the stage need the voxels indexed.
        """
        ...

    def close(self) -> None:
        """Stop background work."""
        ...


class TabletopAppearanceSource:
    """Generated objects: the views of the structure stages, and latents of the same objects.

    Args:
        root: folder of the shards; those of views are shared with other stages that have the same settings.
        settings: of views and shards.
        autoencoder: folder of the export of stage "appearance-vae", and the networks read from it.
        shell: errors of the voxels of training objects.
        seed: of the data.
        workers: background processes for each of the two kinds of shards.
        device: where views are augmented, validation objects made and, without workers, shards.
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
        deadline: float = math.inf,
    ) -> None:
        self._settings, self._seed, self._device = settings, seed, device
        folder, self._codec = autoencoder
        objects = settings.objects_per_shard
        maker = "cpu" if workers else str(device)
        views = TabletopViewRecipe(settings.objects, objects, seed, device=maker)
        latents = LatentRecipe(folder, self._codec.digest, shell, objects, seed, device=maker)
        self._views = ShardStore(root, views, workers, deadline=deadline)
        self._latents = ShardStore(root, latents, workers, deadline=deadline)
        resident = settings.resident and torch.device(device).type != "cpu"
        self._rows = ShardRows(self._views, _OF_VIEWS, torch.device(device), resident=resident)
        self._request(settings.first_shards)

    def pool(self, number: int, size: int) -> int:
        """Shards that batch `number` may sample from; grows with the number, not with time."""
        settings = self._settings
        views = settings.objects_per_shard * settings.objects.views_per_object
        grown = int(number * size / (settings.uses_per_view * views))
        return min(settings.first_shards + grown, settings.most_shards)

    def views(self, number: int, count: int) -> list[AppearanceView]:
        """Views sampled uniformly from the pool, each augmented anew."""
        settings = self._settings
        generator = torch.Generator().manual_seed((self._seed << 40) + number)
        pool = self.pool(number, count)
        self._request(min(pool + 2, settings.most_shards))
        views_per_object = settings.objects.views_per_object
        shards = torch.randint(pool, (count,), generator=generator).tolist()
        numbers = torch.randint(settings.objects_per_shard * views_per_object, (count,), generator=generator)
        usable = [self._usable_shard(shard, pool) for shard in shards]
        stored = self._rows.gather(usable, dict.fromkeys(_OF_VIEWS, numbers))
        latents = [
            self._latents_of(shard, int(number) // views_per_object)
            for shard, number in zip(usable, numbers, strict=True)
        ]
        return self._augment(stored, latents, generator)

    def validation(self, split: str, count: int, at_once: int, grid: VoxelGrid) -> Iterator[ValidationViews]:
        """See `AppearanceSource`; views of the generator, not augmented."""
        settings = self._settings.objects.model_copy(update={"views_per_object": 1})
        for start in range(0, count, at_once):
            some = range(start, min(start + at_once, count))
            with torch.no_grad():
                views = sample_tabletop(some, settings, seed=UNSEEN_SEED, split=split, device=self._device)
                voxels = tabletop_voxels(
                    some, self._codec.grid, seed=UNSEEN_SEED, split=split, device=self._device
                )
                latent = encode(self._codec.encoder, voxels.truth, voxels.topology).mean
            batch = AppearanceBatch(
                image=with_hidden(views.image, views.occluder),
                unoccluded=1 - views.occluder,
                T_camera_object=views.T_camera_object,
                intrinsics=views.intrinsics,
                topology=grid.index(voxels.topology.coords),
                latent=latent,
            )
            yield ValidationViews(batch, voxels)

    def close(self) -> None:
        """Stop the workers."""
        self._views.close()
        self._latents.close()

    def _request(self, count: int) -> None:
        self._views.request(count)
        self._latents.request(count)

    def _usable_shard(self, shard: int, pool: int) -> int:
        """The shard, or the next one whose views and latents can both be read."""
        for offset in range(pool):
            index = (shard + offset) % pool
            if self._views.read(index) is not None and self._latents.read(index) is not None:
                return index
        # All are damaged: this raises.
        return max(self._views.next_good(shard, pool), self._latents.next_good(shard, pool))

    def _latents_of(self, shard: int, object_: int) -> tuple[Tensor, Tensor, Tensor]:
        """Voxels (N, 3) and latents (N, C) of an object, and whether it is mirrored."""
        latents = self._latents.read(shard)
        assert latents is not None, "the shard is usable"
        start, end = latents["start"][object_ : object_ + 2].tolist()
        return latents["coords"][start:end], latents["latent"][start:end], latents["mirrored"][object_]

    def _augment(
        self,
        stored: dict[str, Tensor],
        latents: list[tuple[Tensor, Tensor, Tensor]],
        generator: torch.Generator,
    ) -> list[AppearanceView]:
        """Augment stored views, all at once, and add the latents of their objects."""
        settings, count, size = self._settings.change, len(latents), stored["image"].shape[-1]
        mirrored = torch.stack([part[2] for part in latents])
        change = with_mirrored(draw_change(count, settings, generator), mirrored).to(torch.device(self._device))
        occluder = unpack_bits(stored["occluder"], size * size).view(count, 1, size, size).float()
        image, occlusion_mask = change_image(stored["image"].float() / 255, occluder, change)
        image = change_color(image, settings, generator)
        known = draw_occlusion_known(count, settings, generator).to(self._device)
        occlusion_mask = occlusion_mask * known.view(-1, 1, 1, 1)
        T_camera_object, intrinsics = change_camera(stored["T_camera_object"], stored["intrinsics"], change)
        image, unoccluded = with_hidden(image, occlusion_mask), 1 - occlusion_mask
        sizes = [len(coords) for coords, _, _ in latents]
        coords = torch.split(torch.cat([part[0] for part in latents]).to(self._device).long(), sizes)
        latent = torch.split(torch.cat([part[1] for part in latents]).to(self._device).float(), sizes)
        columns = (image, unoccluded, T_camera_object, intrinsics, coords, latent)
        return [AppearanceView(*row) for row in zip(*columns, strict=True)]


def with_mirrored(change: ViewChange, mirrored: Tensor) -> ViewChange:
    """The same augmentations, but with exactly the objects (B,) bool mirrored that are asked for."""
    sign = torch.where(change.mirrored ^ mirrored, -1.0, 1.0)
    across = torch.stack([sign, torch.ones_like(sign)], dim=1)
    return replace(change, matrix=change.matrix * across[:, None], mirrored=mirrored)


def change_camera(T_camera_object: Tensor, intrinsics: Tensor, change: ViewChange) -> tuple[Tensor, Tensor]:
    """Camera of augmented views: projecting with it gives the positions in the augmented image.

    Args:
        T_camera_object: (B, 4, 4); for a mirrored object it becomes a reflection, not a rigid motion.
        intrinsics: (B, 3, 3) normalized; for a rolled view they are no longer upper triangular.
        change: of these views.

    Returns:
        (B, 4, 4) and (B, 3, 3).
    """
    plane = torch.eye(3, device=intrinsics.device).repeat(len(intrinsics), 1, 1)
    middle = torch.full((2, 1), 0.5, device=intrinsics.device)
    plane[:, :2, :2] = change.matrix
    plane[:, :2, 2:] = middle - change.matrix @ middle + change.shift[..., None]
    flip = torch.eye(4, device=intrinsics.device).repeat(len(intrinsics), 1, 1)
    flip[:, 1, 1] = torch.where(change.mirrored, -1.0, 1.0)
    return T_camera_object @ flip, plane @ intrinsics
