"""Square crops around an object, and the camera of the crop from that of the image and back.

There are two: `crop_to_content`, whose box is whole pixels so that the camera is exact, and
`reference_crop_to_content`, the published method with its inaccuracies, kept for parity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cupid_core.config import CropConfig
from cupid_core.errors import EmptyMaskError, InvalidImageError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.grid import PixelBox, box_of
from cupid_core.image.foreground import RgbaImage, check_rgba


@dataclass(frozen=True, eq=False)
class Crop:
    """A square cut from an image.

    Attributes:
        rgba: (side, side, 4) uint8; transparent black where the square reaches beyond the image.
        left: column of the image that is column 0 of the square; may be negative.
        top: row of the image that is row 0 of the square; may be negative.
        image_width: width of the whole image in pixels.
        image_height: height of the whole image in pixels.
        truncated: the object touches the border of the image, so part of it may be cut off.
    """

    rgba: RgbaImage
    left: int
    top: int
    image_width: int
    image_height: int
    truncated: bool

    @property
    def side(self) -> int:
        """Width and height of the square in pixels of the image."""
        return int(self.rgba.shape[0])

    def camera(self, camera: Camera) -> Camera:
        """The camera of the square, from the camera of the whole image; undone by `uncrop_camera`.

        Raises:
            InvalidImageError: the camera has another size than the image.
        """
        if (camera.width, camera.height) != (self.image_width, self.image_height):
            raise InvalidImageError(
                f"The camera is {camera.width} x {camera.height}, the image {self.image_width} x "
                f"{self.image_height}.",
                hint="Give the camera of this image, resized with it.",
            )
        return camera.crop(self.left, self.top, self.side, self.side)

    def uncrop_camera(self, camera: Camera) -> Camera:
        """The camera of the whole image, from the camera of the square at any size; undoes `camera`."""
        square = camera.resize(self.side, self.side)
        return square.crop(-self.left, -self.top, self.image_width, self.image_height)

    def uncrop_intrinsics(self, K_normalized: Tensor) -> Tensor:
        """Normalized intrinsics (3, 3) of the square to those of the whole image.

        Normalized by width and height each, as everywhere in this package; the published method divides both by
        the longer side.

        Raises:
            InvalidCameraError: no intrinsic matrix.
        """
        camera = Camera.from_normalized(K_normalized, self.side, self.side)
        return self.uncrop_camera(camera).K_normalized()


def crop_to_content(rgba: RgbaImage, config: CropConfig | None = None) -> Crop:
    """Cut a square of whole pixels around the object, beyond the border if need be.

    The center of the square is that of the object's box to half a pixel; a centered camera thus stays nearly
    centered.

    Args:
        rgba: (H, W, 4) uint8; alpha is the mask of the object.
        config: margin and threshold; defaults where None.

    Raises:
        InvalidImageError: wrong shape or type, no pixels.
        EmptyMaskError: no pixel is opaque enough.
    """
    config = config or CropConfig()
    x0, y0, x1, y1 = _content_box(rgba, config.alpha_threshold)
    side = max(1, round(config.margin * max(x1 - x0, y1 - y0)))
    left, top = (x0 + x1 - side) // 2, (y0 + y1 - side) // 2
    height, width = rgba.shape[:2]
    return Crop(
        rgba=cut(rgba, left, top, left + side, top + side),
        left=left,
        top=top,
        image_width=width,
        image_height=height,
        truncated=x0 == 0 or y0 == 0 or x1 == width or y1 == height,
    )


@dataclass(frozen=True, eq=False)
class ReferenceCrop:
    """A crop as the published method makes it.

    Attributes:
        rgba: (side, side, 4) uint8; by up to one pixel narrower than `scale` says, and by up to half a pixel
        shifted.
        scale: side of the square over the longer side of the image.
        offset_x: left edge of the square over the longer side of the image.
        offset_y: top edge of the square over the longer side of the image.
    """

    rgba: RgbaImage
    scale: float
    offset_x: float
    offset_y: float

    def uncrop_intrinsics(self, K_normalized: Tensor) -> Tensor:
        """Intrinsics (..., 3, 3) of the square to the whole image, both axes normalized by its longer side."""
        x, y = self.offset_x, self.offset_y
        rows = [[self.scale, 1.0, self.scale], [1.0, self.scale, self.scale], [1.0, 1.0, 1.0]]
        shift = K_normalized.new_tensor([[0.0, 0.0, x], [0.0, 0.0, y], [0.0, 0.0, 0.0]])
        return K_normalized * K_normalized.new_tensor(rows) + shift


def reference_crop_to_content(rgba: RgbaImage, config: CropConfig | None = None) -> ReferenceCrop:
    """The published crop, pixel for pixel and number for number.

    Known inaccuracies: an odd side is cut one pixel short of what the intrinsics say, half-pixel centers move the
    box by up to half a pixel, and skew is not rescaled.

    Args:
        rgba: as in `crop_to_content`.
        config: as in `crop_to_content`.

    Raises:
        InvalidImageError: as `crop_to_content`.
        EmptyMaskError: as `crop_to_content`.

    Source: CUPID (arXiv 2510.20776), released preprocessing.
    """
    config = config or CropConfig()
    x0, y0, x1, y1 = _content_box(rgba, config.alpha_threshold)
    x1, y1 = x1 - 1, y1 - 1  # the published method takes the last column and row
    side = int(max(x1 - x0, y1 - y0) * config.margin)
    left, top = (x0 + x1) / 2 - side // 2, (y0 + y1) / 2 - side // 2
    right, bottom = left + 2 * (side // 2), top + 2 * (side // 2)
    longer = max(rgba.shape[:2])
    if side < 2:
        raise EmptyMaskError(
            "The mask is at most two pixels wide and high.", hint="Give the mask of a visible object."
        )
    # Python rounds half to even, as the published method does.
    pixels = cut(rgba, round(left), round(top), round(right), round(bottom))
    return ReferenceCrop(pixels, side / longer, left / longer, top / longer)


def cut(rgba: RgbaImage, left: int, top: int, right: int, bottom: int) -> RgbaImage:
    """Cut a box out of an image.

    Args:
        rgba: (H, W, 4) uint8.
        left: first column; may be negative.
        top: first row; may be negative.
        right: column after the last; may lie beyond the image.
        bottom: row after the last; may lie beyond the image.

    Returns:
        (bottom - top, right - left, 4) uint8, a copy; transparent black beyond the image.
    """
    height, width = rgba.shape[:2]
    result = np.zeros((bottom - top, right - left, 4), dtype=np.uint8)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    result[y0 - top : y1 - top, x0 - left : x1 - left] = rgba[y0:y1, x0:x1]
    return result


def network_input(rgba: RgbaImage, size: int) -> Tensor:
    """Resize for a network: Lanczos on premultiplied 8-bit pixels, background black.

    Args:
        rgba: (H, W, 4) uint8.
        size: width and height of the result.

    Returns:
        (3, size, size) float32 RGB in [0, 1], multiplied by alpha.

    Raises:
        InvalidImageError: wrong shape or type, no pixels.

    Source: TRELLIS (Xiang et al. 2024), image preprocessing. Pillow does the resampling, so that every pixel
    equals what the networks were trained on.
    """
    check_rgba(rgba)
    resized = Image.fromarray(np.ascontiguousarray(rgba)).resize((size, size), Image.Resampling.LANCZOS)
    values = torch.from_numpy(np.array(resized)).float().div_(255.0).permute(2, 0, 1)
    return (values[:3] * values[3:]).contiguous()


def _content_box(rgba: RgbaImage, alpha_threshold: float) -> PixelBox:
    """Box x0, y0, x1, y1 of the object, far edges excluded."""
    check_rgba(rgba)
    box = box_of(rgba[..., 3] > alpha_threshold * 255)
    if box is None:
        raise EmptyMaskError(
            f"No pixel is more than {100 * alpha_threshold:g} % opaque (highest alpha {int(rgba[..., 3].max())} "
            f"of 255).",
            hint="Give an image whose alpha is the mask of the object.",
        )
    return box
