"""Similarities: `Sim3`, a frozen batch of rigid transforms with one scale each.

`T_a_b` maps points of frame b, in its own unit of length, into frame a. Used where a canonical object meets metric
depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from cupid_core.errors import InvalidTensorError
from cupid_core.geometry import so3
from cupid_core.geometry.se3 import SE3
from cupid_core.geometry.transform import Transform, check_matrices, homogeneous

# 16 points integrate exp(z tau) over [0, 1] to float64 rounding for |z| up to 10, i.e. scales of 1e-4 to 1e4.
_QUADRATURE_POINTS = 16


@dataclass(frozen=True, eq=False)
class Sim3(Transform):
    """A batch of similarities, p_a = s R p_b + t.

    Attributes:
        scale: (*B,) positive, unit of a per unit of b.
        quat_xyzw: unit quaternions (*B, 4), ROS order. The constructor trusts their length.
        translation: (*B, 3), unit of a.

    All methods broadcast over the batch and are differentiable; float32 and float64, any device. Tangent vectors
    are [rho, omega, log-scale] and act from the left: `Sim3.exp(tangent) @ T`.

    Raises:
        InvalidTensorError: fields disagree in batch shape, type or device.

    Source: Strasdat, Local accuracy and global consistency for efficient visual SLAM, 2012, section 2.4.
    """

    scale: Tensor
    quat_xyzw: Tensor
    translation: Tensor
    event_shapes: ClassVar[tuple[tuple[int, ...], ...]] = ((), (4,), (3,))

    @classmethod
    def identity(
        cls,
        batch: tuple[int, ...] = (),
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Sim3:
        """Similarities that move nothing, batch shape `batch`."""
        return cls.from_se3(SE3.identity(batch, dtype, device))

    @classmethod
    def from_se3(cls, rigid: SE3, scale: Tensor | None = None) -> Sim3:
        """A rigid transform with a scale (*B,); scale 1 where None.

        Raises:
            InvalidTensorError: a scale is not positive and finite; shapes do not fit.
        """
        ones = torch.ones_like(rigid.translation[..., 0])
        return cls(ones if scale is None else _checked(scale), rigid.quat_xyzw, rigid.translation)

    @classmethod
    def from_quat_xyzw(cls, scale: Tensor, quat_xyzw: Tensor, translation: Tensor) -> Sim3:
        """From scales (*B,), quaternions (*B, 4) of any non-zero length and translations (*B, 3).

        Raises:
            InvalidTensorError: a scale is not positive, a quaternion is zero, something is not finite.
        """
        return cls(_checked(scale), so3.normalize(quat_xyzw), translation)

    @classmethod
    def from_rotation_translation(cls, scale: Tensor, rotation: Tensor, translation: Tensor) -> Sim3:
        """From scales (*B,), rotation matrices (*B, 3, 3) and translations (*B, 3).

        Raises:
            InvalidTensorError: a scale is not positive and finite, a matrix is no rotation; shapes do not fit.
        """
        return cls(_checked(scale), so3.from_matrix(rotation), translation)

    @classmethod
    def from_matrix(cls, matrix: Tensor) -> Sim3:
        """From homogeneous matrices (*B, 4, 4) whose upper left block is a positive scale times a rotation.

        Raises:
            InvalidTensorError: the block is not of that kind (mirrored, sheared, singular), or the last row is not
                (0, 0, 0, 1).
        """
        check_matrices(matrix, "Sim3.from_matrix")
        linear = matrix[..., :3, :3]
        # The mean row length agrees with the cube root of the determinant for every similarity, and has no pole.
        scale = _checked(torch.linalg.vector_norm(linear, dim=-1).mean(dim=-1))
        return cls(scale, so3.from_matrix(linear / scale[..., None, None]), matrix[..., :3, 3])

    @classmethod
    def exp(cls, tangent: Tensor) -> Sim3:
        """Exponential map of tangents (*B, 7) = [rho, omega, log-scale], omega in radians.

        Raises:
            InvalidTensorError: the last dimension is not 7.
        """
        if tangent.shape[-1:] != (7,):
            raise InvalidTensorError(
                f"Sim3.exp got shape {tuple(tangent.shape)}, expected (..., 7).",
                hint="Give [rho xyz, omega xyz, log-scale].",
            )
        rho, omega, log_scale = tangent[..., :3], tangent[..., 3:6], tangent[..., 6]
        translation = (_translation_map(omega, log_scale) @ rho[..., None]).squeeze(-1)
        return cls(log_scale.exp(), so3.exp(omega), translation)

    def log(self) -> Tensor:
        """Logarithm map: tangents (*B, 7) with a rotation vector of at most pi; `Sim3.exp(T.log())` is T."""
        omega, log_scale = so3.log(self.quat_xyzw), self.scale.log()
        rho: Tensor = torch.linalg.solve(_translation_map(omega, log_scale), self.translation[..., None])
        return torch.cat((rho.squeeze(-1), omega, log_scale[..., None]), dim=-1)

    def rotation(self) -> Tensor:
        """Rotation matrices (*B, 3, 3), without the scale."""
        return so3.to_matrix(self.quat_xyzw)

    def matrix(self) -> Tensor:
        """Homogeneous matrices (*B, 4, 4) for column vectors, scale inside the upper left block."""
        return homogeneous(self.scale[..., None, None] * self.rotation(), self.translation)

    def rigid(self) -> SE3:
        """Rotation and translation as SE3, for points that are scaled already: p_a = T.rigid() @ (s p_b).

        Of the two quaternions of a rotation it has the one with w >= 0, so that rounding flips no published sign.
        """
        return SE3(so3.canonical(self.quat_xyzw), self.translation)

    def inverse(self) -> Sim3:
        """T_b_a of T_a_b."""
        scale, quat = 1.0 / self.scale, so3.conjugate(self.quat_xyzw)
        return Sim3(scale, quat, -scale[..., None] * so3.rotate(quat, self.translation))

    def compose(self, other: Sim3) -> Sim3:
        """T_a_c = T_a_b.compose(T_b_c), also written `T_a_b @ T_b_c`; batch shapes broadcast."""
        scale = self.scale * other.scale
        quat = so3.multiply(self.quat_xyzw, other.quat_xyzw)
        return Sim3(scale, quat, self.apply(other.translation).expand(*quat.shape[:-1], 3))

    def __matmul__(self, other: Sim3) -> Sim3:
        """See `compose`."""
        return self.compose(other)

    def apply(self, points: Tensor) -> Tensor:
        """Map points of frame b into frame a.

        Args:
            points: (*B, 3), unit of b, broadcasting with the batch; `pose[..., None]` takes N points per pose.

        Returns:
            (*B, 3) in frame a and its unit.
        """
        return self.scale[..., None] * so3.rotate(self.quat_xyzw, points) + self.translation


def _translation_map(omega: Tensor, log_scale: Tensor) -> Tensor:
    """W with translation = W rho: the integral over tau in [0, 1] of exp(tau log_scale) exp(tau hat(omega)).

    The closed form has four cases, each with its own cancellation (angle and log-scale small or not). The
    integrand is entire, so Gauss-Legendre quadrature gives every case, and its gradient, to rounding with one
    formula.

    Args:
        omega: (*B, 3) rotation vectors of at most pi.
        log_scale: (*B,).

    Returns:
        (*B, 3, 3); never singular in this range.
    """
    nodes, weights = (omega.new_tensor(values) for values in _quadrature())
    growth = weights * (nodes * log_scale[..., None]).exp()
    x = nodes.square() * omega.square().sum(-1, keepdim=True)
    straight = growth.sum(-1)
    sideways = (growth * nodes * so3.stumpff(1, x)).sum(-1)
    inward = (growth * nodes.square() * so3.stumpff(2, x)).sum(-1)
    skew = so3.hat(omega)
    identity = torch.eye(3, dtype=skew.dtype, device=skew.device)
    return (
        straight[..., None, None] * identity
        + sideways[..., None, None] * skew
        + inward[..., None, None] * (skew @ skew)
    )


@lru_cache(maxsize=1)
def _quadrature() -> tuple[list[float], list[float]]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(_QUADRATURE_POINTS)
    return (0.5 * (nodes + 1.0)).tolist(), (0.5 * weights).tolist()


def _checked(scale: Tensor) -> Tensor:
    if not bool((scale.isfinite() & (scale > 0)).all()):
        raise InvalidTensorError(
            "A scale is not positive and finite.", hint="Leave out the transform: a missing scale has no number."
        )
    return scale
