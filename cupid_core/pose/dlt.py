"""Direct linear transformation: projection matrices straight from points, no first guess, no camera.

`dlt` is ours; `reference_dlt` repeats the published method, for comparison only.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cupid_core.errors import InvalidTensorError, PoseDegenerateError, TooFewCorrespondencesError
from cupid_core.pose.pinhole import Array, Mask, view_from_projection
from cupid_core.pose.point_passes import Blocks, PointBlock, gram_blocks, to_array

MINIMUM_POINTS = 6
# Smallest over largest eigenvalue of the normalized point moments, below which the points lie in a plane.
_PLANAR_CONDITION = 1e-9
_IDENTITY = np.eye(4)


def dlt(points_object: Tensor, uv: Tensor, weights: Tensor | None = None) -> Tensor:
    """Projection matrices by the DLT: Hartley-normalized, weighted, without the bias of the plain method.

    The plain DLT minimizes the algebraic error under |P| = 1; image noise enters the error through the third row
    of P and drags it towards small depths, with a bias that does not shrink with the number of points. Here the
    mean squared depth is held at one instead, which makes the noise term constant.

    Args:
        points_object: (*B, N, 3) object points, N >= 6, not in one plane.
        uv: (*B, N, 2) their images, any image coordinates with square pixels.
        weights: (*B, N) relative inverse variances, or None.

    Returns:
        (*B, 3, 4) float64 on the device of the points; scale such that the third row gives depth, and positive
        determinant of the left 3x3 block. Not differentiable.

    Raises:
        TooFewCorrespondencesError: N < 6.
        PoseDegenerateError: the points lie in a plane. Points on other critical surfaces (twisted cubics through
            the camera) are not detected.
        InvalidTensorError: shapes do not fit.

    Source: Hartley and Zisserman, Multiple View Geometry, section 7.1; the constraint after Taubin 1991 and
    Kanatani's renormalization.
    """
    _check(points_object, uv, weights)
    batch, count = points_object.shape[:-2], points_object.shape[-2]
    xyz = points_object.detach().reshape(-1, count, 3).double().mT
    block = PointBlock(
        torch.cat((xyz, torch.ones_like(xyz[:, :1])), dim=1),
        uv.detach().reshape(-1, count, 2).double().mT.contiguous(),
        None if weights is None else weights.detach().reshape(-1, 1, count).double(),
    )
    projection, volumetric = projection_from_blocks(weighted_blocks(block))
    if not volumetric.all():
        raise PoseDegenerateError(
            "All points lie in one plane: the DLT has no unique solution.", hint="Use solve_pose, it takes planes."
        )
    return torch.from_numpy(projection).to(points_object.device).reshape(*batch, 3, 4)


def weighted_blocks(block: PointBlock) -> Blocks:
    """The blocks of the DLT's normal matrix, from measured image coordinates."""
    points = block.points if block.weights is None else block.points * block.weights.sqrt()
    return gram_blocks(points, block.image)


def projection_from_blocks(blocks: Blocks) -> tuple[Array, Mask]:
    """The DLT, given its moments.

    Normalization happens on the moments, not on the points: whitening the points (S = sum X X^T becomes the
    identity) and centering the image. Then the first two rows follow from the third, p1 = S_u p3 and p2 = S_v p3,
    and the 12x12 eigenproblem shrinks to the 4x4 matrix S_uu+vv - S_u^2 - S_v^2.

    Returns:
        Projection matrices (B, 3, 4) with positive determinant; whether each object has volume (B,). Where it has
        none the matrix is meaningless.
    """
    moments, vectors = np.linalg.eigh(blocks[0])
    floor = _PLANAR_CONDITION * moments[:, 3:]
    whiten = vectors / np.sqrt(np.maximum(moments, floor))[:, None]
    back = whiten.swapaxes(1, 2)
    u, v, squares = (back @ block @ whiten for block in blocks[1:])
    cu, cv = (block[:, 3:, 3:] / blocks[0][:, 3:, 3:] for block in blocks[1:3])
    squares = squares - 2.0 * (cu * u + cv * v) + (cu * cu + cv * cv) * _IDENTITY
    u, v = u - cu * _IDENTITY, v - cv * _IDENTITY
    third = np.linalg.eigh(squares - u @ u - v @ v)[1][:, :, :1]
    rows = np.concatenate((u @ third + cu * third, v @ third + cv * third, third), axis=2)
    matrix = rows.swapaxes(1, 2) @ back
    sign = np.sign(np.linalg.det(matrix[:, :, :3]))
    return matrix * sign[:, None, None], moments[:, 0] > floor[:, 0]


