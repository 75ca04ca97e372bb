"""What SE3 and Sim3 have in common: a batch of transforms as a frozen value made of tensors.

Indexing, moving between devices and types, stacking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from types import EllipsisType
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from cupid_core.errors import InvalidTensorError

TransformT = TypeVar("TransformT", bound="Transform")
Index = int | slice | Tensor | EllipsisType | None


@dataclass(frozen=True, eq=False)
class Transform:
    """Base of the transform types; every field is a tensor with the batch in front.

    Raises:
        InvalidTensorError: a field is not floating, or fields disagree in batch shape, type or device.
    """

    # Trailing size of each field, () for a scalar per transform, in the order of the fields.
    event_shapes: ClassVar[tuple[tuple[int, ...], ...]] = ()

    def __post_init__(self) -> None:
        tensors = self._tensors()
        for (name, tensor), event in zip(tensors.items(), self.event_shapes, strict=True):
            batch = tensor.shape[: tensor.ndim - len(event)]
            first = next(iter(tensors.values()))
            expected_batch = first.shape[: first.ndim - len(self.event_shapes[0])]
            fits = tensor.ndim >= len(event) and tensor.shape[len(batch) :] == event and batch == expected_batch
            if not fits or not tensor.is_floating_point():
                raise InvalidTensorError(
                    f"{type(self).__name__}.{name} has shape {tuple(tensor.shape)} and type {tensor.dtype}; "
                    f"expected a floating tensor of shape {(*expected_batch, *event)}.",
                    hint="Give every field the same batch shape in front.",
                )
            if tensor.dtype != first.dtype or tensor.device != first.device:
                raise InvalidTensorError(
                    f"{type(self).__name__}.{name} is {tensor.dtype} on {tensor.device}, "
                    f"other fields are {first.dtype} on {first.device}.",
                    hint="Move all fields to one type and one device first.",
                )

    @property
    def batch_shape(self) -> torch.Size:
        """Leading shape; () for a single transform."""
        first = next(iter(self._tensors().values()))
        return first.shape[: first.ndim - len(self.event_shapes[0])]

    @property
    def dtype(self) -> torch.dtype:
        """Type of every field."""
        return next(iter(self._tensors().values())).dtype

    @property
    def device(self) -> torch.device:
        """Device of every field."""
        return next(iter(self._tensors().values())).device

    def to(
        self: TransformT, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> TransformT:
        """The same transforms in another type or on another device; what is None stays."""
        return self._map(lambda tensor, _: tensor.to(dtype=dtype or tensor.dtype, device=device or tensor.device))

    def detach(self: TransformT) -> TransformT:
        """The same transforms outside the gradient graph."""
        return self._map(lambda tensor, _: tensor.detach())

    def __getitem__(self: TransformT, index: Index | tuple[Index, ...]) -> TransformT:
        """Index the batch dimensions; `pose[..., None]` prepares one pose for many points."""
        parts = index if isinstance(index, tuple) else (index,)
        if not any(part is Ellipsis for part in parts):
            parts = (*parts, Ellipsis)
        return self._map(lambda tensor, event: tensor[(*parts, *(slice(None),) * len(event))])

    @classmethod
    def stack(cls: type[TransformT], transforms: Sequence[TransformT]) -> TransformT:
        """Join transforms of one batch shape (*B) along a new first dimension: (len, *B).

        Raises:
            InvalidTensorError: the sequence is empty.
        """
        if not transforms:
            raise InvalidTensorError(f"No {cls.__name__} to stack.", hint="Give at least one transform.")
        columns = zip(*(item._tensors().values() for item in transforms), strict=True)
        return cls(*(torch.stack(column) for column in columns))

    def _tensors(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _map(self: TransformT, change: Callable[[Tensor, tuple[int, ...]], Tensor]) -> TransformT:
        changed: dict[str, Any] = {
            name: change(tensor, event)
            for (name, tensor), event in zip(self._tensors().items(), self.event_shapes, strict=True)
        }
        return replace(self, **changed)


def check_matrices(matrix: Tensor, name: str) -> None:
    """Refuse what is not (..., 4, 4) with last row (0, 0, 0, 1).

    Raises:
        InvalidTensorError: wrong shape, type, or last row.
    """
    if matrix.shape[-2:] != (4, 4) or not matrix.is_floating_point():
        raise InvalidTensorError(
            f"{name} got shape {tuple(matrix.shape)} and type {matrix.dtype}, expected (..., 4, 4) floating.",
            hint="Give homogeneous 4x4 matrices in the last two dimensions.",
        )
    last = matrix.detach()[..., 3, :] - matrix.new_tensor([0.0, 0.0, 0.0, 1.0])
    if not bool((last.abs() <= 1e-6).all()):
        raise InvalidTensorError(
            f"{name}: the last row of a matrix is not (0, 0, 0, 1).",
            hint="Transpose it if it is meant for row vectors; a projection matrix is no transform.",
        )


def homogeneous(linear: Tensor, translation: Tensor) -> Tensor:
    """4x4 matrices (..., 4, 4) from a linear part (..., 3, 3) and a translation (..., 3)."""
    upper = torch.cat((linear, translation[..., None]), dim=-1)
    last = upper.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*upper.shape[:-2], 1, 4)
    return torch.cat((upper, last), dim=-2)
