"""Structured latent to the factors of a radiance field in each voxel.

Source: TRELLIS (Xiang et al. 2024) section 3.1 on Strivec (Gao et al. 2023): per voxel a sum of `rank` products of
three vectors of length `dim`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cupid_core.errors import ConfigError
from cupid_core.geometry.grid import voxel_centers
from cupid_core.models.appearance_vae import SparseTransformerBase
from cupid_core.models.topology import VoxelTopology


@dataclass(frozen=True)
class RadianceField:
    """Tri-vector factors of N voxels.

    Attributes:
        positions: (N, 3) voxel centers in the object frame, cube [-0.5, 0.5]^3, z up.
        trivec: (N, rank, 3, dim) factors along x, y, z.
        density: (N, rank).
        colors_dc: (N, rank, 3) degree-0 spherical-harmonic color.
        item: (N,) int64 item of each voxel.
        resolution: voxels per axis.
    """

    positions: Tensor
    trivec: Tensor
    density: Tensor
    colors_dc: Tensor
    item: Tensor
    resolution: int


class SLatRadianceFieldDecoder(SparseTransformerBase):
    """The radiance-field decoder.

    Args:
        latent_channels: channels of the latent.
        representation_config: `rank` and `dim` of the factors.
        trunk: the arguments of `SparseTransformerBase`.

    Raises:
        ConfigError: `rank` or `dim` is missing.
    """

    def __init__(self, *, latent_channels: int, representation_config: Mapping[str, Any], **trunk: Any) -> None:
        super().__init__(in_channels=latent_channels, **trunk)
        missing = {"rank", "dim"} - set(representation_config)
        if missing:
            raise ConfigError(
                f"representation_config has no {' and no '.join(sorted(missing))}.",
                hint="Copy it from the published json of the decoder.",
            )
        self.rank, self.dim = int(representation_config["rank"]), int(representation_config["dim"])
        self.add_head(self.model_channels, self.rank * (3 * self.dim + 4))

    def forward(self, latent: Tensor, topology: VoxelTopology) -> Tensor:
        """Decode a latent (N, latent_channels) float32, not normalized: (N, rank (3 dim + 4)) float32."""
        return self.project(self.tokens(latent, topology))

    def attributes(self, raw: Tensor, topology: VoxelTopology) -> RadianceField:
        """Name the numbers of `forward`'s result; the factors are stored as differences from 1."""
        trivec, density, colors = torch.split(raw, [3 * self.rank * self.dim, self.rank, 3 * self.rank], dim=1)
        return RadianceField(
            positions=voxel_centers(topology.coords[:, 1:], topology.resolution),
            trivec=trivec.reshape(-1, self.rank, 3, self.dim) + 1,
            density=density,
            colors_dc=colors.reshape(-1, self.rank, 3),
            item=topology.item,
            resolution=topology.resolution,
        )
