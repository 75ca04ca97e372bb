"""A head of training only: which canonical point of the object each part of the image shows. Knows tokens only.

Source: normalised object coordinates (Wang et al. 2019, "NOCS") as an auxiliary task.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.training.stage import ExportedNetwork

_PER_TOKEN = 2


class SurfaceHead(nn.Module):
    """Tokens to a grid twice as fine as theirs of canonical points and of the silhouette.

    Args:
        channels: width of the tokens.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, 4 * _PER_TOKEN**2)
        nn.init.zeros_(self.out.weight)  # starts at the middle of the cube
        nn.init.zeros_(self.out.bias)

    def to_precision(self, torso_dtype: torch.dtype) -> SurfaceHead:
        """Stays float32; returns the network."""
        return self

    def forward(self, tokens: Tensor, grid: int) -> tuple[Tensor, Tensor]:
        """Predict.

        Args:
            tokens: (B, grid^2, C), row by row.
            grid: tokens along an edge.

        Returns:
            Points (B, 3, 2 grid, 2 grid) and logits of being seen (B, 1, 2 grid, 2 grid).
        """
        made = self.out(F.gelu(self.hidden(tokens), approximate="tanh"))
        picture = F.pixel_shuffle(made.mT.unflatten(2, (grid, grid)), _PER_TOKEN)
        return picture[:, :3], picture[:, 3:]


@dataclass(frozen=True, eq=False)
class SurfaceLoss:
    """Terms, scalars.

    Attributes:
        points: robust error of the points, in multiples of the scale.
        mask: cross-entropy of being seen.
        error: mean distance, canonical units, for the log.
    """

    points: Tensor
    mask: Tensor
    error: Tensor


def surface_loss(points: Tensor, logits: Tensor, xyz: Tensor, seen: Tensor, scale: float) -> SurfaceLoss:
    """Compare with the truth, at whatever cells that has (predictions are resized to it).

    Args:
        points: (B, 3, n, n) predicted.
        logits: (B, 1, n, n) predicted.
        xyz: (B, 3, g, g) canonical points.
        seen: (B, 1, g, g) bool, where they count.
        scale: error that costs about 1.
    """
    if points.shape[-1] != xyz.shape[-1]:
        points, logits = (
            F.interpolate(field, size=xyz.shape[-2:], mode="bilinear", align_corners=False)
            for field in (points, logits)
        )
    weight = seen.to(points.dtype)
    count = weight.sum().clamp(min=1)
    distance = F.smooth_l1_loss(points / scale, xyz / scale, reduction="none").sum(dim=1, keepdim=True)
    with torch.no_grad():
        error = ((points - xyz).norm(dim=1, keepdim=True) * weight).sum() / count
    return SurfaceLoss(
        (distance * weight).sum() / count, F.binary_cross_entropy_with_logits(logits, weight), error
    )


def exported_head(head: SurfaceHead) -> ExportedNetwork:
    """The head as it goes beside a checkpoint, for a later training."""
    return ExportedNetwork("surface_head", type(head).__name__, {"channels": head.hidden.in_features}, head)
