"""Rotations as unit quaternions (x, y, z, w) and rotation vectors: the mathematics that SE3 and Sim3 share.

Plain functions over batched tensors, smooth in value and gradient at every angle up to pi.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cupid_core.errors import InvalidTensorError

# Ten terms reach float64 rounding for every argument up to the limit, where the closed forms take over.
_SERIES_TERMS = 10
_SERIES_LIMIT = 1.0
# Arctangent's series converges slowly, so it serves a smaller disc.
_ARCTAN_TERMS = 9
_ARCTAN_LIMIT = 0.01
# Matrices read from text carry four or five digits; anything worse is no rotation.
_ORTHONORMAL_TOLERANCE = 1e-3


def stumpff(order: int, squared_angle: Tensor) -> Tensor:
    """Stumpff function c_k(x) = sum_i (-x)^i / (k + 2 i)!, for x = angle squared >= 0.

    With x = a^2: c_0 = cos a, c_1 = sin(a)/a, c_2 = (1 - cos a)/a^2, c_3 = (a - sin a)/a^3, c_4 = (1/2 - c_2)/a^2.
    These are all the coefficients of the exponential and logarithm maps, and none of them loses digits near zero.

    Args:
        order: k, 0 to 4.
        squared_angle: any shape, radians squared.

    Returns:
        Same shape. Values and gradients are finite everywhere.

    Source: Stumpff, Himmelsmechanik I, 1959; series and the recurrence c_k = 1/k! - x c_(k+2).
    """
    near = squared_angle < _SERIES_LIMIT
    # Each branch gets a harmless argument where the other one is chosen, so that no NaN enters the gradient.
    inner = torch.where(near, squared_angle, torch.zeros_like(squared_angle))
    series = torch.zeros_like(inner)
    for i in reversed(range(_SERIES_TERMS)):
        series = (-1.0) ** i / math.factorial(order + 2 * i) + inner * series
    outer = torch.where(near, torch.ones_like(squared_angle), squared_angle)
    return torch.where(near, series, _stumpff_closed(order, outer))


def _stumpff_closed(order: int, x: Tensor) -> Tensor:
    angle = x.sqrt()
    if order == 0:
        return angle.cos()
    if order == 1:
        return angle.sin() / angle
    return (1.0 / math.factorial(order - 2) - _stumpff_closed(order - 2, x)) / x


def hat(vector: Tensor) -> Tensor:
    """Cross-product matrices (..., 3, 3) of vectors (..., 3), so that `hat(v) @ p` is v x p."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return _square(3, zero, -z, y, z, zero, -x, -y, x, zero)


def cross(left: Tensor, right: Tensor) -> Tensor:
    """Cross product of (..., 3) and (..., 3), broadcasting over any number of leading dimensions."""
    # torch.linalg.cross broadcasts sizes but not the number of dimensions.
    x, y, z = left.unbind(-1)
    u, v, w = right.unbind(-1)
    return torch.stack((y * w - z * v, z * u - x * w, x * v - y * u), dim=-1)


def exp(rotation_vector: Tensor) -> Tensor:
    """Exponential map: rotation vector (..., 3) in radians to unit quaternion xyzw (..., 4)."""
    quarter = rotation_vector.square().sum(-1, keepdim=True) / 4.0
    return torch.cat((0.5 * stumpff(1, quarter) * rotation_vector, stumpff(0, quarter)), dim=-1)


def log(quat_xyzw: Tensor) -> Tensor:
    """Logarithm map: unit quaternion (..., 4) to the rotation vector (..., 3) of at most pi.

    Works from the half angle as atan2(|v|, w), which keeps all digits near zero and near pi. At exactly pi the
    axis has two signs; the one that the quaternion carries is returned.
    """
    quat = canonical(quat_xyzw)
    vector, w = quat[..., :3], quat[..., 3:]
    squared_sine = vector.square().sum(-1, keepdim=True)
    near = squared_sine < _ARCTAN_LIMIT * w.square()
    one = torch.ones_like(w)
    inverse_w = 1.0 / torch.where(near, w, one)
    squared_tangent = torch.where(near, squared_sine * inverse_w.square(), torch.zeros_like(w))
    series = torch.zeros_like(w)
    for i in reversed(range(_ARCTAN_TERMS)):
        series = (-1.0) ** i / (2 * i + 1) + squared_tangent * series
    sine = torch.where(near, one, squared_sine).sqrt()
    closed = torch.atan2(sine, w) / sine
    return 2.0 * torch.where(near, series * inverse_w, closed) * vector


def left_jacobian(rotation_vector: Tensor) -> Tensor:
    """V of the SE(3) exponential, translation = V rho: I + c_2 hat + c_3 hat^2. (..., 3) to (..., 3, 3).

    Source: Barfoot, State Estimation for Robotics, section 7.1 (left Jacobian of SO(3)).
    """
    x = rotation_vector.square().sum(-1)[..., None, None]
    skew = hat(rotation_vector)
    identity = torch.eye(3, dtype=skew.dtype, device=skew.device)
    return identity + stumpff(2, x) * skew + stumpff(3, x) * (skew @ skew)


def left_jacobian_inverse(rotation_vector: Tensor) -> Tensor:
    """Inverse of `left_jacobian` for angles up to pi (it is singular only at 2 pi). (..., 3) to (..., 3, 3)."""
    x = rotation_vector.square().sum(-1)[..., None, None]
    skew = hat(rotation_vector)
    identity = torch.eye(3, dtype=skew.dtype, device=skew.device)
    # (1/x)(1 - c_1 / (2 c_2)) with the cancellation removed by the recurrence of the Stumpff functions.
    curvature = (stumpff(3, x) - 2.0 * stumpff(4, x)) / (2.0 * stumpff(2, x))
    return identity - 0.5 * skew + curvature * (skew @ skew)