def decompose_projection(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split projection matrices into K [R | t] by RQ with a positive diagonal; the scale of the input is free.

    Args:
        matrix: (*B, 3, 4), left 3x3 block regular. A negative determinant means the opposite sign of all entries,
            which is the same projection.

    Returns:
        K (*B, 3, 3) upper triangular with K[2, 2] = 1 (skew kept), R (*B, 3, 3) rotation, t (*B, 3) in the unit of
        the points; all in the type of the input.

    Raises:
        InvalidTensorError: shape is not (*B, 3, 4).
        PoseDegenerateError: the left block is singular (a camera at infinity).

    Source: Hartley and Zisserman, Multiple View Geometry, section 6.2.4.
    """
    if matrix.shape[-2:] != (3, 4) or not matrix.is_floating_point():
        raise InvalidTensorError(
            f"A projection matrix has shape (*B, 3, 4), got {tuple(matrix.shape)} {matrix.dtype}.",
            hint="Give floating 3x4 matrices in the last two dimensions.",
        )
    flat = to_array(matrix).reshape(-1, 3, 4)
    volume = np.linalg.det(flat[:, :, :3])
    if not (np.abs(volume) > 1e-12 * np.linalg.norm(flat[:, :, :3], axis=(1, 2)) ** 3).all():
        raise PoseDegenerateError(
            "The left 3x3 block of a projection matrix is singular.", hint="Affine cameras have no K [R | t]."
        )
    view, skew = view_from_projection(flat * np.sign(volume)[:, None, None])
    intrinsics = np.tile(np.eye(3), (len(flat), 1, 1))
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = view.intrinsics[:, 0], view.intrinsics[:, 1]
    intrinsics[:, 0, 1], intrinsics[:, :2, 2] = skew, view.intrinsics[:, 2:]
    batch = matrix.shape[:-2]
    K, rotation, translation = (
        torch.from_numpy(array).to(matrix) for array in (intrinsics, view.rotation, view.translation)
    )
    return K.reshape(*batch, 3, 3), rotation.reshape(*batch, 3, 3), translation.reshape(*batch, 3)


def reference_dlt(points_object: Tensor, uv: Tensor, weights: Tensor | None = None) -> Tensor:
    """The published method: singular vectors of the 2N x 12 matrix, nothing normalized. For comparison only.

    Args:
        points_object: (B, N, 3) object points, N >= 6.
        uv: (B, N, 2) normalized image coordinates.
        weights: (B, N) factors of the homogeneous points, or None.

    Returns:
        (B, 3, 4) unit-norm projection matrices in the type of the points, positive determinant of the left block.

    Raises:
        TooFewCorrespondencesError: N < 6.
        InvalidTensorError: shapes do not fit.

    Source: CUPID (arXiv 2510.20776), pose from the UV cube by DLT.
    """
    _check(points_object, uv, weights)
    homogeneous = torch.cat((points_object, torch.ones_like(points_object[..., :1])), dim=-1)
    if weights is not None:
        homogeneous = homogeneous * weights[..., None]
    batch, count = points_object.shape[0], points_object.shape[1]
    system = points_object.new_zeros(batch, 2 * count, 12)
    system[:, 0::2, 0:4] = homogeneous
    system[:, 1::2, 4:8] = homogeneous
    system[:, 0::2, 8:12] = -uv[..., :1] * homogeneous
    system[:, 1::2, 8:12] = -uv[..., 1:] * homogeneous
    matrix: Tensor = torch.linalg.svd(system, full_matrices=False).Vh[:, -1].reshape(batch, 3, 4)
    sign = torch.where(torch.linalg.det(matrix[:, :, :3]) < 0, -1.0, 1.0)
    return matrix * sign[:, None, None]


def _check(points: Tensor, uv: Tensor, weights: Tensor | None) -> None:
    fits = (
        points.ndim >= 2
        and points.shape[-1] == 3
        and uv.shape == (*points.shape[:-1], 2)
        and (weights is None or weights.shape == points.shape[:-1])
    )
    if not fits or not points.is_floating_point():
        raise InvalidTensorError(
            f"Points {tuple(points.shape)} {points.dtype} and uv {tuple(uv.shape)} do not fit together.",
            hint="Give floating points (*B, N, 3), uv (*B, N, 2) and weights (*B, N).",
        )
    if points.shape[-2] < MINIMUM_POINTS:
        raise TooFewCorrespondencesError(
            f"{points.shape[-2]} correspondences, the DLT needs {MINIMUM_POINTS}.", hint="Give more points."
        )
