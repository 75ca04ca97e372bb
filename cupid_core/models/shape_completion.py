"""Completes a shape from the evidence of one view: a 3-D U-net, in the frame of a coarse pose.

Recognizing the canonical rotation of an object is hard and is left to the image encoder. Completing what is seen
from a given frame is local: the network copies what mask and depth say and adds the hidden side. It also predicts
how the pose has to be corrected, so that a second pass works in a frame closer to the canonical one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.errors import ConfigError
from cupid_core.geometry.sim3 import Sim3
from cupid_core.models.evidence import EVIDENCE_CHANNELS, ViewEvidence, evidence_volume
from cupid_core.models.layers.precision import cast_torso

_GROUPS = 8
# Edge of the blocks of voxels that become one cell of the finest level.
_PATCH = 2
_POSE_CHANNELS = 16


class Completion(NamedTuple):
    """Prediction for B objects.

    Attributes:
        occupancy: (B, R, R, R) logits of the surface voxels, in the frame of the given pose.
        correction: (B, 7) tangent of `Sim3.exp`: the similarity from the canonical cube to the given one.
    """

    occupancy: Tensor
    correction: Tensor


class ShapeCompletion(nn.Module):
    """Evidence volume and class token to surface voxels and a correction of the pose.

    Args:
        resolution: voxels along an edge, R, a multiple of 8.
        in_channels: of the evidence.
        token_channels: width of the class token.
        channels: widths of the levels of R/2, R/4 and R/8 cells, multiples of 8.
        use_fp16: the torso starts in float16.

    Raises:
        ConfigError: sizes that do not fit.
    """

    def __init__(
        self,
        *,
        resolution: int = 32,
        in_channels: int = EVIDENCE_CHANNELS,
        token_channels: int = 192,
        channels: Sequence[int] = (32, 72, 96),
        use_fp16: bool = False,
    ) -> None:
        super().__init__()
        if resolution % 8 or len(channels) != 3 or any(width % _GROUPS for width in channels):
            raise ConfigError(
                f"Shape completion of {resolution} voxels with channels {tuple(channels)}.",
                hint="Use a multiple of 8 voxels and three widths that are multiples of 8.",
            )
        fine, middle, coarse = channels
        self.resolution, self.in_channels, self.token_channels = resolution, in_channels, token_channels
        self.channels = tuple(channels)
        self.input_layer = nn.Conv3d(in_channels * _PATCH**3, fine, 1)
        self.down_fine = ResidualBlock3d(fine)
        self.to_middle = nn.Conv3d(fine, middle, 2, 2)
        self.down_middle = ResidualBlock3d(middle)
        self.to_coarse = nn.Conv3d(middle, coarse, 2, 2)
        self.token_layer = nn.Linear(token_channels, coarse)
        self.coarse = ResidualBlock3d(coarse)
        self.from_coarse = nn.ConvTranspose3d(coarse, middle, 2, 2)
        self.up_middle = ResidualBlock3d(middle)
        self.from_middle = nn.ConvTranspose3d(middle, fine, 2, 2)
        self.up_fine = ResidualBlock3d(fine)
        self.out_layer = nn.Conv3d(fine, _PATCH**3, 1)
        self.pose_layer = nn.Conv3d(coarse, _POSE_CHANNELS, 1)
        self.pose_out = nn.Linear(_POSE_CHANNELS * (resolution // 8) ** 3, 7)
        nn.init.zeros_(self.pose_out.weight)  # starts without a correction
        nn.init.zeros_(self.pose_out.bias)

        self.to_precision(torch.float16 if use_fp16 else torch.float32)

    def to_precision(self, torso_dtype: torch.dtype) -> ShapeCompletion:
        """Put all but norms, class token and pose in `torso_dtype`, in place; returns the network."""
        torso = [part for name, part in self.named_children() if name not in ("token_layer", "pose_out")]
        cast_torso(torso, torso_dtype)
        self.torso_dtype = torso_dtype
        return self

    def forward(self, evidence: Tensor, token: Tensor) -> Completion:
        """Predict.

        Args:
            evidence: (B, in_channels, R, R, R).
            token: (B, token_channels) class token of the image encoder.
        """
        fine = self.down_fine(self.input_layer(_blocks(evidence.to(self.torso_dtype))))
        middle = self.down_middle(self.to_middle(fine))
        coarse = self.to_coarse(middle) + self.token_layer(token).to(middle.dtype)[:, :, None, None, None]
        coarse = self.coarse(coarse)
        pose = F.relu(self.pose_layer(coarse)).flatten(1).to(evidence.dtype)
        middle = self.up_middle(middle + self.from_coarse(coarse))
        fine = self.up_fine(fine + self.from_middle(middle))
        return Completion(_voxels(self.out_layer(fine)).to(evidence.dtype), self.pose_out(pose))


class ResidualBlock3d(nn.Module):
    """Two normalized convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(_GROUPS, channels), nn.GroupNorm(_GROUPS, channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, r, r, r) to the same shape."""
        hidden = self.conv1(F.relu(self.norm1(x)))
        refined: Tensor = self.conv2(F.relu(self.norm2(hidden)))
        return x + refined


def complete_shapes(
    network: ShapeCompletion, view: ViewEvidence, token: Tensor, S_camera_cube: Sim3, corrections: int
) -> tuple[Tensor, Sim3]:
    """Correct coarse poses, then complete the shapes in the frames of the corrected ones.

    Args:
        network: of the checkpoint.
        view: of B objects.
        token: (B, C) class tokens of the image encoder.
        S_camera_cube: (B,) float32 coarse poses.
        corrections: how many times the poses are corrected.

    Returns:
        Logits (B, R, R, R) of the surface voxels, and the (B,) poses of their cubes.
    """
    for _ in range(corrections):
        found: Completion = network(evidence_volume(view, S_camera_cube, network.resolution), token)
        S_camera_cube = S_camera_cube @ Sim3.exp(found.correction)
    found = network(evidence_volume(view, S_camera_cube, network.resolution), token)
    return found.occupancy, S_camera_cube


def _blocks(volume: Tensor) -> Tensor:
    """(B, C, R, R, R) to (B, 8 C, R/2, R/2, R/2)."""
    count, channels, edge = volume.shape[:3]
    cells = edge // _PATCH
    split = volume.reshape(count, channels, cells, _PATCH, cells, _PATCH, cells, _PATCH)
    return split.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(count, channels * _PATCH**3, cells, cells, cells)


def _voxels(blocks: Tensor) -> Tensor:
    """(B, 8, r, r, r) to (B, 2 r, 2 r, 2 r); undoes `_blocks` of one channel."""
    count, _, cells = blocks.shape[:3]
    split = blocks.reshape(count, _PATCH, _PATCH, _PATCH, cells, cells, cells)
    edge = cells * _PATCH
    return split.permute(0, 4, 1, 5, 2, 6, 3).reshape(count, edge, edge, edge)
