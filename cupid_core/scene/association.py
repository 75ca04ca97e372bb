"""Which regions of an image are the objects of an earlier one; knows masks and boxes, no ids and no time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Region:
    """Where an object is in an image.

    Attributes:
        box: x0, y0, x1, y1 in pixels, far edges excluded.
        mask: (H, W) bool; None where only the box is known.
    """

    box: Box
    mask: NDArray[np.bool_] | None = None

    @property
    def size(self) -> float:
        """Longer side of the box, pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @property
    def center(self) -> tuple[float, float]:
        """Middle of the box, pixels."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


def overlap(first: Region, second: Region) -> float:
    """Intersection over union, of masks where both have one of the same size, else of boxes; 0 to 1."""
    if first.mask is not None and second.mask is not None and first.mask.shape == second.mask.shape:
        union = int((first.mask | second.mask).sum())
        return int((first.mask & second.mask).sum()) / union if union else 0.0
    x0, y0, x1, y1 = first.box
    u0, v0, u1, v1 = second.box
    common = max(0.0, min(x1, u1) - max(x0, u0)) * max(0.0, min(y1, v1) - max(y0, v0))
    total = (x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - common
    return common / total if total > 0 else 0.0


def shift(first: Region, second: Region) -> float:
    """Distance of the centers as a share of the larger object's size; infinite for regions without size."""
    size = max(first.size, second.size)
    (x, y), (u, v) = first.center, second.center
    return float(np.hypot(x - u, y - v)) / size if size > 0 else float("inf")


def associate(
    earlier: Sequence[Region], now: Sequence[Region], *, min_iou: float, max_shift: float
) -> list[int | None]:
    """For each region its place in the earlier image, each place at most once.

    Pairs that overlap by `min_iou` come first, the best first; then those of the rest whose centers are nearest,
    up to `max_shift` and only between regions whose sizes differ by less than a factor of two.

    Args:
        earlier: regions of the earlier image.
        now: regions of this image.
        min_iou: smallest overlap.
        max_shift: largest shift, see `shift`; 0 leaves overlap alone.

    Returns:
        For each of `now` the index in `earlier`, or None for one that is new.
    """
    pairs: list[tuple[int, float, int, int]] = []
    for i, region in enumerate(now):
        for j, other in enumerate(earlier):
            iou, moved = overlap(region, other), shift(region, other)
            alike = 0.5 < region.size / other.size < 2.0 if other.size > 0 else False
            if iou >= min_iou:
                pairs.append((0, -iou, i, j))
            elif moved <= max_shift and alike:
                pairs.append((1, moved, i, j))
    found: list[int | None] = [None] * len(now)
    taken: set[int] = set()
    for _, _, i, j in sorted(pairs):
        if found[i] is None and j not in taken:
            found[i] = j
            taken.add(j)
    return found
