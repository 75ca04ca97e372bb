"""The closed-form similarity between matched points, and what makes it undefined.

The arithmetic under `similarity`: always float64, batched, with undefined items marked instead of raised.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cupid_core.errors import AlignmentError, InvalidTensorError
from cupid_core.geometry import so3
from cupid_core.geometry.sim3 import Sim3

# A set thinner than this fraction of its length is a line: the rotation about it would be decided by rounding.
_LINE_LIMIT = 1e-4
# Coordinates are rounded to eps times their size; spread below a few of these steps is no spread.
ROUNDING_STEPS = 16.0
# A mirrored set whose two smaller singular values agree to this has an undetermined rotation about its main axis.
_MIRROR_GAP = 1e-4


@dataclass(frozen=True, eq=False)
class Fit:
    """A closed-form fit that may be undefined; `require_defined` checks it.

    Attributes:
        scale: (*B,).
        rotation: (*B, 3, 3), proper.
        translation: (*B, 3).
        defined: (*B,) bool, False where the rotation is not unique.
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor
    defined: Tensor

    def apply(self, points: Tensor) -> Tensor:
        """(*B, N, 3) of frame a to frame b."""
        turned = points @ self.rotation.transpose(-1, -2)
        return self.scale[..., None, None] * turned + self.translation[..., None, :]

    def transform(self) -> Sim3:
        """The similarity (*B); call it only where `defined`."""
        return Sim3(self.scale, so3.from_matrix(self.rotation), self.translation)


def umeyama(a: Tensor, b: Tensor, w: Tensor, with_scale: bool) -> Fit:
    """Weighted least-squares similarity of points a (*B, N, 3) to points b (*B, N, 3), weights (*B, N), float64.

    Never raises: items without a unique rotation or with a scale that is not positive are marked.

    Source: Umeyama, Least-squares estimation of transformation parameters between two point patterns, 1991.
    """
    share = (w / w.sum(-1, keepdim=True))[..., None]
    mean_a, mean_b = (share * a).sum(-2), (share * b).sum(-2)
    centered_a, centered_b = a - mean_a[..., None, :], b - mean_b[..., None, :]
    left, singular, right = torch.linalg.svd((share * centered_b).transpose(-1, -2) @ centered_a)
    # Flip the least certain direction where the best orthogonal matrix would mirror.
    sign = torch.where(torch.linalg.det(left) * torch.linalg.det(right) < 0, -1.0, 1.0).to(singular)
    signs = torch.stack((torch.ones_like(sign), torch.ones_like(sign), sign), dim=-1)
    rotation = (left * signs[..., None, :]) @ right
    variance = (share * centered_a.square()).sum((-1, -2))
    if with_scale:
        scale = (singular * signs).sum(-1) / torch.where(variance > 0, variance, torch.ones_like(variance))
    else:
        scale = torch.ones_like(variance)
    translation = mean_b - scale[..., None] * (rotation @ mean_a[..., None]).squeeze(-1)
    gap = singular[..., 1] + sign * singular[..., 2]
    defined = (gap > _MIRROR_GAP * singular[..., 1]) & (scale > 0) & (singular[..., 1] > 0)
    return Fit(scale, rotation, translation, defined)


def spread_out(points: Tensor, w: Tensor, dtype: torch.dtype) -> Tensor:
    """Whether weighted points (*B, N, 3) span more than a line, beyond rounding of the type they came in; (*B)."""
    share = (w / w.sum(-1, keepdim=True))[..., None]
    centered = points - (share * points).sum(-2, keepdim=True)
    extent = torch.linalg.eigvalsh((share * centered).transpose(-1, -2) @ centered).clamp(min=0.0).sqrt()
    largest = points.abs().amax((-1, -2))
    rounding = ROUNDING_STEPS * torch.finfo(dtype).eps * largest
    spread: Tensor = extent[..., 1] > torch.maximum(_LINE_LIMIT * extent[..., 2], rounding)
    return spread


def require_defined(defined: Tensor) -> None:
    """Refuse undefined fits.

    Args:
        defined: (*B) bool.

    Raises:
        AlignmentError: one of them is False; the message names the first.
    """
    if not bool(defined.all()):
        raise AlignmentError(
            f"The points do not determine a similarity{_which(~defined)}: all at one place, on one line, "
            "or mirrored and round.",
            hint="Use more of the object's surface, from an area rather than an edge.",
        )


def _which(bad: Tensor) -> str:
    """Names of the undefined items of a batch for a message; empty for a single item."""
    return f" in item {torch.nonzero(bad)[0].tolist()} of the batch" if bad.ndim else ""


def checked_pairs(
    points_a: Tensor, points_b: Tensor, weights: Tensor | None, minimum: int = 3
) -> tuple[Tensor, Tensor, Tensor]:
    """Validate and widen to float64; points of weight 0 become zeros, so that their NaN cannot spread.

    Args:
        points_a: (*B, N, 3).
        points_b: (*B, N, 3).
        weights: (*B, N), or None for ones.
        minimum: fewest pairs of positive weight that are accepted.

    Returns:
        Points a, points b (*B, N, 3) and weights (*B, N), float64.

    Raises:
        InvalidTensorError: shapes or types do not fit, or a weight is negative or not finite.
        AlignmentError: too few pairs of positive weight, or one of them is not finite.
    """
    shape = points_a.shape
    fits = points_b.shape == shape and len(shape) >= 2 and shape[-1] == 3
    if not fits or not (points_a.is_floating_point() and points_b.is_floating_point()):
        raise InvalidTensorError(
            f"Points have shapes {tuple(shape)} and {tuple(points_b.shape)}, "
            f"types {points_a.dtype} and {points_b.dtype}; expected two floating tensors of one shape (*B, N, 3).",
            hint="Match the points by index first.",
        )
    w = (
        torch.ones(shape[:-1], dtype=torch.float64, device=points_a.device)
        if weights is None
        else weights.double()
    )
    if w.shape != shape[:-1] or not bool((w.isfinite() & (w >= 0)).all()):
        raise InvalidTensorError(
            f"Weights have shape {tuple(w.shape)}; expected {tuple(shape[:-1])}, finite and not negative.",
            hint="Give one weight per pair of points, 0 for pairs to ignore.",
        )
    used = w > 0
    few = used.sum(-1) < minimum
    if bool(few.any()):
        raise AlignmentError(
            f"Fewer than {minimum} pairs of positive weight{_which(few)}.", hint="Give more pairs of points."
        )
    known = points_a.isfinite().all(-1) & points_b.isfinite().all(-1)
    unknown = (used & ~known).any(-1)
    if bool(unknown.any()):
        raise AlignmentError(
            f"Points of positive weight are NaN or infinite{_which(unknown)}.",
            hint="Leave out holes, or give them weight 0.",
        )
    a, b = (torch.where(used[..., None], points.double(), 0.0) for points in (points_a, points_b))
    return a, b, w
