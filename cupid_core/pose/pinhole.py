"""A batch of pinhole views and the prior of their intrinsics: the unknowns of every pose solver here.

Small float64 numpy algebra with the batch in front, on the CPU: projection matrices, their derivatives, steps on
the manifold, the Gaussian prior.

Image coordinates in this room are `square`: pixels divided by the longer image side, origin at the image corner.
They have square pixels whatever the aspect of the image, and equal normalized uv for a square image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]

# The full parameter vector of a view: translation 3, rotation 3, log fx, log fy, cx, cy.
FULL_SIZE = 10
# Cross-product matrices of the three unit vectors: d/dw of Exp(w) R at w = 0 is these times R.
_GENERATORS = np.zeros((3, 3, 3))
_GENERATORS[[0, 1, 2], [2, 0, 1], [1, 2, 0]] = 1.0
_GENERATORS[[0, 1, 2], [1, 2, 0], [2, 0, 1]] = -1.0
_IDENTITY = np.eye(3)


@dataclass(frozen=True)
class Pinhole:
    """B views of an object.

    Attributes:
        rotation: (B, 3, 3), object frame to camera frame.
        translation: (B, 3), object origin in the camera frame, unit of the object points.
        intrinsics: (B, 4) as fx, fy, cx, cy in square image coordinates; no skew.
    """

    rotation: Array
    translation: Array
    intrinsics: Array

    def __len__(self) -> int:
        return len(self.rotation)

    def __getitem__(self, index: slice | Mask | NDArray[np.intp]) -> Pinhole:
        """Some of the views; the batch dimension stays."""
        return Pinhole(self.rotation[index], self.translation[index], self.intrinsics[index])

    def extrinsic(self) -> Array:
        """[R | t], (B, 3, 4)."""
        return np.concatenate((self.rotation, self.translation[:, :, None]), axis=2)

    def projection(self) -> Array:
        """Projection matrices K [R | t], (B, 3, 4), object points to homogeneous square image coordinates."""
        matrix = self.extrinsic()
        matrix[:, :2] *= self.intrinsics[:, :2, None]
        matrix[:, :2] += self.intrinsics[:, 2:, None] * matrix[:, 2:]
        return matrix

    def projection_jacobian(self) -> Array:
        """Derivative of the row-major projection matrix by the full parameters, transposed: (B, 10, 12)."""
        count = len(self)
        jacobian = np.zeros((count, FULL_SIZE, 3, 4))
        focal, center = self.intrinsics[:, :2], self.intrinsics[:, 2:]
        jacobian[:, 0, 0, 3], jacobian[:, 1, 1, 3] = focal[:, 0], focal[:, 1]
        jacobian[:, 2, :2, 3], jacobian[:, 2, 2, 3] = center, 1.0
        turned = _GENERATORS @ self.rotation[:, None]
        jacobian[:, 3:6, :, :3] = turned
        jacobian[:, 3:6, :2, :3] *= focal[:, None, :, None]
        jacobian[:, 3:6, :2, :3] += center[:, None, :, None] * turned[:, :, 2:]
        rows = self.extrinsic()
        jacobian[:, 6, 0] = focal[:, :1] * rows[:, 0]
        jacobian[:, 7, 1] = focal[:, 1:] * rows[:, 1]
        jacobian[:, 8, 0] = jacobian[:, 9, 1] = rows[:, 2]
        return jacobian.reshape(count, FULL_SIZE, 12)

    def moved(self, step: Array) -> Pinhole:
        """The views after a step (B, 10): t + dt, Exp(dr) R, focal lengths times exp, principal point plus."""
        focal = self.intrinsics[:, :2] * np.exp(step[:, 6:8])
        return Pinhole(
            rotation_exp(step[:, 3:6]) @ self.rotation,
            self.translation + step[:, :3],
            np.concatenate((focal, self.intrinsics[:, 2:] + step[:, 8:]), axis=1),
        )


@dataclass(frozen=True)
class IntrinsicsPrior:
    """What is known about fx, fy, cx, cy of B views, and which of them are free.

    Attributes:
        mean: (B, 4) most likely fx, fy, cx, cy in square image coordinates.
        free: (10, k), maps the k free parameters of a solver (pose first) to the full vector; its columns say
            that fx and fy move together, or that the camera is fixed.
        precision: (B, 10), inverse variances of the full parameters; zero for the pose.
    """

    mean: Array
    free: Array
    precision: Array

    def __getitem__(self, index: slice | Mask | NDArray[np.intp]) -> IntrinsicsPrior:
        """The prior of some of the views; the batch dimension stays."""
        return IntrinsicsPrior(self.mean[index], self.free, self.precision[index])

    @property
    def size(self) -> int:
        """k, the number of free parameters; 6 when the camera is fixed."""
        return int(self.free.shape[1])

    def deviation(self, view: Pinhole) -> Array:
        """How far the views are from the mean, as full parameters (B, 10), zero for the pose."""
        away = np.zeros((len(view), FULL_SIZE))
        away[:, 6:8] = np.log(view.intrinsics[:, :2] / self.mean[:, :2])
        away[:, 8:] = view.intrinsics[:, 2:] - self.mean[:, 2:]
        return away

    def penalty(self, view: Pinhole) -> Array:
        """Half the squared deviation in standard deviations, (B,)."""
        return np.asarray(0.5 * (self.precision * self.deviation(view) ** 2).sum(axis=1))


def free_parameters(intrinsics: str) -> Array:
    """Columns of `IntrinsicsPrior.free`.

    Args:
        intrinsics: "fixed" (pose only), "focal" (one log focal length), "unknown" (one log focal length and the
            principal point), "prior" (fx, fy, cx, cy).

    Returns:
        (10, k) with k = 6, 7, 9, 10.
    """
    pose = np.eye(FULL_SIZE)[:, :6]
    both = np.zeros((FULL_SIZE, 1))
    both[6:8] = 1.0
    center = np.eye(FULL_SIZE)[:, 8:]
    columns = {
        "fixed": (pose,),
        "focal": (pose, both),
        "unknown": (pose, both, center),
        "prior": (np.eye(FULL_SIZE),),
    }
    return np.concatenate(columns[intrinsics], axis=1)


def rotation_exp(vectors: Array) -> Array:
    """Rotation matrices (B, 3, 3) of rotation vectors (B, 3) in radians (Rodrigues)."""
    # Far below rounding, and sin(a) / a is exactly one there.
    angle = np.sqrt(np.maximum((vectors * vectors).sum(axis=1), 1e-200))[:, None, None]
    cross = (vectors @ _GENERATORS.reshape(3, 9)).reshape(-1, 3, 3)
    half = np.sin(0.5 * angle) / (0.5 * angle)
    rotation = _IDENTITY + (np.sin(angle) / angle) * cross + (0.5 * half * half) * (cross @ cross)
    return np.asarray(rotation)


def choose(chosen: Mask, one: Pinhole, other: Pinhole) -> Pinhole:
    """`one` where `chosen` (B,) is true, `other` elsewhere."""
    if chosen.all():
        return one
    return Pinhole(
        np.where(chosen[:, None, None], one.rotation, other.rotation),
        np.where(chosen[:, None], one.translation, other.translation),
        np.where(chosen[:, None], one.intrinsics, other.intrinsics),
    )


def join(parts: Sequence[Pinhole]) -> Pinhole:
    """All views of several batches, in order; at least one batch."""
    if len(parts) == 1:
        return parts[0]
    return Pinhole(
        np.concatenate([part.rotation for part in parts]),
        np.concatenate([part.translation for part in parts]),
        np.concatenate([part.intrinsics for part in parts]),
    )


def quaternions_xyzw(rotation: Array) -> Array:
    """Unit quaternions (B, 4) of rotation matrices (B, 3, 3), at every angle.

    Source: Bar-Itzhack 2000; the quaternion is the top eigenvector of a symmetric 4x4 matrix.
    """
    trace = np.trace(rotation, axis1=1, axis2=2)[:, None, None]
    form = np.empty((len(rotation), 4, 4))
    form[:, :3, :3] = rotation + rotation.swapaxes(1, 2) - trace * _IDENTITY
    form[:, :3, 3] = form[:, 3, :3] = rotation[:, [2, 0, 1], [1, 2, 0]] - rotation[:, [1, 2, 0], [2, 0, 1]]
    form[:, 3, 3] = trace[:, 0, 0]
    return np.asarray(np.linalg.eigh(form)[1][:, :, 3])


def view_from_projection(matrix: Array) -> tuple[Pinhole, Array]:
    """Split projection matrices K [R | t] with K upper triangular and a positive diagonal (RQ decomposition).

    The products of the rows of K R are those of the rows of K alone, which give its entries one after the other
    from the last row upwards; back substitution then gives [R | t].

    Args:
        matrix: (B, 3, 4), any positive scale, left 3x3 block with positive determinant.

    Returns:
        The views (focal lengths not made equal), and the skews (B,) in square image coordinates. Depths of the
        object points may come out negative: the object is then behind the camera.

    Source: Hartley and Zisserman, Multiple View Geometry, section 6.2.4.
    """
    left = matrix[:, :, :3]
    products = left @ left.swapaxes(1, 2)
    length = products[:, 2, 2]
    products = products / length[:, None, None]
    cx, cy = products[:, 0, 2], products[:, 1, 2]
    fy = np.sqrt(products[:, 1, 1] - cy * cy)
    skew = (products[:, 0, 1] - cx * cy) / fy
    fx = np.sqrt(products[:, 0, 0] - cx * cx - skew * skew)
    rows = matrix / np.sqrt(length)[:, None, None]
    rows[:, 1] = (rows[:, 1] - cy[:, None] * rows[:, 2]) / fy[:, None]
    rows[:, 0] = (rows[:, 0] - skew[:, None] * rows[:, 1] - cx[:, None] * rows[:, 2]) / fx[:, None]
    return Pinhole(rows[:, :, :3], rows[:, :, 3], np.stack((fx, fy, cx, cy), axis=1)), skew


def view_with_intrinsics(matrix: Array, intrinsics: Array) -> Pinhole:
    """The views with given intrinsics that are nearest to projection matrices.

    Args:
        matrix: (B, 3, 4), finite, left 3x3 block with positive determinant.
        intrinsics: (B, 4).

    Source: Hartley and Zisserman, Multiple View Geometry, section 7.3 (restricted camera); the nearest rotation is
    the orthogonal factor of the polar decomposition.
    """
    rays = matrix.copy()
    rays[:, :2] = (rays[:, :2] - intrinsics[:, 2:, None] * rays[:, 2:]) / intrinsics[:, :2, None]
    left, stretch, right = np.linalg.svd(rays[:, :, :3])
    return Pinhole(left @ right, rays[:, :, 3] / stretch.mean(axis=1, keepdims=True), intrinsics)