def canonical(quat_xyzw: Tensor) -> Tensor:
    """The one of q and -q (the same rotation) with w >= 0. (..., 4) to (..., 4)."""
    return torch.where(quat_xyzw[..., 3:] < 0, -quat_xyzw, quat_xyzw)


def normalize(quat_xyzw: Tensor) -> Tensor:
    """Unit quaternion of the same rotation. (..., 4) to (..., 4).

    Raises:
        InvalidTensorError: a quaternion is zero or not finite, so it names no rotation.
    """
    length: Tensor = torch.linalg.vector_norm(quat_xyzw, dim=-1, keepdim=True)
    if not bool((length.isfinite() & (length > 0)).all()):
        raise InvalidTensorError(
            "A quaternion has length zero or is not finite; it names no rotation.",
            hint="Give quaternions (x, y, z, w) of finite, non-zero length.",
        )
    return quat_xyzw / length


def multiply(left_xyzw: Tensor, right_xyzw: Tensor) -> Tensor:
    """Hamilton product, the rotation `left` after `right`; renormalized. (..., 4) by (..., 4), broadcasting."""
    left_vector, left_w = left_xyzw[..., :3], left_xyzw[..., 3:]
    right_vector, right_w = right_xyzw[..., :3], right_xyzw[..., 3:]
    vector = left_w * right_vector + right_w * left_vector + cross(left_vector, right_vector)
    w = left_w * right_w - (left_vector * right_vector).sum(-1, keepdim=True)
    product = torch.cat((vector, w), dim=-1)
    # Rounding would otherwise let the length drift along long chains.
    length: Tensor = torch.linalg.vector_norm(product, dim=-1, keepdim=True)
    return product / length


def conjugate(quat_xyzw: Tensor) -> Tensor:
    """The inverse rotation. (..., 4) to (..., 4)."""
    return torch.cat((-quat_xyzw[..., :3], quat_xyzw[..., 3:]), dim=-1)


def rotate(quat_xyzw: Tensor, points: Tensor) -> Tensor:
    """Rotate points (..., 3) by quaternions (..., 4), broadcasting over the leading dimensions."""
    vector, w = quat_xyzw[..., :3], quat_xyzw[..., 3:]
    twice = 2.0 * cross(vector, points)
    return points + w * twice + cross(vector, twice)


def to_matrix(quat_xyzw: Tensor) -> Tensor:
    """Rotation matrices of unit quaternions. (..., 4) to (..., 3, 3)."""
    x, y, z, w = quat_xyzw.unbind(-1)
    return _square(
        3,
        *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )


def from_matrix(rotation: Tensor) -> Tensor:
    """Unit quaternions xyzw with w >= 0 of rotation matrices. (..., 3, 3) to (..., 4).

    The nine entries give four times the outer product of the quaternion with itself; its longest row, which is at
    least 2 long, points along the quaternion. No square root of a small number occurs, at any angle.

    Raises:
        InvalidTensorError: a matrix is not finite, not orthonormal (to 1e-3), or a reflection.
    """
    _check_rotation(rotation)
    (r00, r01, r02), (r10, r11, r12), (r20, r21, r22) = (row.unbind(-1) for row in rotation.unbind(-2))
    xy, xz, yz = r01 + r10, r02 + r20, r12 + r21
    xw, yw, zw = r21 - r12, r02 - r20, r10 - r01
    outer = _square(
        4,
        *(1 + r00 - r11 - r22, xy, xz, xw),
        *(xy, 1 - r00 + r11 - r22, yz, yw),
        *(xz, yz, 1 - r00 - r11 + r22, zw),
        *(xw, yw, zw, 1 + r00 + r11 + r22),
    )
    longest = outer.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    row = torch.take_along_dim(outer, longest[..., None, None], dim=-2).squeeze(-2)
    return canonical(row / torch.linalg.vector_norm(row, dim=-1, keepdim=True))


def _square(size: int, *entries: Tensor) -> Tensor:
    """Matrices (..., size, size) from their entries (...), row by row."""
    return torch.stack(entries, dim=-1).reshape(*entries[0].shape, size, size)


def _check_rotation(rotation: Tensor) -> None:
    """Refuse what is no rotation, with the largest deviation in the message."""
    if rotation.shape[-2:] != (3, 3) or not rotation.is_floating_point():
        raise InvalidTensorError(
            f"Rotation matrices have shape {tuple(rotation.shape)} and type {rotation.dtype}, "
            "expected (..., 3, 3) floating.",
            hint="Give 3x3 matrices in the last two dimensions.",
        )
    value = rotation.detach()
    identity = torch.eye(3, dtype=value.dtype, device=value.device)
    deviation = (value @ value.transpose(-1, -2) - identity).abs()
    # "not (<=)" instead of ">" so that NaN is refused as well.
    if not bool((deviation <= _ORTHONORMAL_TOLERANCE).all()) or not bool((torch.linalg.det(value) > 0).all()):
        raise InvalidTensorError(
            "A matrix is no rotation: its rows are not orthonormal, it mirrors, or it is not finite.",
            hint="Divide out the scale (or use Sim3) and check the axes for a flipped sign.",
        )
