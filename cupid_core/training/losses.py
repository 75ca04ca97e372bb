"""Losses of the structure autoencoders (occupancy and UV) and of the surface points that image tokens predict.

Source: TRELLIS (Xiang et al. 2024) for occupancy, CUPID (arXiv 2510.20776) for the UV volume; weights as released.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.config import StructureVaeLossConfig
from cupid_core.errors import InvalidTensorError
from cupid_core.models.surface_head import SurfaceHead, SurfacePrediction, bin_targets
from cupid_core.training.stage import ExportedNetwork


@dataclass(frozen=True, eq=False)
class UvTarget:
    """What the UV autoencoder should reproduce.

    Attributes:
        flag: (B, 1, R, R, R) bool or number, 1 where a voxel projects into the image.
        uv: (B, 2, R, R, R) normalized image coordinates in [0, 1].
        occupancy: (B, 1, R, R, R) bool or number, 1 where occupied.
    """

    flag: Tensor
    uv: Tensor
    occupancy: Tensor


@dataclass(frozen=True, eq=False)
class StructureVaeLoss:
    """Terms of the loss of a structure autoencoder, scalars, before their weights.

    Attributes:
        total: weighted sum, the one to differentiate.
        classification: occupancy, or the UV flag.
        kl: divergence of the posterior from the standard normal, mean over its elements.
        regression: u and v; None for occupancy.
    """

    total: Tensor
    classification: Tensor
    kl: Tensor
    regression: Tensor | None = None


def occupancy_vae_loss(
    logits: Tensor, occupancy: Tensor, mean: Tensor, logvar: Tensor, config: StructureVaeLossConfig
) -> StructureVaeLoss:
    """Loss of the occupancy autoencoder.

    Args:
        logits: (B, 1, R, R, R) decoder output.
        occupancy: (B, 1, R, R, R) bool or number, 1 where occupied.
        mean: (B, C, r, r, r) of the posterior.
        logvar: (B, C, r, r, r) logarithm of its variance.
        config: kinds and weights.

    Raises:
        InvalidTensorError: shapes do not fit.
    """
    classification = classification_loss(logits, occupancy, config.classification)
    divergence = kl_divergence(mean, logvar)
    return StructureVaeLoss(classification + config.kl_weight * divergence, classification, divergence)


def uv_vae_loss(
    logits: Tensor, target: UvTarget, mean: Tensor, logvar: Tensor, config: StructureVaeLossConfig
) -> StructureVaeLoss:
    """Loss of the UV autoencoder.

    Args:
        logits: (B, 3, R, R, R) decoder output: flag, u, v, before their sigmoid.
        target: the true volume.
        mean: (B, C, r, r, r) of the posterior.
        logvar: (B, C, r, r, r) logarithm of its variance.
        config: kinds and weights.

    Raises:
        InvalidTensorError: shapes do not fit.
    """
    classification = classification_loss(logits[:, :1], target.flag, config.classification)
    region = {"flag": target.flag, "occupied": target.occupancy, "all": torch.ones_like(target.flag)}[
        config.region
    ]
    regression = masked_regression_loss(torch.sigmoid(logits[:, 1:]), target.uv, region, config.regression)
    divergence = kl_divergence(mean, logvar)
    total = classification + config.uv_weight * regression + config.kl_weight * divergence
    return StructureVaeLoss(total, classification, divergence, regression)


def classification_loss(logits: Tensor, target: Tensor, kind: str) -> Tensor:
    """Error of binary logits, scalar.

    Args:
        logits: any shape.
        target: bool or number in [0, 1], same shape.
        kind: "dice" over the whole batch with one added above and below (defined for empty targets), "bce", or
            "l1" of the sigmoid.

    Raises:
        InvalidTensorError: shapes differ.
    """
    _check_same(logits, target)
    logits = _at_least_float32(logits)
    truth = target.to(logits.dtype)
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, truth)
    probability = torch.sigmoid(logits)
    if kind == "l1":
        return (probability - truth).abs().mean()
    overlap = (probability * truth).sum()
    return 1 - (2 * overlap + 1) / (probability.sum() + truth.sum() + 1)


def masked_regression_loss(prediction: Tensor, target: Tensor, mask: Tensor, kind: str) -> Tensor:
    """Error summed over channels, averaged over the voxels of a mask, scalar; 0 for an empty mask.

    Args:
        prediction: (B, C, ...).
        target: (B, C, ...).
        mask: (B, 1, ...) bool or weight.
        kind: "l1", "mse" or "huber" (delta 1).

    Raises:
        InvalidTensorError: shapes differ.
    """
    _check_same(prediction, target)
    _check_same(prediction[:, :1], mask)
    prediction, target = _at_least_float32(prediction), _at_least_float32(target)
    weight = mask.to(prediction.dtype)
    error = prediction - target
    if kind == "l1":
        error = error.abs()
    elif kind == "mse":
        error = error.square()
    else:
        error = F.huber_loss(prediction, target, reduction="none")
    # A sum over nothing is 0; the clamp keeps it so, and keeps gradients finite.
    tiny = torch.finfo(weight.dtype).tiny
    return (error * weight).sum() / weight.sum().clamp(min=tiny)


def kl_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL divergence of N(mean, exp(logvar)) from N(0, 1), mean over all elements, scalar."""
    mean, logvar = _at_least_float32(mean), _at_least_float32(logvar)
    return 0.5 * (mean.square() + logvar.exp() - logvar - 1).mean()


