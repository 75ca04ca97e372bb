"""Image to conditioning tokens at small scale: a convolutional pyramid, down to the whole view and up again.

Has the same interface as the published image encoder (`models.image_encoder`). To recognize which
side of an object is visible, every cell needs the context of the whole image; the way down gathers that at a cost
far below attention between all cells, the way up brings it back to them (feature pyramids, Lin et al. 2017).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.errors import ConfigError
from cupid_core.models.conv_image_encoder import checked_image
from cupid_core.models.encoder_planes import channels_of, normalized_planes
from cupid_core.models.image_encoder import ImageEncoder
from cupid_core.models.layers.norms import GroupNorm32
from cupid_core.models.layers.precision import cast_torso

_NORM_GROUPS = 8


class ResidualPair(nn.Module):
    """Two convolutions with group norm beside a shortcut (He et al. 2016).

    Args:
        in_channels: of the input.
        out_channels: of the output, a multiple of 8.
        stride: 2 halves the edge.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.first_norm = GroupNorm32(_NORM_GROUPS, out_channels)
        self.second = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.second_norm = GroupNorm32(_NORM_GROUPS, out_channels)
        same = stride == 1 and in_channels == out_channels
        self.shortcut = None if same else nn.Conv2d(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W) to (B, Cout, H / stride, W / stride)."""
        beside = x if self.shortcut is None else self.shortcut(x)
        x = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(x)) + beside)


class ConvImagePyramid(ImageEncoder):
    """Halvings with residual pairs down to a few cells and one vector, then back up to the cells of the tokens.

    Args:
        img_size: edge of the images in pixels; over `shrink`, a multiple of 2^levels.
        planes: what the image consists of, names of `encoder_planes.PLANES`.
        channels: width at each halving, at least four, multiples of 8; tokens are those after the third.
        pairs: residual pairs at each level after the first.
        shrink: edge of squares of pixels that are averaged first. The viewpoint can be recognized in a small image
            too, and a step then processes four times as many.
        embed_dim: width of the tokens.
        use_fp16: the torso starts in float16.

    Raises:
        ConfigError: an image that the levels do not divide, too few levels, or unknown planes.
    """

    def __init__(
        self,
        *,
        img_size: int = 128,
        planes: Sequence[str] = ("rgb", "mask"),
        channels: Sequence[int] = (32, 48, 96, 192, 256),
        pairs: int = 2,
        shrink: int = 1,
        embed_dim: int = 192,
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        unfit = img_size % (shrink * 2 ** len(channels))
        if unfit or len(channels) < _TOKEN_LEVEL + 1:
            raise ConfigError(
                f"An image of {img_size} pixels over {shrink}, {len(channels)} levels.",
                hint="Use at least 4 levels and a size that is a multiple of shrink * 2^levels.",
            )
        self.planes, self.in_channels = tuple(planes), channels_of(planes)
        self.img_size, self.embed_dim = img_size, embed_dim
        self.shrink = shrink
        self.patch_size = shrink * 2**_TOKEN_LEVEL
        self.native_grid, self.num_prefix_tokens = img_size // self.patch_size, 1
        self.stem = nn.Conv2d(self.in_channels, channels[0], 5, 2, 2)
        self.down = nn.ModuleList(
            nn.Sequential(
                ResidualPair(channels[level - 1], channels[level], 2),
                *(ResidualPair(channels[level], channels[level]) for _ in range(pairs - 1 if level > 1 else 0)),
            )
            for level in range(1, len(channels))
        )
        coarsest = img_size // (shrink * 2 ** len(channels))
        self.whole = nn.Linear(channels[-1] * coarsest**2, channels[-1])
        widths = list(channels[_TOKEN_LEVEL - 1 :])  # from the level of the tokens to the coarsest
        self.up = nn.ModuleList()
        below = 2 * widths[-1]
        for level in range(len(widths) - 1, -1, -1):
            beside = 0 if level == len(widths) - 1 else widths[level]
            out = max(widths[max(level - 1, 0)], 96 if embed_dim >= 96 else embed_dim)
            self.up.append(ResidualPair(below + beside, out))
            below = out
        self.proj = nn.Conv2d(below, embed_dim, 1)
        self.cls_proj = nn.Linear(channels[-1], embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.native_grid**2, embed_dim))
        nn.init.normal_(self.pos_embed, std=0.02)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a quarter faster on a CPU
        self.to_precision(torch.float16 if use_fp16 else torch.float32)

    def to_precision(self, torso_dtype: torch.dtype) -> ConvImagePyramid:
        """Put all but the norms in `torso_dtype`, in place; returns the network."""
        cast_torso((self.stem, self.down, self.whole, self.up, self.proj, self.cls_proj), torso_dtype)
        self.torso_dtype = torso_dtype
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Conditioning tokens.

        Args:
            image: (B, in_channels, S, S), the planes of this encoder.

        Returns:
            (B, 1 + cells, embed_dim) float32: class token, cells row by row.

        Raises:
            InvalidTensorError: another size or number of channels.
        """
        x = normalized_planes(checked_image(image, self), self.planes).to(self.torso_dtype)
        if self.shrink > 1:
            x = F.avg_pool2d(x, self.shrink)
        x = F.relu(self.stem(x.contiguous(memory_format=torch.channels_last)))
        levels = []
        for stage in self.down:
            x = stage(x)
            levels.append(x)
        whole = F.relu(self.whole(x.flatten(1)))
        x = torch.cat([x, whole[:, :, None, None].expand(-1, -1, *x.shape[2:])], dim=1)
        beside = [None, *levels[-2 : _TOKEN_LEVEL - 3 : -1]]
        for stage, level in zip(self.up, beside, strict=True):
            if level is not None:
                x = torch.cat([F.interpolate(x, scale_factor=2.0), level], dim=1)
            x = stage(x)
        cells = self.proj(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_proj(whole)[:, None], cells], dim=1).to(image.dtype) + self.pos_embed
        return F.layer_norm(tokens, (self.embed_dim,))


# Tokens are cells of 2^3 (shrunk) pixels, as those of the other small encoder.
_TOKEN_LEVEL = 3
