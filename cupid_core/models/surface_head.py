"""Predicts the canonical point of the object in each cell of the image; the coarse pose follows from them.

Sources: normalized object coordinates (Wang et al. 2019, "NOCS"), by regression and, as there, by bins along each
axis. A regression draws what it is unsure of towards the middle, which a similarity turns into a wrong size; the
mode of bins does not.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.geometry.grid import voxel_centers

_PER_TOKEN = 2
# Bins beside the fullest one whose mean is the point.
_MODE_WIDTH = 2


class SurfacePrediction(NamedTuple):
    """Prediction for n x n cells.

    Attributes:
        points: (B, 3, n, n) canonical points by regression.
        visible: (B, 1, n, n) logits of the cell showing the object.
        bins: (B, 3, bins, n, n) logits of the bins of each axis; None for a head without.
    """

    points: Tensor
    visible: Tensor
    bins: Tensor | None


class SurfaceHead(nn.Module):
    """Tokens to a grid twice as fine as theirs.

    Args:
        channels: width of the tokens.
        bins: along each axis of the canonical cube; 0 makes a head without.
    """

    def __init__(self, channels: int, bins: int = 0) -> None:
        super().__init__()
        self.channels, self.bins = channels, bins
        self.hidden = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, 4 * _PER_TOKEN**2)
        nn.init.zeros_(self.out.weight)  # starts at the middle of the cube
        nn.init.zeros_(self.out.bias)
        if bins:
            self.bins_hidden = nn.Linear(channels, channels)
            self.bins_out = nn.Linear(channels, 3 * bins * _PER_TOKEN**2)
            nn.init.zeros_(self.bins_out.weight)
            nn.init.zeros_(self.bins_out.bias)

    def to_precision(self, torso_dtype: torch.dtype) -> SurfaceHead:
        """Stays float32; returns the network."""
        return self

    def forward(self, tokens: Tensor, grid: int) -> SurfacePrediction:
        """Predict.

        Args:
            tokens: (B, grid^2, C), row by row.
            grid: tokens along an edge.

        Returns:
            Of n = 2 grid cells along an edge.
        """
        fine = _cells(self.out(F.gelu(self.hidden(tokens), approximate="tanh")), grid)
        bins = None
        if self.bins:
            logits = _cells(self.bins_out(F.gelu(self.bins_hidden(tokens), approximate="tanh")), grid)
            bins = logits.view(len(logits), 3, self.bins, *logits.shape[2:])
        return SurfacePrediction(fine[:, :3], fine[:, 3:], bins)


def _cells(rows: Tensor, grid: int) -> Tensor:
    """(B, grid^2, C * 4) to (B, C, 2 grid, 2 grid)."""
    return F.pixel_shuffle(rows.mT.reshape(len(rows), -1, grid, grid), _PER_TOKEN)


def bin_targets(points: Tensor, bins: int) -> Tensor:
    """Soft targets (B, 3, bins, n, n) of points (B, 3, n, n): shared between the two nearest centers."""
    place = ((points + 0.5) * bins - 0.5).clamp(0, bins - 1 - 1e-4)
    number = torch.arange(bins, device=points.device).view(1, 1, -1, 1, 1)
    return (1 - (place[:, :, None] - number).abs()).clamp(min=0)


def bin_points(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The mode along each axis and how sure it is.

    Args:
        logits: (B, 3, bins, n, n).

    Returns:
        Points (B, 3, n, n), the mean of the bins around the mode, and (B, 1, n, n) the probability that lies
        there, multiplied over the axes.
    """
    share = logits.softmax(dim=2)
    bins = share.shape[2]
    smooth = F.avg_pool3d(share, (3, 1, 1), stride=1, padding=(1, 0, 0))
    number = torch.arange(bins, device=logits.device).view(1, 1, -1, 1, 1)
    near = share * ((number - smooth.argmax(dim=2, keepdim=True)).abs() <= _MODE_WIDTH)
    mass = near.sum(dim=2)
    points = voxel_centers((near * number).sum(dim=2) / mass.clamp(min=1e-6), bins)
    return points, mass.prod(dim=1, keepdim=True)


def trusted_points(predicted: SurfacePrediction) -> tuple[Tensor, Tensor, Tensor]:
    """The predicted points as a list, with how far each is trusted.

    Returns:
        Canonical points (B, n^2, 3); weights (B, n^2), 0 where the object is not visible, and below 1 where the
        bins are unsure; and positions (n^2, 2) in the image, in [0, 1].
    """
    points, trust = predicted.points, torch.ones_like(predicted.visible)
    if predicted.bins is not None:
        points, trust = bin_points(predicted.bins)
    trust = trust * (predicted.visible > 0)
    n = points.shape[-1]
    axis = (torch.arange(n, device=points.device) + 0.5) / n
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    return points.flatten(2).mT, trust.flatten(1), torch.stack([u, v], dim=-1).view(-1, 2)
