"""Where each object of an image may be hidden by the others; knows masks and depth, not what the objects are.

An object may continue unseen behind every object that is in front of it. Which of two is in front is read from
depth on both sides of their common border; where depth says nothing, either may hide the other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cupid_core.config import PlacementConfig
from cupid_core.errors import InputError
from cupid_core.geometry.grid import PixelBox, box_of
from cupid_core.render.silhouette import dilated, nearest_of
from cupid_core.scene.agreement import Depths, Mask, depths_of
from cupid_core.types import DepthMap

Labels = npt.NDArray[np.int32]


def occlusion_masks(
    labels: npt.NDArray[np.integer], depth: DepthMap | None = None, config: PlacementConfig | None = None
) -> dict[int, Mask]:
    """For every object, where others may hide it.

    An object that is in front of one that hides it, and touches that one, may hide it as well.

    Args:
        labels: (H, W) integer, 0 = none, else the number of the object that is visible there.
        depth: (H, W) of the same image; None without: then neighbors may hide each other, both ways.
        config: the defaults where None.

    Returns:
        (H, W) bool for each number in `labels`: pixels of the other objects that may hide it; never its own.

    Raises:
        InputError: labels are no image of integers, or depth has another size.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise InputError(
            f"Labels have shape {labels.shape} and type {labels.dtype}.", hint="Give (H, W) integers, 0 for none."
        )
    depth_m = None if depth is None else depths_of(depth)
    if depth_m is not None and depth_m.shape != labels.shape:
        raise InputError(
            f"Depth is {depth_m.shape}, labels are {labels.shape} (height, width).",
            hint="Align depth to the image.",
        )
    settings = config or PlacementConfig()
    ids = [int(number) for number in np.unique(labels) if number != 0]
    in_front = _order(labels, ids, depth_m, settings)
    hidden: dict[int, Mask] = {}
    for id_ in ids:
        hiding = _reached(id_, in_front)
        hidden[id_] = np.isin(labels, sorted(hiding)) if hiding else np.zeros(labels.shape, bool)
    return hidden


def _order(
    labels: npt.NDArray[np.integer], ids: list[int], depth_m: Depths | None, settings: PlacementConfig
) -> dict[int, set[int]]:
    """For each object those neighbors that are, or may be, in front of it."""
    in_front: dict[int, set[int]] = {id_: set() for id_ in ids}
    for number, first in enumerate(ids):
        for second in ids[number + 1 :]:
            window = _common_window(labels, first, second, settings.occlusion_reach_px)
            if window is None:
                continue
            part = labels[window]
            near = None if depth_m is None else depth_m[window]
            if _may_hide(part == second, part == first, near, settings):
                in_front[first].add(second)
            if _may_hide(part == first, part == second, near, settings):
                in_front[second].add(first)
    return in_front


def _may_hide(front: Mask, behind: Mask, depth_m: Depths | None, settings: PlacementConfig) -> bool:
    """Whether one object may be in front of another: it is nearer along enough of their common border."""
    reach = settings.occlusion_reach_px
    front_band, behind_band = front & dilated(behind, reach), behind & dilated(front, reach)
    if not front_band.any() or not behind_band.any():
        return False
    if depth_m is None:
        return True
    known_front, known_behind = front_band & np.isfinite(depth_m), behind_band & np.isfinite(depth_m)
    if min(int(known_front.sum()), int(known_behind.sum())) < settings.occlusion_pixels:
        return True
    there = depth_m.ravel()[nearest_of(known_behind)][known_front]
    step = there - depth_m[known_front]
    clear = step > np.maximum(settings.occlusion_step_m, settings.occlusion_step * there)
    return float(clear.mean()) >= settings.occlusion_share


def _common_window(
    labels: npt.NDArray[np.integer], first: int, second: int, reach: int
) -> tuple[slice, slice] | None:
    """The part of the image where two objects can be neighbors; None where they cannot."""
    one, two = box_of(labels == first), box_of(labels == second)
    assert one is not None and two is not None
    grown: list[PixelBox] = [(b[0] - reach, b[1] - reach, b[2] + reach, b[3] + reach) for b in (one, two)]
    x0, y0 = max(0, *(b[0] for b in grown)), max(0, *(b[1] for b in grown))
    x1, y1 = min(labels.shape[1], *(b[2] for b in grown)), min(labels.shape[0], *(b[3] for b in grown))
    return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None


def _reached(start: int, in_front: dict[int, set[int]]) -> set[int]:
    """Everything in front of an object, directly or by what is in front of that."""
    found: set[int] = set()
    waiting = [start]
    while waiting:
        for other in in_front[waiting.pop()] - found - {start}:
            found.add(other)
            waiting.append(other)
    return found
