"""Image to conditioning tokens at small scale: convolutions, then a few transformer blocks.

Has the same interface as the published image encoder (`models.image_encoder`): class token,
registers and patch tokens, layer-normed without gain or bias. The
convolutional stem lets a small network learn from far fewer images than a plain vision transformer with linear
patches (Xiao et al. 2021, "Early convolutions help transformers see better").
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.errors import ConfigError, InvalidTensorError
from cupid_core.models.encoder_planes import channels_of, normalized_planes
from cupid_core.models.image_encoder import ImageEncoder
from cupid_core.models.layers.blocks import TransformerBlock
from cupid_core.models.layers.norms import ChannelLayerNorm32
from cupid_core.models.layers.precision import cast_torso


class StemBlock(nn.Module):
    """Halve the edge: strided convolution, norm, GELU, then a residual pair of convolutions.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        residual: add the residual pair.
    """

    def __init__(self, in_channels: int, out_channels: int, *, residual: bool) -> None:
        super().__init__()
        self.down = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.norm = ChannelLayerNorm32(out_channels)
        self.residual = (
            nn.Sequential(
                nn.Conv2d(out_channels, out_channels, 3, padding=1),
                nn.GELU(approximate="tanh"),
                nn.Conv2d(out_channels, out_channels, 3, padding=1),
            )
            if residual
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, 2H, 2W) to (B, Cout, H, W)."""
        x = F.gelu(self.norm(self.down(x)), approximate="tanh")
        return x if self.residual is None else x + self.residual(x)


class ConvImageTransformer(ImageEncoder):
    """Convolutional stem, then transformer blocks over its cells.

    Args:
        img_size: edge of the images in pixels.
        planes: input planes, names of `encoder_planes.PLANES`.
        stem_channels: width of each halving of the stem; a cell is 2^levels pixels wide.
        stem_residual: levels of the stem, from 0, that have a residual pair of convolutions.
        embed_dim: width of the tokens.
        depth: number of transformer blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward over the width.
        num_register_tokens: tokens between the class token and the cells.
        use_fp16: the torso starts in float16.

    Raises:
        ConfigError: an image that the stem does not divide, or unknown planes.
    """

    def __init__(
        self,
        *,
        img_size: int = 128,
        planes: Sequence[str] = ("rgb", "mask"),
        stem_channels: Sequence[int] = (32, 64, 128),
        stem_residual: Sequence[int] = (2,),
        embed_dim: int = 256,
        depth: int = 4,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        num_register_tokens: int = 4,
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        self.img_size, self.patch_size, self.embed_dim = img_size, 2 ** len(stem_channels), embed_dim
        if img_size % self.patch_size:
            raise ConfigError(
                f"An image of {img_size} pixels, cells of {self.patch_size} pixels.",
                hint="Use a size that is a multiple of 2^levels of the stem.",
            )
        self.planes, self.in_channels = tuple(planes), channels_of(planes)
        self.native_grid = img_size // self.patch_size
        self.num_prefix_tokens = 1 + num_register_tokens
        widths = (self.in_channels, *stem_channels)
        self.stem = nn.ModuleList(
            StemBlock(widths[level], widths[level + 1], residual=level in stem_residual)
            for level in range(len(stem_channels))
        )
        self.proj = nn.Conv2d(widths[-1], embed_dim, 1)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, num_register_tokens, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.native_grid**2, embed_dim))
        self.blocks = nn.ModuleList(TransformerBlock(embed_dim, num_heads, mlp_ratio) for _ in range(depth))
        for table in (self.cls_token, self.register_tokens, self.pos_embed):
            nn.init.normal_(table, std=0.02)
        self.to_precision(torch.float16 if use_fp16 else torch.float32)

    def to_precision(self, torso_dtype: torch.dtype) -> ConvImageTransformer:
        """Put stem and blocks in `torso_dtype` (their norms stay float32), in place; returns the network."""
        cast_torso((self.stem, self.proj, self.blocks), torso_dtype)
        self.torso_dtype = torso_dtype
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Conditioning tokens.

        Args:
            image: (B, in_channels, S, S), the planes of this encoder.

        Returns:
            (B, prefix + cells, embed_dim) float32: class token, registers, cells row by row.

        Raises:
            InvalidTensorError: another size or number of channels.
        """
        x = normalized_planes(checked_image(image, self), self.planes).to(self.torso_dtype)
        for block in self.stem:
            x = block(x)
        cells = self.proj(x).flatten(2).transpose(1, 2)
        prefix = torch.cat([self.cls_token + self.pos_embed[:, :1], self.register_tokens], dim=1)
        prefix = prefix.expand(image.shape[0], -1, -1)
        x = torch.cat([prefix.to(cells.dtype), cells + self.pos_embed[:, 1:].to(cells.dtype)], dim=1)
        for block in self.blocks:
            x = block(x)
        return F.layer_norm(x.to(image.dtype), (self.embed_dim,))


def checked_image(image: Tensor, encoder: ImageEncoder) -> Tensor:
    """The image (B, C, S, S) itself, after a check of its shape.

    Raises:
        InvalidTensorError: another size or number of channels.
    """
    expected = (encoder.in_channels, encoder.img_size, encoder.img_size)
    if tuple(image.shape[1:]) != expected:
        raise InvalidTensorError(
            f"Images are {tuple(image.shape[1:])}, this encoder takes {expected}.",
            hint=f"Resize to {encoder.img_size} pixels; its planes are {', '.join(encoder.planes)}.",
        )
    return image


def with_hidden(image: Tensor, hidden: Tensor) -> Tensor:
    """Mark occluded pixels in the mask channel.

    Args:
        image: (B, 4, S, S) RGB on black and mask in [0, 1].
        hidden: (B, 1, S, S) in [0, 1], 1 where the object may continue out of sight (behind another object, beyond
            the border of the photograph).

    Returns:
        (B, 4, S, S): the mask channel is 1 on the object, 1/2 where occluded, 0 elsewhere.
    """
    mask = image[:, 3:]
    return torch.cat([image[:, :3], torch.maximum(mask, 0.5 * hidden * (1 - mask))], dim=1)
