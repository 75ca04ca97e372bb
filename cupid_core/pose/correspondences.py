"""3D-2D pairs as they come in: checked, weighted, thinned out, and brought into one image coordinate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupid_core.config import PoseConfig
from cupid_core.errors import InvalidTensorError, TooFewCorrespondencesError
from cupid_core.geometry.camera import Camera
from cupid_core.pose.intrinsics import image_size
from cupid_core.pose.pinhole import Array
from cupid_core.pose.point_passes import PointBlock, residuals

Degeneracy = Literal["none", "planar", "line", "few_points"]

MINIMUM_POINTS = 6
# Below this many pairs the noise estimate and with it the covariance rest on hardly any redundancy.
FEW_POINTS = 12
# Standard deviation across over standard deviation along the points: a voxel row is exactly 0, a voxel sheet too,
# two sheets of a 64-grid over the whole cube are 0.027.
LINE_RATIO = 1e-3
PLANAR_RATIO = 0.02


@dataclass(frozen=True)
class Observation:
    """The correspondences of one object, ready for passes over points.

    Attributes:
        block: all pairs as a batch of one, in the type and on the device of the caller's points.
        border: (1, 1, N) true for pairs so close to the image border that they may be clamped; they have weight 0
            in `block`. None when there are none.
        base_weights: (1, 1, N) weights before the border rule, None for all ones.
        extent: width and height of the image in square coordinates; None where a lens bends its border.
        sample: at most `PoseConfig.sample_points` of the pairs that count, float64 on the CPU.
        usable: number of pairs that count.
    """

    block: PointBlock
    border: Tensor | None
    base_weights: Tensor | None
    extent: tuple[float, float] | None
    sample: PointBlock
    usable: int

    def inside(self, projection: Array, margin: float, most: int) -> Observation:
        """The same pairs, weighted by whether a pose projects them inside the image, whatever was measured.

        A clamped pair was moved to the border from outside, so its projection distinguishes it, while
        choosing by measured uv would let the noise choose its own points.

        Args:
            projection: (1, 3, 4) of a pose found without the pairs at the border.
            margin: distance to the border that counts as outside, as a fraction of the longer image side.
            most: `PoseConfig.sample_points`.

        Returns:
            Itself when there is no border to compare with, or when too few pairs would be left.
        """
        if self.border is None or self.extent is None:
            return self
        predicted = residuals(self.block, projection).predicted
        limit = predicted.new_tensor(self.extent)[:, None] - margin
        counts = ((predicted > margin) & (predicted < limit)).all(dim=1, keepdim=True).to(predicted.dtype)
        block = replace(self.block, weights=counts if self.base_weights is None else counts * self.base_weights)
        sample, usable = _sample(block, most)
        return self if usable < MINIMUM_POINTS else replace(self, block=block, sample=sample, usable=usable)

    @property
    def is_sample(self) -> bool:
        """Whether the sample holds all pairs that count."""
        return self.usable == self.sample.points.shape[2]


def observe(
    points_object: Tensor, uv: Tensor, weights: Tensor | None, camera: Camera | None, config: PoseConfig
) -> Observation:
    """Check the pairs of one object and prepare them.

    Args:
        points_object: (N, 3) floating, object frame.
        uv: (N, 2) floating, normalized image coordinates, 0 to 1 across the image.
        weights: (N,) floating, relative inverse variances, 0 for "does not count"; None for all ones.
        camera: gives image size and lens; None takes the size from the settings.
        config: border margin and sample size.

    Raises:
        InvalidTensorError: shapes, types or devices do not fit; NaN or infinity; a negative weight.
        TooFewCorrespondencesError: fewer than 6 pairs count.
    """
    _check(points_object, uv, weights)
    _require(len(points_object), len(points_object), 0)
    points_object = points_object.detach().float() if points_object.itemsize < 4 else points_object.detach()
    uv = uv.detach().to(points_object.dtype)
    x, y, z = points_object.unbind(-1)
    points = torch.stack((x, y, z, torch.ones_like(x)))[None]
    image = torch.stack(uv.unbind(-1))[None]
    base = None if weights is None else weights.detach().to(points_object.dtype)[None, None]
    border = _near_border(uv, image, config.border_margin)
    image, visible, extent = _square(uv, image, camera, config)
    if visible is not None:
        base = visible if base is None else base * visible
    base = _mean_one(base)
    counted = base
    if border is not None:
        counted = (~border).to(points_object.dtype) if base is None else torch.where(border, 0.0, base)
    block = PointBlock(points, image, counted)
    sample, usable = _sample(block, config.sample_points)
    _require(usable, len(uv), 0 if border is None else int(border.sum()))
    return Observation(block, border, base, extent, sample, usable)


def pad(blocks: Sequence[PointBlock]) -> PointBlock:
    """Join blocks along the batch; shorter ones are filled up with their first pair at weight 0."""
    if len(blocks) == 1:
        return blocks[0]
    length = max(block.points.shape[2] for block in blocks)
    if all(block.weights is None and block.points.shape[2] == length for block in blocks):
        return PointBlock(torch.cat([b.points for b in blocks]), torch.cat([b.image for b in blocks]))
    return PointBlock(
        torch.cat([_filled(b.points, length) for b in blocks]),
        torch.cat([_filled(b.image, length) for b in blocks]),
        torch.cat([torch.nn.functional.pad(_weights(b), (0, length - b.points.shape[2])) for b in blocks]),
    )


def spreads(moments: Array) -> Array:
    """Standard deviations along the principal axes, (B, d) smallest first, from sums of X X^T (B, d+1, d+1)."""
    total = moments[:, -1:, -1:]
    center = moments[:, :-1, -1:] / total
    scatter = moments[:, :-1, :-1] / total - center @ center.swapaxes(1, 2)
    return np.asarray(np.sqrt(np.maximum(np.linalg.eigvalsh(scatter), 0.0)))


def degeneracy(spread: Array, usable: int) -> Degeneracy:
    """Name what is special about one object's points.

    Args:
        spread: (3,) of `spreads`.
        usable: number of pairs that count.
    """
    if spread[1] <= LINE_RATIO * spread[2]:
        return "line"
    if usable < FEW_POINTS:
        return "few_points"
    return "planar" if spread[0] < PLANAR_RATIO * spread[2] else "none"


@lru_cache(maxsize=64)
def spread_indices(length: int, count: int) -> NDArray[np.int64]:
    """`count` increasing indices below `length`: one at a random (fixed) place in each of `count` equal strata.

    Voxels come in rows of equal length; equal steps could coincide with the row length and select a single plane.
    """
    edges = np.arange(count + 1, dtype=np.int64) * length // count
    jitter = np.random.default_rng(0).random(count)
    return edges[:-1] + (jitter * np.diff(edges)).astype(np.int64)


def _check(points: Tensor, uv: Tensor, weights: Tensor | None) -> None:
    fits = points.ndim == 2 and points.shape[-1] == 3 and uv.shape == (len(points), 2)
    if not fits or not points.is_floating_point() or not uv.is_floating_point() or points.device != uv.device:
        raise InvalidTensorError(
            f"Points {tuple(points.shape)} {points.dtype} on {points.device} and uv {tuple(uv.shape)} {uv.dtype} "
            f"on {uv.device} do not fit together.",
            hint="Give floating points (N, 3) and uv (N, 2) on one device.",
        )
    # One sum is cheap; it can only be finite if all terms are.
    if not math.isfinite(points.sum()):
        _check_finite(points, "point")
    if weights is None:
        return
    if weights.shape != points.shape[:1] or not weights.is_floating_point() or weights.device != points.device:
        raise InvalidTensorError(
            f"Weights have shape {tuple(weights.shape)} and type {weights.dtype}, expected ({len(points)},) "
            f"floating on {points.device}.",
            hint="Give one weight per pair.",
        )
    if not bool(((weights >= 0) & weights.isfinite()).all()):
        raise InvalidTensorError(
            "A weight is negative or not finite.", hint="Weights are inverse variances; use 0 for no trust."
        )


def _require(usable: int, count: int, at_border: int) -> None:
    if usable < MINIMUM_POINTS:
        raise TooFewCorrespondencesError(
            f"{usable} of {count} pairs count, {MINIMUM_POINTS} are needed ({at_border} lie at the image border).",
            hint="Give more pairs, positive weights, or a crop that holds more of the object.",
        )


def _check_finite(values: Tensor, name: str) -> None:
    bad = int((~values.isfinite()).any(dim=-1).sum())
    if bad:
        raise InvalidTensorError(
            f"{bad} of {len(values)} {name}s hold NaN or infinity.", hint="Remove them, or stop what made them."
        )


def _near_border(uv: Tensor, image: Tensor, margin: float) -> Tensor | None:
    """Which pairs (1, 1, N) lie within `margin` of the border or beyond it; None when none do.

    Raises:
        InvalidTensorError: NaN or infinity.
    """
    low, high = torch.aminmax(image)
    if float(low) >= margin and float(high) <= 1.0 - margin:
        return None
    _check_finite(uv, "uv")
    return ((image < margin) | (image > 1.0 - margin)).any(dim=1, keepdim=True)


def _square(
    uv: Tensor, image: Tensor, camera: Camera | None, config: PoseConfig
) -> tuple[Tensor, Tensor | None, tuple[float, float] | None]:
    """Normalized coordinates to square ones, without lens and skew.

    Returns:
        (1, 2, N); (1, 1, N) with 0 for pixels that no ray of the lens reaches, or None; `Observation.extent`.
    """
    width, height = image_size(camera, config)
    side = max(width, height)
    if camera is not None and (camera.lens is not None or float(camera.K[0, 1]) != 0.0):
        px = camera.uv_to_px(uv)
        ideal = camera.unproject(px, torch.ones_like(px[:, 0]))[:, :2].T[None]
        K = camera.K.to(ideal)
        scale, center = torch.stack((K[0, 0], K[1, 1])), K[:2, 2] + 0.5
        image = (ideal * scale[:, None] + center[:, None]) / side
        seen = image.isfinite().all(dim=1, keepdim=True)
        return torch.where(seen, image, 0.0), None if bool(seen.all()) else seen.to(image.dtype), None
    extent = (width / side, height / side)
    return image if width == height else image * image.new_tensor(extent)[:, None], None, extent


def _mean_one(weights: Tensor | None) -> Tensor | None:
    """Scale weights so that those that count average one: residuals keep their unit."""
    if weights is None:
        return None
    return weights * (weights.count_nonzero() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny))


def _sample(block: PointBlock, most: int) -> tuple[PointBlock, int]:
    """Float64 copy on the CPU of at most `most` pairs that count; and how many count."""
    length = block.points.shape[2]
    index: Tensor | None = None
    usable = length
    if block.weights is not None:
        index = block.weights[0, 0].nonzero()[:, 0]
        usable = len(index)
    if usable > most:
        chosen = torch.from_numpy(spread_indices(usable, most)).to(block.points.device)
        index = chosen if index is None else index[chosen]
    kept = [block.points, block.image, block.weights]
    if index is not None:
        kept = [None if part is None else part[0].index_select(1, index)[None] for part in kept]
    points, image, weights = (None if part is None else part.double().cpu() for part in kept)
    assert points is not None and image is not None
    return PointBlock(points, image, weights), usable


def _weights(block: PointBlock) -> Tensor:
    return torch.ones_like(block.points[:, :1]) if block.weights is None else block.weights


def _filled(values: Tensor, length: int) -> Tensor:
    missing = length - values.shape[2]
    return torch.cat((values, values[:, :, :1].expand(-1, -1, missing)), dim=2)
