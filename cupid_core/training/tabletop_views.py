"""Shards of generated tabletop objects and their views.

Image positions and surface points are not stored, because they follow from camera and depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cupid_core.config import to_yaml
from cupid_core.data.tabletop import TabletopBatch, TabletopSettings, sample_tabletop
from cupid_core.data.tabletop.crop_depth import CropGeometry, measure_crops
from cupid_core.models.encoder_planes import pixel_rays

# On a CPU; more at once cost memory and save no time. An accelerator makes a whole shard at once.
_OBJECTS_AT_ONCE = 16
DEPTH_STRIDE = 2
_GRAZING_COSINE = 0.26


@dataclass(frozen=True)
class TabletopViewRecipe:
    """Shards of O objects in V views each, object by object.

    Tensors of a shard, with r voxels, S pixels, N = O * V views:
        shell (O, r^3 / 8) uint8 packed, symmetry (O, 3), family (O,), scale_m (O,), index (O,);
        image (N, 4, S, S) uint8, occluder and mask_full (N, S^2 / 8) uint8 packed,
        depth (N, S / 2, S / 2) float16 true depth of every second pixel, NaN off the object, and
        measured (N, S, S) float16 as a sensor gives it inside the given mask, NaN where it does not, both less the
        depth of the object's center: absolute ones are too coarse in float16 at long focal lengths,
        intrinsics (N, 3, 3), T_camera_object (N, 4, 4), up (N, 3) float32, object frame.

    Attributes:
        settings: of the generator.
        objects: O.
        seed: of the data set.
        split: "train" or "held_out".
        device: where the generator computes.
    """

    settings: TabletopSettings
    objects: int = 128
    seed: int = 0
    split: str = "train"
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Folder name, for people."""
        return f"tabletop-views-{self.split}-{self.seed}"

    def describe(self) -> str:
        """Text that differs where shards differ; the comments of the YAML are part of it, and so of the hash."""
        return f"version: 3\nobjects: {self.objects}\nseed: {self.seed}\nsplit: {self.split}\n" + to_yaml(
            self.settings
        )

    def make(self, index: int) -> dict[str, Tensor]:
        """Objects index * O to (index + 1) * O - 1 of the data set."""
        first = index * self.objects
        parts = []
        at_once = _OBJECTS_AT_ONCE if self.device == "cpu" else self.objects
        for start in range(first, first + self.objects, at_once):
            chosen = range(start, min(start + at_once, first + self.objects))
            parts.append(self._tensors(chosen))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _tensors(self, indices: range) -> dict[str, Tensor]:
        with torch.no_grad():
            batch = sample_tabletop(
                indices, self.settings, seed=self.seed, split=self.split, device=self.device
            ).to("cpu")
            generator = torch.Generator().manual_seed((self.seed << 40) + indices[0])
            distance = batch.T_camera_object[:, 2, 3]
        return {
            "shell": pack_bits(batch.shell.flatten(1)),
            "symmetry": batch.symmetry,
            "family": batch.family,
            "scale_m": batch.scale_m.float(),
            "index": batch.index,
            "image": (batch.image.clamp(0, 1) * 255).round().to(torch.uint8),
            "occluder": pack_bits(batch.occluder.flatten(1) > 0.5),
            "mask_full": pack_bits(batch.mask_full.flatten(1) > 0.5),
            "depth": _relative(batch.depth[:, 0, ::DEPTH_STRIDE, ::DEPTH_STRIDE], distance),
            "measured": _relative(measure_crops(_geometry(batch), generator), distance),
            "intrinsics": batch.intrinsics.float(),
            "T_camera_object": batch.T_camera_object.float(),
            "up": batch.up.float(),
        }


def _geometry(batch: TabletopBatch) -> CropGeometry:
    """Depth, silhouettes and grazing angles of the views, for the simulated depth sensor."""
    rays = pixel_rays(batch.intrinsics, batch.depth.shape[-1])
    rays = torch.einsum("bji,bjhw->bihw", batch.T_camera_object[:, :3, :3], rays / rays.norm(dim=1, keepdim=True))
    return CropGeometry(
        depth=batch.depth[:, 0],
        silhouette=batch.mask_full[:, 0] > 0.5,
        occluder=batch.occluder[:, 0] > 0.5,
        given=batch.image[:, 3] > 0.5,
        grazing=(batch.normal * rays).sum(dim=1).abs() < _GRAZING_COSINE,
        distance=batch.T_camera_object[:, 2, 3],
    )


def _relative(depth: Tensor, distance: Tensor) -> Tensor:
    """Depth (N, n, n) minus the distance (N,), NaN where there is none; undone by `absolute_depth`."""
    difference = depth - distance.view(-1, 1, 1)
    return torch.where(depth > 0, difference, torch.nan).to(torch.float16)


def absolute_depth(relative: Tensor, distance: Tensor) -> Tensor:
    """Depth (N, n, n) float32 from stored values, 0 where there is none."""
    return torch.nan_to_num(relative.float() + distance.view(-1, 1, 1), nan=0.0)


def pack_bits(rows: Tensor) -> Tensor:
    """(N, M) bool to (N, M / 8) uint8; undone by `unpack_bits`."""
    return torch.from_numpy(np.packbits(rows.cpu().numpy(), axis=1))


def unpack_bits(packed: Tensor, count: int) -> Tensor:
    """(N, M / 8) uint8 to the first `count` of (N, M) bool; undoes `pack_bits`."""
    if packed.device.type == "cpu":
        return torch.from_numpy(np.unpackbits(packed.numpy(), axis=1, count=count)).bool()
    place = torch.arange(7, -1, -1, device=packed.device, dtype=torch.uint8)
    return ((packed[..., None] >> place) & 1).flatten(1)[:, :count].bool()
