"""Metrics of shapes: on voxel grids, and on points of two surfaces."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.errors import InputError
from cupid_core.packages import open3d

# Points per block of the distance matrix.
_BLOCK = 1024
_TINY = 1e-9


def occupancy_iou(predicted: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union (B,) of bool grids (B, ...); 1 where both are empty."""
    both = (predicted & truth).flatten(1).sum(1)
    either = (predicted | truth).flatten(1).sum(1)
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both, dtype=torch.float32))


def occupancy_f1(predicted: Tensor, truth: Tensor) -> Tensor:
    """F1 (B,) of bool grids (B, R, R, R) where a voxel counts as correct up to one voxel away."""
    near_truth, near_predicted = _dilated(truth), _dilated(predicted)
    precision = (predicted & near_truth).flatten(1).sum(1) / predicted.flatten(1).sum(1).clamp(min=1)
    recall = (truth & near_predicted).flatten(1).sum(1) / truth.flatten(1).sum(1).clamp(min=1)
    return 2 * precision * recall / (precision + recall).clamp(min=_TINY)


@dataclass(frozen=True)
class SurfaceAgreement:
    """Agreement of two surfaces.

    Attributes:
        chamfer: mean distance of points of either surface to the other, mean of both directions, in their unit.
        precision: share of the predicted points within the tolerance of the truth.
        recall: share of the true points within the tolerance of the prediction.
    """

    chamfer: float
    precision: float
    recall: float

    @property
    def fscore(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, _TINY)


def surface_agreement(predicted: Tensor, truth: Tensor, tolerance: float) -> SurfaceAgreement:
    """Compare points of two surfaces.

    Args:
        predicted: (P, 3), P >= 1.
        truth: (Q, 3), Q >= 1, in the same frame and unit.
        tolerance: distance up to which a point counts as correct.

    Raises:
        InputError: one of them is empty.
        MissingPackageError: open3d cannot be loaded.
    """
    if not len(predicted) or not len(truth):
        raise InputError(
            f"Surfaces of {len(predicted)} and {len(truth)} points cannot be compared.",
            hint="Leave out what has no surface.",
        )
    to_truth, to_predicted = _distances(predicted, truth), _distances(truth, predicted)
    return SurfaceAgreement(
        chamfer=float(to_truth.mean() + to_predicted.mean()) / 2,
        precision=float((to_truth <= tolerance).float().mean()),
        recall=float((to_predicted <= tolerance).float().mean()),
    )


def nearest_points(points: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (P,) of points (P, 3) to the nearest of others (Q, 3), and its row (P,)."""
    found = [torch.cdist(block, others).min(dim=1) for block in torch.split(points, _BLOCK)]
    return torch.cat([pair.values for pair in found]), torch.cat([pair.indices for pair in found])


def _distances(points: Tensor, others: Tensor) -> Tensor:
    """Distance (P,) float64 of points (P, 3) to the nearest of others (Q, 3), by a search tree."""
    library = open3d()
    tree = library.core.nns.NearestNeighborSearch(library.core.Tensor(others.double().contiguous().numpy()))
    tree.knn_index()
    _, squared = tree.knn_search(library.core.Tensor(points.double().contiguous().numpy()), 1)
    return torch.from_numpy(squared.numpy()[:, 0].copy()).clamp(min=0).sqrt()


def _dilated(grid: Tensor) -> Tensor:
    return F.max_pool3d(grid[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
