"""The square cut around the object of a training view.

Source: crop augmentation of CUPID's released training (arXiv 2510.20776).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cupid_core.config import ViewCropConfig
from cupid_core.errors import EmptyMaskError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.grid import box_of
from cupid_core.image.crop import cut
from cupid_core.image.foreground import RgbaImage, check_rgba


@dataclass(frozen=True)
class ViewCrop:
    """A square of whole pixels in a view.

    Attributes:
        left: first column; negative beyond the image.
        top: first row; negative beyond the image.
        side: width and height in pixels.
        image_width: width of the view in pixels.
        image_height: height of the view in pixels.
    """

    left: int
    top: int
    side: int
    image_width: int
    image_height: int

    def bounds(self) -> Tensor:
        """Corners (2, 2) float32 of the square, (left, top) and (right, bottom), in coordinates of the view."""
        corners = [[self.left, self.top], [self.left + self.side, self.top + self.side]]
        return torch.tensor(corners, dtype=torch.float32) / torch.tensor([self.image_width, self.image_height])

    def image(self, rgba: RgbaImage) -> RgbaImage:
        """The square (side, side, 4) of the view's image; transparent beyond it."""
        return cut(rgba, self.left, self.top, self.left + self.side, self.top + self.side)

    def intrinsics(self, K_normalized: Tensor) -> Tensor:
        """Normalized intrinsics (3, 3) of the square from those of the view."""
        camera = Camera.from_normalized(K_normalized, self.image_width, self.image_height)
        return camera.crop(self.left, self.top, self.side, self.side).K_normalized()

    def uv(self, uv: Tensor) -> Tensor:
        """Normalized coordinates (..., 2) of the view in those of the square; [0, 1] is inside."""
        pixels = uv * uv.new_tensor([self.image_width, self.image_height])
        return (pixels - uv.new_tensor([self.left, self.top])) / self.side


def draw_ratio(config: ViewCropConfig, generator: np.random.Generator | None = None) -> float:
    """Side of the square over the longer side of the object.

    Args:
        config: range, distribution and buckets.
        generator: of the random ratio; the middle of the range where None, for evaluation.
    """
    share = 0.5 if generator is None else float(generator.beta(config.concentration, config.concentration))
    if config.buckets:
        share = (min(int(share * config.buckets), config.buckets - 1) + 0.5) / config.buckets
    return config.min_ratio + (config.max_ratio - config.min_ratio) * share


def crop_view(rgba: RgbaImage, ratio: float, beyond_border: bool = False) -> ViewCrop:
    """Square of even side around all visible pixels.

    Args:
        rgba: (H, W, 4) uint8; every pixel with any opacity belongs to the object.
        ratio: side of the square over the longer side of the object.
        beyond_border: allow it to reach beyond the image; otherwise it is shrunk around its center until it fits.

    Raises:
        InvalidImageError: no RGBA image.
        EmptyMaskError: no pixel is visible, or the object is so close to a corner that no square fits.
    """
    check_rgba(rgba)
    height, width = rgba.shape[:2]
    box = box_of(rgba[..., 3] > 0)
    if box is None:
        raise EmptyMaskError("No pixel of the view is visible.", hint="Leave this view out.")
    x0, y0, x1, y1 = box
    center_x, center_y = round((x0 + x1) / 2), round((y0 + y1) / 2)
    half = round(0.5 * max(x1 - x0, y1 - y0) * ratio)
    if not beyond_border:
        half = min(half, center_x, center_y, width - center_x, height - center_y)
    if half < 1:
        raise EmptyMaskError("No square around the object fits into the view.", hint="Leave this view out.")
    return ViewCrop(center_x - half, center_y - half, 2 * half, width, height)
