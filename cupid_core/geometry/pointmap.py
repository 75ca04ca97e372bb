"""Depth images and their 3D points: metres, holes, normals.

A point map is one 3D point per pixel, in the camera's optical frame. A hole is absence: NaN in the numbers and
False in the mask, never zero.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cupid_core.errors import InvalidDepthError, InvalidTensorError
from cupid_core.geometry.camera import Camera

_METRES_PER_COUNT = 0.001
# What depth cameras measure: beyond, stereo is off by a meter and time of flight sees nothing. Readings of a
# tabletop in centimeters, taken for meters, are beyond as well.
_RANGE_M = (0.01, 30.0)
# Of 16 bits, which many drivers send for "too far"; also where the image was converted to another type since.
_NO_READING = 65535


def depth_to_metres(
    depth: NDArray[Any] | Tensor, *, metres_per_count: float | None = None
) -> tuple[Tensor, Tensor]:
    """Read a depth image as sensors deliver it.

    Holes are zero, negative, NaN, infinite, 65535, the largest value of an integer type, and everything beyond
    30 m, which no depth camera measures.

    Args:
        depth: (H, W) integers of 16 bits or more, or floating.
        metres_per_count: unit of the numbers; None takes millimetres for integers (ROS 16UC1) and metres for
            floating (ROS 32FC1).

    Returns:
        depth_m: (H, W) metres, NaN in holes; float64 for float64 input, float32 otherwise.
        valid: (H, W) bool, False in holes.

    Raises:
        InvalidDepthError: another type or shape, a unit that is not positive, not one valid pixel, or a median
            that shows another unit: below 1 cm or beyond 30 m.

    Source: REP 118 (depth images), with its special values all treated as absence.
    """
    array = depth.detach().cpu().numpy() if isinstance(depth, Tensor) else depth
    if array.ndim != 2 or array.dtype.kind not in "uif" or array.dtype.itemsize < 2:
        raise InvalidDepthError(
            f"Depth has shape {array.shape} and type {array.dtype}.",
            hint="Expected (H, W): whole numbers of 16 bits or more in millimetres, or floating in metres.",
        )
    is_whole = array.dtype.kind in "ui"
    if metres_per_count is None:
        metres_per_count = _METRES_PER_COUNT if is_whole else 1.0
    check_depth_unit(metres_per_count)
    # Types are compared by name: ROS images may come in the other byte order, which torch does not take.
    counts = torch.from_numpy(
        array.astype(np.float64 if is_whole or array.dtype.name == "float64" else np.float32)
    )
    if isinstance(depth, Tensor):
        counts = counts.to(depth.device)
    saturated = counts == _NO_READING
    if is_whole:
        saturated |= counts == float(np.iinfo(array.dtype).max)
    metres = torch.where(saturated, torch.nan, counts * metres_per_count)
    depth_m = within_sensor_range(metres.float() if is_whole else metres)
    return depth_m, depth_m.isfinite()


def check_depth_unit(metres_per_count: float) -> None:
    """Make sure that a unit of depth is a positive number.

    Raises:
        InvalidDepthError: it is zero, negative, infinite or NaN.
    """
    if not (math.isfinite(metres_per_count) and metres_per_count > 0):
        raise InvalidDepthError(
            f"The unit of depth is {metres_per_count:g} m.",
            hint="Give the metres of one count, a positive number: 0.001 for millimetres.",
        )


def within_sensor_range(depth_m: Tensor) -> Tensor:
    """Depth (H, W) with NaN for what no depth camera measures.

    Raises:
        InvalidDepthError: not one pixel is left, or the median of the positive finite ones is out of range, as in
            another unit.
    """
    measured = depth_m[(depth_m > 0) & depth_m.isfinite()]
    if not len(measured):
        raise InvalidDepthError(
            f"The depth image ({' x '.join(map(str, depth_m.shape))}) has not one valid pixel.",
            hint="Check the sensor's range and that depth is aligned to the color image.",
        )
    nearest, farthest = _RANGE_M
    median = float(measured.median())
    if not nearest <= median <= farthest:
        raise InvalidDepthError(
            f"The median depth is {median:g} m; depth cameras measure {nearest:g} to {farthest:g} m.",
            hint="Check the unit: floating depth counts as metres, whole numbers as millimetres. Millimetres in "
            "floating numbers are divided by 1000, or read with the unit 0.001 (--depth-unit-m 0.001).",
        )
    return _without_holes(torch.where(depth_m <= farthest, depth_m, torch.nan))


def unproject_depth(depth_m: Tensor, camera: Camera) -> Tensor:
    """One point per pixel.

    Args:
        depth_m: (*B, H, W) camera z, metres (or any unit, which the points then have).
        camera: of size W x H; all images of the batch share it.

    Returns:
        (*B, H, W, 3) in the camera frame; NaN where depth is a hole (zero, negative, not finite) and where the
        lens has no ray. `points_to_depth` undoes it.

    Raises:
        InvalidDepthError: the depth image and the camera differ in size.
    """
    if tuple(depth_m.shape[-2:]) != (camera.height, camera.width):
        raise InvalidDepthError(
            f"Depth has shape {tuple(depth_m.shape)}, the camera has {camera.height} rows of {camera.width}.",
            hint="Align depth to the color image first, or give the depth camera's own CameraInfo.",
        )
    return camera.rays().to(depth_m) * _without_holes(depth_m)[..., None]


def points_to_depth(points: Tensor) -> Tensor:
    """Depth of a point map; undoes `unproject_depth`.

    Args:
        points: (*B, H, W, 3) in the camera frame; NaN is absence.

    Returns:
        (*B, H, W) camera z, NaN where a point is absent or not in front of the camera.

    Raises:
        InvalidTensorError: the last dimension is not 3.
    """
    _check_points(points, minimum_ndim=1)
    absent = ~points.isfinite().all(dim=-1)
    return _without_holes(points[..., 2]).masked_fill(absent, torch.nan)


def normals(points: Tensor, max_relative_jump: float = 0.05) -> Tensor:
    """Surface normals of a point map from central differences (one-sided at the image border).

    Args:
        points: (*B, H, W, 3) in the camera frame, NaN in holes; H, W >= 2.
        max_relative_jump: largest step in depth to a neighbor, as a fraction of the depth of the pixel, that
            still counts as the same surface; 0.05 is a surface viewed at 88 degrees with a focal length of 500 px.

    Returns:
        (*B, H, W, 3) unit vectors that face the camera (n . p < 0). NaN where the pixel or one of its four
        neighbors is a hole or lies beyond a depth jump, and where the surface is viewed exactly edge-on.

    Raises:
        InvalidTensorError: wrong shape, or an image of less than 2 x 2 pixels.
    """
    _check_points(points, minimum_ndim=3)
    height, width = points.shape[-3:-1]
    if min(height, width) < 2:
        raise InvalidTensorError(
            f"Normals need at least 2 x 2 pixels, got {height} x {width}.", hint="Cut a larger box."
        )
    flat = points.reshape(-1, height, width, 3).permute(0, 3, 1, 2)
    around = (
        functional.pad(flat, (1, 1, 1, 1), mode="replicate")
        .permute(0, 2, 3, 1)
        .reshape(*points.shape[:-3], height + 2, width + 2, 3)
    )
    left, right = around[..., 1:-1, :-2, :], around[..., 1:-1, 2:, :]
    above, below = around[..., :-2, 1:-1, :], around[..., 2:, 1:-1, :]
    # Down cross right points towards the camera: y down, x right, z forward.
    normal = torch.linalg.cross(below - above, right - left)
    towards = -(normal * points).sum(-1, keepdim=True).sign()
    length = torch.linalg.vector_norm(normal, dim=-1, keepdim=True)
    unit: Tensor = towards * normal / torch.where(length > 0, length, torch.ones_like(length))
    depth = points[..., 2]
    steps = torch.stack([(side[..., 2] - depth).abs() for side in (left, right, above, below)])
    # NaN compares False, so a hole in any neighbor ends here too.
    smooth = (steps <= max_relative_jump * depth).all(dim=0) & (towards[..., 0] != 0)
    return torch.where(smooth[..., None], unit, torch.nan)


def _without_holes(depth: Tensor) -> Tensor:
    return torch.where((depth > 0) & depth.isfinite(), depth, torch.nan)


def _check_points(points: Tensor, minimum_ndim: int) -> None:
    if points.shape[-1:] != (3,) or points.ndim < minimum_ndim or not points.is_floating_point():
        raise InvalidTensorError(
            f"Points have shape {tuple(points.shape)} and type {points.dtype}, expected (..., H, W, 3) floating.",
            hint="Put x, y, z in the last dimension.",
        )
