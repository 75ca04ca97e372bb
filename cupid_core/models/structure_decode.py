"""Logits of the structure decoders to voxels and their image coordinates.

Source: CUPID section 3; the widening of thin selections follows the released behavior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cupid_core.errors import InvalidTensorError, StructureEmptyError


@dataclass(frozen=True)
class DecodedStructure:
    """Occupied voxels of a batch and the voxels that carry image coordinates.

    Attributes:
        coords: (N, 4) int32, (item, x, y, z) of the occupied voxels, sorted.
        uv_coords: (M, 4) int32, (item, x, y, z) of the voxels with image coordinates, sorted.
        uv: (M, 2) normalized image coordinates in [0, 1].
        counts: (B,) number of occupied voxels of each item; 0 is possible with `on_empty="keep"` only.
    """

    coords: Tensor
    uv_coords: Tensor
    uv: Tensor
    counts: Tensor


def decode_structure(
    occupancy: Tensor,
    uv_logits: Tensor,
    *,
    select: Literal["occupancy", "flag"] = "occupancy",
    minimum: int = 10,
    step: float = 0.05,
    on_empty: Literal["raise", "keep"] = "raise",
) -> DecodedStructure:
    """Threshold the logits.

    Args:
        occupancy: (B, 1, R, R, R) logits, occupied where positive.
        uv_logits: (B, 3, R, R, R) logits of flag, u, v.
        select: which field chooses the voxels with image coordinates.
        minimum: an item with fewer of these voxels has its threshold lowered until it has at least as many
            (or all voxels of the grid).
        step: by multiples of this.
        on_empty: what to do when an item has no occupied voxel; with several hypotheses in a batch, "keep" and
            check `counts`.

    Raises:
        StructureEmptyError: an item without occupied voxel and `on_empty="raise"`.
        InvalidTensorError: logits that are not finite.
    """
    if not (bool(occupancy.isfinite().all()) and bool(uv_logits.isfinite().all())):
        raise InvalidTensorError(
            "The structure logits hold NaN or infinity.",
            hint="Run the structure networks in float32 or bfloat16, or verify the checkpoint.",
        )
    occupied = occupancy[:, 0] > 0
    counts = occupied.flatten(1).sum(1)
    if on_empty == "raise" and bool((counts == 0).any()):
        empty = (counts == 0).nonzero().flatten().tolist()
        raise StructureEmptyError(
            f"No voxel is occupied in items {empty} of {len(counts)}.",
            hint="Check that the mask covers the object, or draw other samples.",
        )
    field = occupancy[:, 0] if select == "occupancy" else uv_logits[:, 0]
    field = field.double()  # the exact comparison that `_threshold` was made for
    uv_coords = (field > _threshold(field, minimum, step)[:, None, None, None]).nonzero()
    item, x, y, z = uv_coords.unbind(1)
    return DecodedStructure(
        coords=occupied.nonzero().int(),
        uv_coords=uv_coords.int(),
        uv=torch.sigmoid(uv_logits[:, 1:3].permute(0, 2, 3, 4, 1)[item, x, y, z]),
        counts=counts,
    )


def _threshold(field: Tensor, minimum: int, step: float) -> Tensor:
    """Highest threshold -n * step per item, n >= 0, above which at least `minimum` voxels lie: (B,) double."""
    values = field.flatten(1)
    weakest = values.topk(min(minimum, values.shape[1]), dim=1).values[:, -1]
    # One more step than fits below, for the comparison is strict.
    steps = torch.where(weakest > 0, 0.0, torch.floor(-weakest / step) + 1)
    return -steps * step
