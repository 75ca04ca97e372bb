"""Image to conditioning tokens: the DINOv2 vision transformer with registers.

Own implementation with the official parameter names, so that the official state dict loads strictly. Sources:
DINOv2 (Oquab et al. 2023), "Vision transformers need registers" (Darcet et al. 2023). CUPID takes the hidden state
before the final norm and normalizes it without gain or bias.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.errors import ConfigError, InvalidTensorError
from cupid_core.models.encoder_planes import select_planes
from cupid_core.models.layers.attention import attend
from cupid_core.models.layers.norms import LayerNorm32
from cupid_core.models.layers.precision import cast_torso

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_WIDTHS = {
    "dinov2_vits14_reg": (384, 12, 6),
    "dinov2_vitb14_reg": (768, 12, 12),
    "dinov2_vitl14_reg": (1024, 24, 16),
}


def image_encoder_args(name: str) -> dict[str, Any]:
    """Constructor arguments of an official DINOv2 network with registers.

    Args:
        name: "dinov2_vits14_reg", "dinov2_vitb14_reg" or "dinov2_vitl14_reg" (the published pipeline).

    Raises:
        ConfigError: an unknown name.
    """
    if name not in _WIDTHS:
        raise ConfigError(f"Image encoder '{name}' is not known.", hint=f"Use one of {', '.join(_WIDTHS)}.")
    embed_dim, depth, num_heads = _WIDTHS[name]
    return {"img_size": 518, "embed_dim": embed_dim, "depth": depth, "num_heads": num_heads}


class Attention(nn.Module):
    """Self-attention under the official parameter names."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) to (B, L, C)."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        out: Tensor = self.proj(attend(query, key, value).transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """Linear, exact GELU, linear under the official parameter names."""

    def __init__(self, channels: int, mlp_ratio: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, int(channels * mlp_ratio))
        self.fc2 = nn.Linear(int(channels * mlp_ratio), channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each token."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class LayerScale(nn.Module):
    """A gain per channel on the output of a branch."""

    def __init__(self, channels: int, init_values: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), init_values))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C)."""
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm transformer block with a layer scale on both branches."""

    def __init__(self, channels: int, num_heads: int, mlp_ratio: float, init_values: float) -> None:
        super().__init__()
        self.norm1 = LayerNorm32(channels, eps=1e-6)
        self.attn = Attention(channels, num_heads)
        self.ls1 = LayerScale(channels, init_values)
        self.norm2 = LayerNorm32(channels, eps=1e-6)
        self.mlp = Mlp(channels, mlp_ratio)
        self.ls2 = LayerScale(channels, init_values)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, C) to (B, L, C)."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens, rows outermost."""

    def __init__(self, patch_size: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, C, H / patch, W / patch)."""
        out: Tensor = self.proj(image)
        return out


class ImageEncoder(nn.Module):
    """What every image encoder offers: images (B, in_channels, H, W) to tokens (B, prefix + patches, embed_dim).

    Tokens are float32, layer-normed without gain or bias: class token, registers, then patches row by row.

    Attributes:
        img_size: edge in pixels of the images it was made for.
        patch_size: edge of a patch in pixels.
        shrink: squares of so many pixels are averaged before anything else.
        planes: what the image consists of, names of `encoder_planes.PLANES`.
        in_channels: of these planes.
        embed_dim: width of the tokens.
        native_grid: patches along an edge.
        num_prefix_tokens: tokens before the patches.
        pos_embed: (1, 1 + native_grid^2, embed_dim), class token first.
        torso_dtype: precision of the blocks.
    """

    img_size: int
    patch_size: int
    planes: tuple[str, ...] = ("rgb",)
    in_channels: int = 3
    shrink: int = 1
    embed_dim: int
    native_grid: int
    num_prefix_tokens: int
    pos_embed: nn.Parameter
    torso_dtype: torch.dtype = torch.float32

    def to_precision(self, torso_dtype: torch.dtype) -> ImageEncoder:
        """Put the blocks in `torso_dtype`, in place; returns the network."""
        raise NotImplementedError


def tokens_of(encoder: ImageEncoder, image: Tensor) -> Tensor:
    """Tokens (B, P, C) of views (B, C, S, S), channels as in `encoder_planes.PLANES`.

    An encoder that averages squares of pixels also takes views of the averaged size: their pixels are repeated, so
    that the average gives the views back.
    """
    image = select_planes(image, encoder.planes)
    if encoder.shrink > 1 and image.shape[-1] * encoder.shrink == encoder.img_size:
        image = F.interpolate(image, scale_factor=encoder.shrink)
    tokens: Tensor = encoder(image)
    return tokens


class DinoVisionTransformer(ImageEncoder):
    """DINOv2 with registers.

    Args:
        img_size: edge in pixels of the images the position table was made for.
        patch_size: edge of a patch in pixels.
        embed_dim: width of the tokens.
        depth: number of blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the feed-forward over the width.
        init_values: first value of the layer scales.
        num_register_tokens: tokens between the class token and the patches.
        ffn_layer: only "mlp"; the giant official network has another.
        block_chunks: only 0, the layout of the published state dicts.
        interpolate_antialias: only True; as all official networks with registers.
        interpolate_offset: only 0.0; as all official networks with registers.

    Raises:
        ConfigError: an option that this network does not have.
    """

    def __init__(
        self,
        *,
        img_size: int = 518,
        patch_size: int = 14,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        init_values: float = 1.0,
        num_register_tokens: int = 4,
        ffn_layer: str = "mlp",
        block_chunks: int = 0,
        interpolate_antialias: bool = True,
        interpolate_offset: float = 0.0,
    ) -> None:
        super().__init__()
        if (ffn_layer, block_chunks, interpolate_antialias, interpolate_offset) != ("mlp", 0, True, 0.0):
            raise ConfigError(
                "The image encoder has no such variant: "
                f"{ffn_layer=}, {block_chunks=}, {interpolate_antialias=}, {interpolate_offset=}.",
                hint="Use ffn_layer='mlp', block_chunks=0, interpolate_antialias=True, interpolate_offset=0.0.",
            )
        self.img_size, self.patch_size, self.embed_dim = img_size, patch_size, embed_dim
        self.native_grid = img_size // patch_size
        self.num_prefix_tokens = 1 + num_register_tokens
        self.patch_embed = PatchEmbed(patch_size, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.native_grid**2, embed_dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, num_register_tokens, embed_dim))
        self.mask_token = nn.Parameter(torch.zeros(1, embed_dim))  # of the official training; unused here
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, mlp_ratio, init_values) for _ in range(depth))
        self.norm = LayerNorm32(embed_dim, eps=1e-6)

    def to_precision(self, torso_dtype: torch.dtype) -> DinoVisionTransformer:
        """Put the blocks in `torso_dtype` (their norms stay float32), in place; returns the network."""
        cast_torso(self.blocks, torso_dtype)
        self.torso_dtype = torso_dtype
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Conditioning tokens.

        Args:
            image: (B, 3, H, W) RGB in [0, 1]; H and W multiples of the patch size.

        Returns:
            (B, prefix + patches, embed_dim) float32: class token, registers, patches row by row.

        Raises:
            InvalidTensorError: a size that the patch size does not divide.
        """
        hidden = self.hidden(image)
        return F.layer_norm(hidden, hidden.shape[-1:])

    def hidden(self, image: Tensor) -> Tensor:
        """Tokens before the final norm; arguments, shape and errors as `forward`."""
        height, width = image.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise InvalidTensorError(
                f"Image of {width}x{height} pixels for patches of {self.patch_size}.",
                hint=f"Resize it to {self.img_size}x{self.img_size}.",
            )
        channels = zip(image.unbind(1), IMAGENET_MEAN, IMAGENET_STD, strict=True)
        patches = self.patch_embed(torch.stack([(plane - mean) / std for plane, mean, std in channels], dim=1))
        cls_position, positions = self._positions(patches.shape[-2], patches.shape[-1])
        cls_token = (self.cls_token + cls_position).expand(image.shape[0], -1, -1)
        registers = self.register_tokens.expand(image.shape[0], -1, -1)
        x = torch.cat([cls_token, registers, patches.flatten(2).transpose(1, 2) + positions], dim=1)
        x = x.to(self.torso_dtype)
        for block in self.blocks:
            x = block(x)
        return x.to(image.dtype)

    def _positions(self, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Positions of the class token (1, 1, C) and of the patches (1, rows * columns, C)."""
        cls_position, table = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        if (rows, columns) == (self.native_grid, self.native_grid):
            return cls_position, table
        grid = table.float().transpose(1, 2).reshape(1, -1, self.native_grid, self.native_grid)
        resized = F.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=True)
        return cls_position, resized.flatten(2).transpose(1, 2).to(table.dtype)


def token_visibility(visible: Tensor, patch_size: int, num_prefix_tokens: int) -> Tensor:
    """Visible fraction of each token of an image encoder (CUPID, appendix A.2).

    Args:
        visible: (B, 1, H, W) in [0, 1], 0 where another object is in front.
        patch_size: edge of a patch in pixels; divides H and W.
        num_prefix_tokens: tokens before the patches, which describe the whole image and keep weight 1.

    Returns:
        (B, prefix + patches) float32.
    """
    fractions = F.avg_pool2d(visible.float(), patch_size).flatten(1)
    return F.pad(fractions, (num_prefix_tokens, 0), value=1.0)
