"""Removes lens distortion from an image and from the labels and depth that belong to its pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cupid_core.errors import InvalidCameraError, InvalidDepthError, InvalidImageError
from cupid_core.geometry.camera import Camera
from cupid_core.types import DepthMap

# A principal point may lie outside after a crop, a focal length may be of a fisheye (0.3) or a telescope (20).
_FOCAL_RANGE = (0.1, 50.0)
_PRINCIPAL_POINT_RANGE = (-1.0, 2.0)
_PIXEL_ASPECT_RANGE = (0.5, 2.0)


@dataclass(frozen=True, eq=False)
class RectifiedFrame:
    """An image as a pinhole camera would have taken it, and what belongs to its pixels.

    Attributes:
        image: (H, W, 3) uint8; black where `valid_mask` is False.
        labels: (H, W) int32 object ids, 0 is background and where `valid_mask` is False; None where not given.
        depth: NaN where `valid_mask` is False; None where none was given.
        camera: pinhole camera of the same K and size.
        valid_mask: (H, W) bool; False where the distorted image has no pixel.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int32] | None
    depth: DepthMap | None
    camera: Camera
    valid_mask: NDArray[np.bool_]


def rectify(
    image: NDArray[np.uint8], camera: Camera, *, labels: NDArray[Any] | None = None, depth: DepthMap | None = None
) -> RectifiedFrame:
    """Remove lens distortion from an image, its labels and its depth together; K stays.

    Colors are interpolated, labels and depth take the nearest pixel. Depth is z along the axis, which the lens
    does not change. Without distortion all pixels stay as they are.

    Args:
        image: (H, W, 3) uint8.
        camera: of this image.
        labels: (H, W) integer object ids.
        depth: aligned to the image.

    Raises:
        InvalidCameraError: `check_camera` refuses.
        InvalidImageError: the labels have another size or are not integers.
        InvalidDepthError: the depth has another size, or no pixel of it is left.
    """
    check_camera(camera, image.shape[0], image.shape[1])
    size = image.shape[:2]
    if labels is not None and (labels.shape != size or labels.dtype.kind not in "bui"):
        raise InvalidImageError(
            f"The label image is {labels.shape} {labels.dtype}, the image {size} (height, width).",
            hint="Give the labels of this image, one whole number per pixel.",
        )
    if depth is not None and tuple(depth.depth_m.shape) != size:
        raise InvalidDepthError(
            f"Depth is {tuple(depth.depth_m.shape)}, the image {size} (height, width).",
            hint="Align depth to the color image first.",
        )
    pixels, pinhole = camera.undistort(image, "linear")
    valid, _ = camera.undistort(np.ones(size, dtype=np.uint8), "nearest")
    straight = None
    if labels is not None:
        # OpenCV resamples no int32; float64 holds every one of them exactly.
        straight = camera.undistort(labels.astype(np.float64), "nearest")[0].astype(np.int32)
    return RectifiedFrame(pixels, straight, _rectify_depth(depth, camera), pinhole, valid.astype(np.bool_))


def _rectify_depth(depth: DepthMap | None, camera: Camera) -> DepthMap | None:
    if depth is None or camera.lens is None:
        return depth
    moved, _ = camera.undistort(depth.depth_m.detach().cpu().numpy(), "nearest")
    # Pixels outside the distorted image come back as zero.
    return replace(depth, depth_m=torch.from_numpy(np.where(moved > 0, moved, np.float32(np.nan))))


def check_camera(camera: Camera, height: int, width: int) -> None:
    """Make sure that a camera can be that of an image.

    Raises:
        InvalidCameraError: another size, a principal point more than an image size outside, or focal lengths that
            no lens has (below 0.1 or above 50 of the longer side, or differing by more than a factor of two).
    """
    if (camera.height, camera.width) != (height, width):
        same_shape = abs(camera.width * height - camera.height * width) <= max(camera.width, width)
        hint = "Give the camera of this very image"
        if same_shape:
            hint = f"Scale fx, fy, cx and cy by {width / camera.width:g}, and state {width} x {height}"
        elif (camera.height, camera.width) == (width, height):
            hint += "; a photo that is stored turned (EXIF) is read upright"
        raise InvalidCameraError(
            f"The camera is {camera.width} x {camera.height}, the image {width} x {height} (width x height).",
            hint=f"{hint}.",
        )
    fx, fy, cx, cy = (float(camera.K[index]) for index in ((0, 0), (1, 1), (0, 2), (1, 2)))
    longer = max(height, width)
    if not all(_FOCAL_RANGE[0] * longer <= value <= _FOCAL_RANGE[1] * longer for value in (fx, fy)):
        raise InvalidCameraError(
            f"Focal lengths {fx:g} and {fy:g} px do not fit an image of {width} x {height}; expected "
            f"{_FOCAL_RANGE[0] * longer:g} to {_FOCAL_RANGE[1] * longer:g}.",
            hint="Give K in pixels of this image, not normalized and not in millimetres.",
        )
    if not _PIXEL_ASPECT_RANGE[0] <= fx / fy <= _PIXEL_ASPECT_RANGE[1]:
        raise InvalidCameraError(
            f"fx / fy = {fx / fy:g}: no sensor has such pixels.", hint="Check the order: fx, fy, cx, cy."
        )
    low, high = _PRINCIPAL_POINT_RANGE
    if not (low * width <= cx <= high * width and low * height <= cy <= high * height):
        raise InvalidCameraError(
            f"The principal point ({cx:g}, {cy:g}) px is far outside the image of {width} x {height}.",
            hint="Give the K of this very image, in pixels, in the order fx, fy, cx, cy.",
        )
