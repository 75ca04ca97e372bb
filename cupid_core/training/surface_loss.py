"""Error of predicted canonical points: regression, silhouette and bins. Knows tensors only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.models.surface_head import SurfaceHead, SurfacePrediction, bin_targets
from cupid_core.training.stage import ExportedNetwork


@dataclass(frozen=True, eq=False)
class SurfaceLoss:
    """Terms, scalars.

    Attributes:
        points: robust error of the points, in multiples of the scale.
        mask: cross-entropy of being visible.
        bins: cross-entropy of the bins, mean over axes; 0 for a head without.
        error: mean distance, canonical units, for the log.
    """

    points: Tensor
    mask: Tensor
    bins: Tensor
    error: Tensor

    @property
    def total(self) -> Tensor:
        """Sum of the terms."""
        return self.points + self.mask + self.bins


def surface_loss(predicted: SurfacePrediction, xyz: Tensor, seen: Tensor, scale: float) -> SurfaceLoss:
    """Compare with the truth, at whatever cells that has (predictions are resized to it).

    Args:
        predicted: of n x n cells.
        xyz: (B, 3, g, g) canonical points.
        seen: (B, 1, g, g) bool, where they count.
        scale: error that costs about 1.
    """
    points, logits, bins = predicted
    weight = seen.to(points.dtype)
    count = weight.sum().clamp(min=1)
    size = xyz.shape[-1]
    if points.shape[-1] != size:
        resized = [_resized(field, size) for field in (points, logits)]
        points, logits = resized[0], resized[1]
        if bins is not None:
            bins = _resized(bins.flatten(1, 2), size).view(*bins.shape[:3], size, size)
    distance = F.smooth_l1_loss(points / scale, xyz / scale, reduction="none").sum(dim=1, keepdim=True)
    of_bins = points.new_zeros(())
    if bins is not None:
        entropy = -(bin_targets(xyz, bins.shape[2]) * bins.log_softmax(dim=2)).sum(dim=2).mean(dim=1, keepdim=True)
        of_bins = (entropy * weight).sum() / count
    with torch.no_grad():
        error = ((points - xyz).norm(dim=1, keepdim=True) * weight).sum() / count
    mask = F.binary_cross_entropy_with_logits(logits, weight)
    return SurfaceLoss((distance * weight).sum() / count, mask, of_bins, error)


def _resized(field: Tensor, size: int) -> Tensor:
    return F.interpolate(field, size=(size, size), mode="bilinear", align_corners=False)


def exported_head(head: SurfaceHead) -> ExportedNetwork:
    """The head as it goes into a checkpoint."""
    arguments = {"channels": head.channels, "bins": head.bins}
    return ExportedNetwork("surface_head", type(head).__name__, arguments, head)
