"""Image features at the place where each voxel projects.

Source: CUPID (arXiv 2510.20776) section 3.3. Once the camera is known, every voxel has an image position uv, where
features of the image are sampled: a latent (image tokens at uv through the structured-latent
encoder) and a pyramid of shallow color features. Both depend on image and uv only, so they are computed once per
run.

uv is normalized, (0, 0) the outer corner of the first pixel and (1, 1) that of the last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.errors import InputError, InvalidTensorError
from cupid_core.models.appearance_vae import SLatEncoder
from cupid_core.models.topology import VoxelTopology

PREFIX_TOKENS = 5
"""Class token and four registers, which come before the patches in the token sequence of the image encoder."""


@dataclass(frozen=True)
class VoxelView:
    """Image features for the N voxels of a topology, from one image per item.

    Several items may share an image: then Bc images serve B = k Bc items, the k items of one image adjacent.

    Attributes:
        uv: (N, 2) normalized image position of each voxel, in [0, 1].
        tokens: (Bc, prefix + P * P, C) image tokens, patches row by row; all zero for the null condition.
        image: (Bc, 3, H, W) RGB in [0, 1] on black, or (Bc, 4, H, W) with the visibility mask; None if not used.
        latent: (N, latent channels) from `with_latent`; None until then.
        visible: (N,) 1 where the voxel is visible, 0 where another occludes it; None if not used.
        position_table: (1, 1 + P * P, C) position embedding of the image encoder, class token first; None if not
            used.
        prefix_tokens: tokens before the patches.
    """

    uv: Tensor
    tokens: Tensor
    image: Tensor | None = None
    latent: Tensor | None = None
    visible: Tensor | None = None
    position_table: Tensor | None = None
    prefix_tokens: int = PREFIX_TOKENS

    def __post_init__(self) -> None:
        """Check shapes.

        Raises:
            InvalidTensorError: a shape is not the documented one.
        """
        count = self.uv.shape[0] if self.uv.dim() else 0
        shapes = {
            "uv": (self.uv, 2, (count, 2)),
            "tokens": (self.tokens, 3, ()),
            "image": (self.image, 4, ()),
            "latent": (self.latent, 2, (count,)),
            "visible": (self.visible, 1, (count,)),
            "position_table": (self.position_table, 3, (1,)),
        }
        for name, (value, dimensions, start) in shapes.items():
            if value is not None and (value.dim() != dimensions or value.shape[: len(start)] != start):
                raise InvalidTensorError(
                    f"VoxelView.{name} is {tuple(value.shape)}, expected {dimensions} dimensions"
                    f"{f', the first {start}' if start else ''}.",
                    hint="One row per voxel in uv, latent and visible; one item per image in tokens and image.",
                )

    def null(self) -> VoxelView:
        """The same voxels under the null condition: tokens, image and latent all zero."""
        return replace(
            self,
            tokens=torch.zeros_like(self.tokens),
            image=None if self.image is None else torch.zeros_like(self.image),
            latent=None if self.latent is None else torch.zeros_like(self.latent),
        )

    def with_latent(self, encoder: SLatEncoder, topology: VoxelTopology) -> VoxelView:
        """Add the conditioning latent.

        Args:
            encoder: structured-latent encoder.
            topology: of the voxels, with the windows of the encoder.
        """
        return replace(self, latent=latent_features(encoder, self, topology))


def latent_features(encoder: SLatEncoder, view: VoxelView, topology: VoxelTopology) -> Tensor:
    """Posterior mean of the structured latent of the image tokens at each voxel.

    Not normalized, unlike the latent that the flow denoises. Items whose prefix tokens are all zero are under the
    null condition and get zeros.

    Returns:
        (N, latent channels).
    """
    patches = patch_map(view.tokens, view.prefix_tokens)
    mean: Tensor = encoder(sample_at(patches, view.uv, topology), topology).mean
    live = (view.tokens[:, : max(view.prefix_tokens, 1)] != 0).flatten(1).any(dim=1)
    item_live = live.to(mean.dtype)[:, None].repeat_interleave(topology.batch_size // len(live), dim=0)
    return mean * topology.per_voxel(item_live)


def visual_features(
    convolutions: Iterable[nn.Module], image: Tensor, uv: Tensor, topology: VoxelTopology, resolution: int
) -> Tensor:
    """Shallow image features at several scales: the output of every convolution of a chain, sampled at uv.

    Args:
        convolutions: the chain; each halves the resolution or keeps it.
        image: (Bc, channels, H, W), resized to `resolution` first.
        uv: (N, 2).
        topology: of the voxels.
        resolution: edge of the image that the first convolution reads.

    Returns:
        (N, sum of the convolutions' channels).
    """
    level = image.float()
    if tuple(level.shape[-2:]) != (resolution, resolution):  # an exported graph cannot hold an antialiased resize
        level = F.interpolate(
            level, size=(resolution, resolution), mode="bilinear", align_corners=False, antialias=True
        )
    sampled = []
    for convolution in convolutions:
        level = convolution(level)
        sampled.append(sample_at(level, uv, topology))
    return torch.cat(sampled, dim=1)


def sample_at(maps: Tensor, uv: Tensor, topology: VoxelTopology) -> Tensor:
    """Bilinear samples of image-like maps, zero outside; samples near the border mix with that zero.

    Args:
        maps: (Bc, C, H, W), one per image.
        uv: (N, 2).
        topology: of the voxels, B = k Bc items.

    Returns:
        (N, C) float32.
    """
    places = topology.items.gather(2 * uv - 1)
    grid = places.reshape(maps.shape[0], -1, *places.shape[1:])
    sampled = F.grid_sample(maps.float(), grid.float(), mode="bilinear", padding_mode="zeros", align_corners=False)
    return topology.items.scatter(sampled.permute(0, 2, 3, 1).flatten(0, 1))


def patch_map(tokens: Tensor, prefix_tokens: int = PREFIX_TOKENS) -> Tensor:
    """The patch tokens as a map: (Bc, prefix + P * P, C) to (Bc, C, P, P).

    Raises:
        InputError: the patches are not a square.
    """
    patches = tokens[:, prefix_tokens:]
    side = math.isqrt(int(patches.shape[1]))
    if side * side != patches.shape[1]:
        raise InputError(
            f"{patches.shape[1]} patch tokens after {prefix_tokens} others are not a square map.",
            hint="Give the tokens of a square image and the encoder's number of prefix tokens.",
        )
    return patches.transpose(1, 2).reshape(tokens.shape[0], -1, side, side)


def visible_voxels(uv: Tensor, depth: Tensor, topology: VoxelTopology, *, cells: int = 64) -> Tensor:
    """Voxels that no other voxel of the same item occludes.

    A depth buffer of cells x cells per item keeps the nearest voxel; a voxel is visible if it is at most two voxel
    edges behind the nearest of its cell. Voxels outside the image are not visible.

    Args:
        uv: (N, 2).
        depth: (N,) distance along the optical axis, in units of the canonical cube.
        topology: of the voxels.
        cells: edge of the depth buffer; about the number of voxels across the object in the image, so that a
            surface leaves no holes.

    Returns:
        (N,) float32, 0 or 1.
    """
    inside = ((uv >= 0) & (uv <= 1)).all(dim=1)
    cell = (uv * cells).long().clamp(0, cells - 1)
    place = (topology.item * cells + cell[:, 1]) * cells + cell[:, 0]
    nearest = depth.new_full((topology.batch_size * cells * cells,), torch.inf)
    nearest = nearest.scatter_reduce(0, place, depth, reduce="amin")
    return (inside & (depth <= nearest[place] + 2 / topology.resolution)).float()
