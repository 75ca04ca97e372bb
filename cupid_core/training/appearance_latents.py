"""Shards of structured latents: the voxels of generated objects and their latents from the frozen autoencoder.

They hold the same objects in the same order as the shards of views.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cupid_core.config import to_yaml
from cupid_core.data.corner_truth import CornerTruth
from cupid_core.data.tabletop.fine_truth import corner_truth
from cupid_core.data.tabletop.objects import build_objects
from cupid_core.data.tabletop.splits import draw_shape
from cupid_core.training.appearance_codec import FrozenCodec, cached_codec, encode, lattice_of
from cupid_core.training.appearance_settings import ShellNoiseSettings
from cupid_core.training.voxel_truth import perturb_shell

_OBJECTS_AT_ONCE = 4
# Random numbers of these shards must differ from others of the same seed.
_STREAM = 104_729


@dataclass(frozen=True)
class LatentRecipe:
    """Shards of O objects with N voxels in all.

    Tensors of a shard: coords (N, 3) uint8 and latent (N, C) float16, normalized, object by object; start (O + 1,)
    int64 first row of each object; mirrored (O,) bool, the object is its mirror image in y.

    Attributes:
        autoencoder: folder of the export of stage "appearance-vae".
        digest: of its weights.
        shell: errors of the shells.
        objects: O.
        seed: of the data set.
        split: "train" or "held_out".
        mirrored: share of mirrored objects.
        device: where latents are computed.
    """

    autoencoder: Path
    digest: str
    shell: ShellNoiseSettings
    objects: int = 128
    seed: int = 0
    split: str = "train"
    mirrored: float = 0.5
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Folder name, for people."""
        return f"appearance-latents-{self.split}-{self.seed}"

    def describe(self) -> str:
        """What the shards depend on."""
        lines = {
            "version": 1,
            "weights": self.digest,
            "objects": self.objects,
            "seed": self.seed,
            "split": self.split,
            "mirrored": self.mirrored,
        }
        return "".join(f"{key}: {value}\n" for key, value in lines.items()) + to_yaml(self.shell)

    def make(self, index: int) -> dict[str, Tensor]:
        """Objects index * O to (index + 1) * O - 1 of the data set."""
        codec = cached_codec(self.autoencoder, self.digest, self.device)
        generator = torch.Generator().manual_seed((self.seed * _STREAM + index) % 2**63)
        flipped = torch.rand(self.objects, generator=generator) < self.mirrored
        coords, latents, counts = [], [], []
        first = index * self.objects
        for start in range(0, self.objects, _OBJECTS_AT_ONCE):
            some = range(start, min(start + _OBJECTS_AT_ONCE, self.objects))
            indices = [first + number for number in some]
            truth, latent = self._encoded(codec, indices, flipped[some.start : some.stop], generator)
            coords.append(truth.voxels[:, 1:].cpu())
            latents.append(latent.cpu())
            counts.append(torch.bincount(truth.voxels[:, 0], minlength=len(indices)).cpu())
        start_of = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cat(counts).cumsum(0)])
        return {
            "coords": torch.cat(coords).to(torch.uint8),
            "latent": torch.cat(latents).to(torch.float16),
            "start": start_of,
            "mirrored": flipped,
        }

    def _encoded(
        self, codec: FrozenCodec, indices: list[int], flipped: Tensor, generator: torch.Generator
    ) -> tuple[CornerTruth, Tensor]:
        """Truth of some objects, mirrored where `flipped`, and the latents of its voxels, object by object."""
        shapes = [draw_shape(self.seed, index, split=self.split) for index in indices]
        objects = build_objects(shapes, codec.grid.resolution, self.device)
        shell = perturb_shell(objects.shell, self.shell, generator)
        truth = _flipped(
            corner_truth(objects, shell.nonzero(), lattice_of(codec.encoder) - 1), flipped.to(self.device)
        )
        with torch.no_grad():
            latent = encode(codec.encoder, truth, codec.grid.index(truth.voxels)).mean
        return truth, latent


def _flipped(truth: CornerTruth, objects: Tensor) -> CornerTruth:
    """Mirror the objects (O,) bool among those of a truth; the others stay."""
    mirror = truth.mirrored()
    # A corner belongs to one object, so every row of the corners is either mirrored or not.
    voxel = objects[truth.voxels[:, 0]]
    corner = torch.zeros(len(truth.sdf), dtype=torch.bool, device=voxel.device)
    corner[truth.place.flatten(1)] = voxel[:, None].expand(-1, truth.place[0].numel())
    return replace(
        truth,
        voxels=torch.where(voxel[:, None], mirror.voxels, truth.voxels),
        place=torch.where(voxel[:, None, None, None], mirror.place, truth.place),
        position=torch.where(corner[:, None], mirror.position, truth.position),
        normal=torch.where(corner[:, None], mirror.normal, truth.normal),
    )
