"""Rigid transforms: `SE3`, a frozen batch of rotations and translations.

`T_a_b` maps points of frame b into frame a, and names cancel: `T_a_c = T_a_b @ T_b_c`. Quaternions are in ROS
order (x, y, z, w).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cupid_core.errors import InvalidTensorError
from cupid_core.geometry import so3
from cupid_core.geometry.transform import Transform, check_matrices, homogeneous


@dataclass(frozen=True, eq=False)
class SE3(Transform):
    """A batch of rigid transforms, p_a = R p_b + t.

    Attributes:
        quat_xyzw: unit quaternions (*B, 4). The constructor trusts their length; `from_quat_xyzw` normalizes.
        translation: (*B, 3), in the unit of the points.

    All methods broadcast over the batch and are differentiable; float32 and float64, any device.

    Raises:
        InvalidTensorError: fields disagree in batch shape, type or device.

    Source: Barfoot, State Estimation for Robotics, chapter 7; tangent vectors here are [rho, omega], translation
    first, and act from the left: `SE3.exp(tangent) @ T`.
    """

    quat_xyzw: Tensor
    translation: Tensor
    event_shapes: ClassVar[tuple[tuple[int, ...], ...]] = ((4,), (3,))

    @classmethod
    def identity(
        cls,
        batch: tuple[int, ...] = (),
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> SE3:
        """Transforms that move nothing, batch shape `batch`."""
        quat = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=dtype, device=device)
        return cls(quat.expand(*batch, 4).clone(), torch.zeros(*batch, 3, dtype=dtype, device=device))

    @classmethod
    def from_quat_xyzw(cls, quat_xyzw: Tensor, translation: Tensor) -> SE3:
        """From quaternions (*B, 4) of any non-zero length and translations (*B, 3).

        Raises:
            InvalidTensorError: a quaternion is zero or not finite; shapes do not fit.
        """
        return cls(so3.normalize(quat_xyzw), translation)

    @classmethod
    def from_rotation_translation(cls, rotation: Tensor, translation: Tensor) -> SE3:
        """From rotation matrices (*B, 3, 3) and translations (*B, 3).

        Raises:
            InvalidTensorError: a matrix is no rotation; shapes do not fit.
        """
        return cls(so3.from_matrix(rotation), translation)

    @classmethod
    def from_matrix(cls, matrix: Tensor) -> SE3:
        """From homogeneous matrices (*B, 4, 4).

        Raises:
            InvalidTensorError: the upper left block is no rotation, or the last row is not (0, 0, 0, 1).
        """
        check_matrices(matrix, "SE3.from_matrix")
        return cls(so3.from_matrix(matrix[..., :3, :3]), matrix[..., :3, 3])

    @classmethod
    def exp(cls, tangent: Tensor) -> SE3:
        """Exponential map of tangents (*B, 6) = [rho, omega]: translation part, then rotation vector in radians.

        Raises:
            InvalidTensorError: the last dimension is not 6.
        """
        if tangent.shape[-1:] != (6,):
            raise InvalidTensorError(
                f"SE3.exp got shape {tuple(tangent.shape)}, expected (..., 6).", hint="Give [rho xyz, omega xyz]."
            )
        rho, omega = tangent[..., :3], tangent[..., 3:]
        return cls(so3.exp(omega), (so3.left_jacobian(omega) @ rho[..., None]).squeeze(-1))

    def log(self) -> Tensor:
        """Logarithm map: tangents (*B, 6) with a rotation vector of at most pi; `SE3.exp(T.log())` is T."""
        omega = so3.log(self.quat_xyzw)
        rho = (so3.left_jacobian_inverse(omega) @ self.translation[..., None]).squeeze(-1)
        return torch.cat((rho, omega), dim=-1)

    def rotation(self) -> Tensor:
        """Rotation matrices (*B, 3, 3)."""
        return so3.to_matrix(self.quat_xyzw)

    def matrix(self) -> Tensor:
        """Homogeneous matrices (*B, 4, 4) for column vectors."""
        return homogeneous(self.rotation(), self.translation)

    def inverse(self) -> SE3:
        """T_b_a of T_a_b."""
        quat = so3.conjugate(self.quat_xyzw)
        return SE3(quat, -so3.rotate(quat, self.translation))

    def compose(self, other: SE3) -> SE3:
        """T_a_c = T_a_b.compose(T_b_c), also written `T_a_b @ T_b_c`; batch shapes broadcast."""
        quat = so3.multiply(self.quat_xyzw, other.quat_xyzw)
        translation = so3.rotate(self.quat_xyzw, other.translation) + self.translation
        return SE3(quat, translation.expand(*quat.shape[:-1], 3))

    def __matmul__(self, other: SE3) -> SE3:
        """See `compose`."""
        return self.compose(other)

    def apply(self, points: Tensor) -> Tensor:
        """Map points of frame b into frame a.

        Args:
            points: (*B, 3), broadcasting with the batch; `pose[..., None]` takes N points per pose, (*B, N, 3).

        Returns:
            (*B, 3) in frame a, same unit.
        """
        return so3.rotate(self.quat_xyzw, points) + self.translation
