"""Latents of assets from trained autoencoders: what `cupid data prepare` writes beside voxels and views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cupid_core.config import AssetSampleConfig, ViewCropConfig
from cupid_core.data.assets.layout import AssetFolder, AssetView
from cupid_core.data.assets.prepare_asset import LatentRecipe
from cupid_core.data.assets.ray_scene import RayScene
from cupid_core.data.assets.samples import StructureSample, structure_sample
from cupid_core.data.assets.surface_truth import surface_corner_truth
from cupid_core.models.structure_vae import SparseStructureEncoder
from cupid_core.training.appearance_codec import ENCODER_KEY, cached_codec, encode, lattice_of
from cupid_core.training.asset_source import stack_samples
from cupid_core.training.export import EXPORT, network_hash, read_network
from cupid_core.training.settings import TrainConfig
from cupid_core.training.structure_vae_stage import ENCODER_KEYS, volume


@dataclass(frozen=True)
class StructureLatents:
    """`LatentRecipe` of stage "occupancy-vae" or "uv-vae".

    Attributes:
        export: folder of the stage's exported networks.
        kind: "occupancy" or "uv".
        weights: hash of the encoder.
        centered: see `StructureVaeSettings.centerd_input`.
        sample: resolution and crop; with buckets, every view is encoded at the middle of each.
    """

    export: Path
    kind: str
    weights: str
    centered: bool
    sample: AssetSampleConfig

    @property
    def folder(self) -> str:
        """Folder as in the published layout, with the name of the stage."""
        return f"{'ss' if self.kind == 'occupancy' else 'suv'}_latents/{self.kind}-vae"

    @property
    def column(self) -> str:
        """Column of metadata.csv as in the published layout."""
        return f"{'ss' if self.kind == 'occupancy' else 'suv'}_latent_{self.kind}-vae"

    @property
    def needs(self) -> tuple[str, ...]:
        """Parts of an asset that are read; occupancy is the same in every view."""
        return ("voxels",) if self.kind == "occupancy" else ("voxels", "renders_cond")

    @property
    def digest(self) -> str:
        """Text that differs where the latents differ."""
        return f"{self.weights} {self.centered} {self.sample.model_dump_json()}"

    def make(self, asset: AssetFolder) -> Mapping[str, Any]:
        """`mean`, or `VIEW_mean` and `VIEW_mean_cropRATIO` of every view; (C, r, r, r) float32 each.

        Raises:
            DatasetError: voxels or views cannot be read.
            TrainingError: the weights are not those of the hash any more.
        """
        if self.kind == "occupancy":
            return {"mean": self._encoded(asset.occupancy(self.sample.resolution)[None].float())[0].numpy()}
        latents: dict[str, Any] = {}
        for view in asset.views():
            named = self._samples(asset, view)
            volumes = volume(stack_samples([sample for _, sample in named]), self.kind, centered=self.centered)
            found = self._encoded(volumes).numpy()
            latents |= {name: latent for (name, _), latent in zip(named, found, strict=True)}
        return latents

    def _samples(self, asset: AssetFolder, view: AssetView) -> list[tuple[str, StructureSample]]:
        whole = self.sample.model_copy(update={"crop": None})
        found = [(f"{view.name}_mean", structure_sample(asset, view, whole))]
        if (crop := self.sample.crop) is None:
            return found
        for bucket in range(crop.buckets):
            middle = _middle(crop, bucket)
            sample = structure_sample(asset, view, self.sample.model_copy(update={"crop": middle}))
            found.append((f"{view.name}_mean_crop{int(middle.min_ratio * 1e4)}", sample))
        return found

    @torch.no_grad()
    def _encoded(self, volumes: Tensor) -> Tensor:
        mean, _ = _structure_encoder(self.export, ENCODER_KEYS[self.kind], self.weights).forward(volumes)
        return mean


@dataclass(frozen=True)
class AppearanceLatents:
    """`LatentRecipe` of stage "appearance-vae"; its latents are normalized.

    Attributes:
        export: folder of the stage's exported networks.
        weights: hash of the encoder.
    """

    export: Path
    weights: str
    folder: str = "latents/appearance-vae"
    column: str = "latent_appearance-vae"
    needs: tuple[str, ...] = ("surface", "voxels")

    @property
    def digest(self) -> str:
        """Text that differs where the latents differ."""
        return self.weights

    @torch.no_grad()
    def make(self, asset: AssetFolder) -> Mapping[str, Any]:
        """`coords` (N, 3) uint8 and `feats` (N, C) float32.

        Raises:
            DatasetError: voxels or surface cannot be read.
            TrainingError: the weights are not those of the hash any more.
        """
        codec = cached_codec(self.export, self.weights)
        resolution = codec.grid.resolution
        coords = asset.occupancy(resolution)[0].nonzero()
        truth = surface_corner_truth(RayScene(asset.surface()), coords, resolution, lattice_of(codec.encoder) - 1)
        feats = encode(codec.encoder, truth, codec.grid.index(truth.voxels)).mean
        return {"coords": coords.numpy().astype(np.uint8), "feats": feats.float().numpy()}


def latent_recipes(root: Path, config: TrainConfig) -> list[LatentRecipe]:
    """Recipes of all autoencoders that are trained in a folder.

    Args:
        root: the --out of the training.
        config: its settings.
    """
    recipes: list[LatentRecipe] = []
    for kind, section in (("occupancy", config.occupancy_vae), ("uv", config.uv_vae)):
        export = root / f"{kind}-vae" / EXPORT
        if (weights := _weights(export, ENCODER_KEYS[kind])) is not None:
            sample = config.assets.sample
            recipes.append(StructureLatents(export, kind, weights, section.centerd_input, sample))
    export = root / "appearance-vae" / EXPORT
    if (weights := _weights(export, ENCODER_KEY)) is not None:
        recipes.append(AppearanceLatents(export, weights))
    return recipes


def _weights(export: Path, key: str) -> str | None:
    """Hash of an exported network; None where it is not there."""
    return network_hash(export, key) if (export / "ckpts" / f"{key}.safetensors").is_file() else None


def _middle(crop: ViewCropConfig, bucket: int) -> ViewCropConfig:
    """A crop that is always the middle of one bucket."""
    ratio = crop.min_ratio + (crop.max_ratio - crop.min_ratio) * ((bucket + 0.5) / crop.buckets)
    return crop.model_copy(update={"min_ratio": ratio, "max_ratio": ratio, "buckets": 0})


@cache
def _structure_encoder(export: Path, key: str, weights: str) -> SparseStructureEncoder:
    """Loaded once per process and weights."""
    return read_network(export, key, SparseStructureEncoder, torch.device("cpu"))
