"""Autoencoder of dense 64^3 volumes: occupancy (1 channel) or the UV cube (3 channels).

Dense 3D convolutions, 64^3 to 16^3 and back; volumes are indexed [x, y, z]. Source: the sparse-structure VAE of
TRELLIS; CUPID trains a second one on (flag, u, v). `SparseStructure*` are the published class names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.errors import ConfigError
from cupid_core.models.layers.norms import ChannelLayerNorm32, GroupNorm32
from cupid_core.models.layers.precision import cast_torso


class ResBlock3d(nn.Module):
    """Norm, SiLU, convolution, twice, added to the input: (B, C, X, Y, Z) to the same.

    The second convolution starts at zero, so a fresh block is the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = ChannelLayerNorm32(channels)
        self.norm2 = ChannelLayerNorm32(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]  # Conv3d made with a bias

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        h = self.conv1(F.silu(self.norm1(x)))
        out: Tensor = x + self.conv2(F.silu(self.norm2(h)))
        return out


class Downsample3d(nn.Module):
    """Halve each edge: (B, Cin, 2X, 2Y, 2Z) to (B, Cout, X, Y, Z)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the strided convolution."""
        out: Tensor = self.conv(x)
        return out


class Upsample3d(nn.Module):
    """Double each edge: (B, Cin, X, Y, Z) to (B, Cout, 2X, 2Y, 2Z), a convolution and a 3D pixel shuffle."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels * 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Channel 8c + 4i + 2j + k of a cell becomes channel c of its child (i, j, k)."""
        h = self.conv(x)
        b, c, nx, ny, nz = h.shape
        h = h.reshape(b, c // 8, 2, 2, 2, nx, ny, nz).permute(0, 1, 5, 2, 6, 3, 7, 4)
        out: Tensor = h.reshape(b, c // 8, 2 * nx, 2 * ny, 2 * nz)
        return out


class SparseStructureEncoder(nn.Module):
    """Volume to the mean and log-variance of its latent.

    Args:
        in_channels: 1 for occupancy, 3 for the UV cube.
        latent_channels: channels of the latent.
        num_res_blocks: residual blocks per level.
        channels: width of each level, finest first; each further level halves the edge.
        num_res_blocks_middle: residual blocks at the coarsest level.
        norm_type: "layer" or "group"; concerns the output head alone, as in the published networks.
        use_fp16: the torso starts in float16.

    Raises:
        ConfigError: another `norm_type`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        latent_channels: int,
        num_res_blocks: int,
        channels: Sequence[int],
        num_res_blocks_middle: int = 2,
        norm_type: str = "layer",
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.torso_dtype = torch.float32
        self.input_layer = nn.Conv3d(in_channels, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList(_levels(channels, num_res_blocks, Downsample3d))
        self.middle_block = nn.Sequential(*(ResBlock3d(channels[-1]) for _ in range(num_res_blocks_middle)))
        self.out_layer = _head(channels[-1], 2 * latent_channels, norm_type)
        self.to_precision(torch.float16 if use_fp16 else torch.float32)

    def to_precision(self, torso_dtype: torch.dtype) -> SparseStructureEncoder:
        """Put the blocks in `torso_dtype` (their norms stay float32), in place; returns the network."""
        cast_torso((self.blocks, self.middle_block), torso_dtype)
        self.torso_dtype = torso_dtype
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            x: (B, in_channels, R, R, R) float32.

        Returns:
            mean and log-variance, (B, latent_channels, r, r, r) each, r = R / 2^(levels - 1).
        """
        h = self.input_layer(x).to(self.torso_dtype)
        for block in chain(self.blocks, self.middle_block):
            h = block(h)
        mean, logvar = self.out_layer(h.to(x.dtype)).chunk(2, dim=1)
        return mean, logvar


class SparseStructureDecoder(nn.Module):
    """Latent to the logits of its volume.

    Args:
        out_channels: 1 for occupancy, 3 for the UV cube.
        latent_channels: channels of the latent.
        num_res_blocks: residual blocks per level.
        channels: width of each level, coarsest first; each further level doubles the edge.
        num_res_blocks_middle: residual blocks at the coarsest level.
        norm_type: "layer" or "group"; concerns the output head alone, as in the published networks.
        use_fp16: the torso starts in float16.

    Raises:
        ConfigError: another `norm_type`.
    """

    def __init__(
        self,
        *,
        out_channels: int,
        latent_channels: int,
        num_res_blocks: int,
        channels: Sequence[int],
        num_res_blocks_middle: int = 2,
        norm_type: str = "layer",
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.torso_dtype = torch.float32
        self.input_layer = nn.Conv3d(latent_channels, channels[0], 3, padding=1)
        self.middle_block = nn.Sequential(*(ResBlock3d(channels[0]) for _ in range(num_res_blocks_middle)))
        self.blocks = nn.ModuleList(_levels(channels, num_res_blocks, Upsample3d))
        self.out_layer = _head(channels[-1], out_channels, norm_type)
        self.to_precision(torch.float16 if use_fp16 else torch.float32)

    def to_precision(self, torso_dtype: torch.dtype) -> SparseStructureDecoder:
        """Put the blocks in `torso_dtype` (their norms stay float32), in place; returns the network."""
        cast_torso((self.blocks, self.middle_block), torso_dtype)
        self.torso_dtype = torso_dtype
        return self

    def forward(self, z: Tensor) -> Tensor:
        """Decode.

        Args:
            z: (B, latent_channels, r, r, r) float32.

        Returns:
            (B, out_channels, R, R, R) logits, R = r * 2^(levels - 1).
        """
        h = self.input_layer(z).to(self.torso_dtype)
        for block in chain(self.middle_block, self.blocks):
            h = block(h)
        logits: Tensor = self.out_layer(h.to(z.dtype))
        return logits


def _levels(
    channels: Sequence[int], num_res_blocks: int, resample: type[Downsample3d] | type[Upsample3d]
) -> Iterator[nn.Module]:
    """Residual blocks of each level with a resampling block between levels."""
    for level, width in enumerate(channels):
        if level > 0:
            yield resample(channels[level - 1], width)
        for _ in range(num_res_blocks):
            yield ResBlock3d(width)


def _head(channels: int, out_channels: int, norm_type: str) -> nn.Sequential:
    if norm_type not in ("layer", "group"):
        raise ConfigError(f"norm_type is '{norm_type}'.", hint="Use 'layer' or 'group'.")
    norm = ChannelLayerNorm32(channels) if norm_type == "layer" else GroupNorm32(32, channels)
    return nn.Sequential(norm, nn.SiLU(), nn.Conv3d(channels, out_channels, 3, padding=1))