def _at_least_float32(values: Tensor) -> Tensor:
    """Sums over volumes overflow half precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _check_same(left: Tensor, right: Tensor) -> None:
    if left.shape != right.shape:
        raise InvalidTensorError(
            f"Shapes {tuple(left.shape)} and {tuple(right.shape)} differ.",
            hint="Give tensors of the same shape; they are not broadcast.",
        )


@dataclass(frozen=True, eq=False)
class SurfaceLoss:
    """Terms of the loss of the surface points, scalars.

    Attributes:
        points: robust error of the points, in multiples of the scale.
        mask: cross-entropy of being visible.
        bins: cross-entropy of the bins, mean over axes; 0 for a head without bins.
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


def surface_loss(predicted: SurfacePrediction, xyz: Tensor, visible_mask: Tensor, scale: float) -> SurfaceLoss:
    """Compare predicted surface points with the truth; predictions are resized to the grid of the truth.

    Args:
        predicted: of n x n cells.
        xyz: (B, 3, g, g) canonical points.
        visible_mask: (B, 1, g, g) bool, cells where the object is visible; only there are points compared.
        scale: error that counts about 1.
    """
    points, logits, bins = predicted
    weight = visible_mask.to(points.dtype)
    count = weight.sum().clamp(min=1)
    size = xyz.shape[-1]
    if points.shape[-1] != size:
        resized = [_resize(field, size) for field in (points, logits)]
        points, logits = resized[0], resized[1]
        if bins is not None:
            bins = _resize(bins.flatten(1, 2), size).view(*bins.shape[:3], size, size)
    distance = F.smooth_l1_loss(points / scale, xyz / scale, reduction="none").sum(dim=1, keepdim=True)
    bin_loss = points.new_zeros(())
    if bins is not None:
        entropy = -(bin_targets(xyz, bins.shape[2]) * bins.log_softmax(dim=2)).sum(dim=2).mean(dim=1, keepdim=True)
        bin_loss = (entropy * weight).sum() / count
    with torch.no_grad():
        error = ((points - xyz).norm(dim=1, keepdim=True) * weight).sum() / count
    mask = F.binary_cross_entropy_with_logits(logits, weight)
    return SurfaceLoss((distance * weight).sum() / count, mask, bin_loss, error)


def _resize(field: Tensor, size: int) -> Tensor:
    return F.interpolate(field, size=(size, size), mode="bilinear", align_corners=False)


def exported_head(head: SurfaceHead) -> ExportedNetwork:
    """The head as it is written into a checkpoint."""
    arguments = {"channels": head.channels, "bins": head.bins}
    return ExportedNetwork("surface_head", type(head).__name__, arguments, head)
