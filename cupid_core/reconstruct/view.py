"""One object in one image, as the networks want to see it; knows pixels and cameras, runs no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupid_core.config import CupidConfig, PoseConfig
from cupid_core.errors import InvalidImageError
from cupid_core.geometry.camera import Camera
from cupid_core.image.crop import Crop, crop_to_content, network_input
from cupid_core.image.foreground import with_mask
from cupid_core.models.conv_image_encoder import with_hidden
from cupid_core.types import DepthMap

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ObjectView:
    """One object in one image without lens distortion.

    Attributes:
        crop: the square around it.
        mask: (H, W) bool, its visible pixels in the whole image.
        hidden: (side, side) bool of the crop: where the object could continue unseen, behind something else or
            beyond the border of the image; None where nothing is known to be hidden.
        camera: of the crop; a guess of its focal length where `camera_known` is False.
        camera_known: the camera was given.
        depth: of the whole image; None without.
    """

    crop: Crop
    mask: Mask
    hidden: Mask | None
    camera: Camera
    camera_known: bool
    depth: DepthMap | None = None


def look_at(
    image: Image,
    mask: Mask,
    config: CupidConfig,
    *,
    camera: Camera | None = None,
    occlusion: Mask | None = None,
    depth: DepthMap | None = None,
) -> ObjectView:
    """Cut an object out of an image.

    Args:
        image: (H, W, 3) uint8 RGB without lens distortion.
        mask: (H, W) bool, the visible pixels of the object.
        config: of crop, pose and reconstruction.
        camera: of the image, without lens distortion; None where it is unknown: square pixels and a principal
            point in the middle are then assumed, and the focal length is estimated.
        occlusion: (H, W) bool, where something else hides what would be there; None where nothing is known to.
        depth: of the image.

    Raises:
        InvalidImageError: shapes do not fit.
        EmptyMaskError: the mask selects nothing.
    """
    rgba = with_mask(image, mask)
    crop = crop_to_content(rgba, config.crop)
    height, width = mask.shape
    if occlusion is not None and occlusion.shape != mask.shape:
        raise InvalidImageError(
            f"The occlusion mask is {occlusion.shape}, the image {mask.shape} (height, width).",
            hint="Give one value per pixel of the image.",
        )
    if depth is not None and tuple(depth.depth_m.shape) != mask.shape:
        raise InvalidImageError(
            f"The depth image is {tuple(depth.depth_m.shape)}, the image {mask.shape} (height, width).",
            hint="Align depth to the color image.",
        )
    return ObjectView(
        crop=crop,
        mask=mask,
        hidden=_hidden(crop, occlusion, beyond_border=config.reconstruct.border_is_hidden),
        camera=crop.camera(camera or guessed_camera(width, height, config.pose)),
        camera_known=camera is not None,
        depth=depth,
    )


def guessed_camera(width: int, height: int, config: PoseConfig) -> Camera:
    """Square pixels, principal point in the middle, the most likely focal length."""
    return Camera.from_focal(config.unknown_focal * max(width, height), width, height)


def pose_config(view: ObjectView, config: PoseConfig) -> PoseConfig:
    """What is free in the camera of a view: what the settings say, or the focal length of a guessed one."""
    if view.camera_known:
        return config
    return config.model_copy(update={"intrinsics": "focal", "focal_std": config.unknown_focal_std_log})


def network_images(views: Sequence[ObjectView], size: int, channels: int) -> Tensor:
    """(B, channels, size, size) of the crops: RGB in [0, 1] on black and, fourth, the mask with what is hidden."""
    rgb = torch.stack([network_input(view.crop.rgba, size) for view in views])
    if channels == 3:
        return rgb
    masks = torch.stack([_resized(view.crop.rgba[..., 3] > 0, size) for view in views])
    hidden = torch.stack([_unseen(view, size) for view in views])
    return with_hidden(torch.cat([rgb, masks], dim=1), hidden)


def unoccluded(views: Sequence[ObjectView], size: int) -> Tensor | None:
    """(B, 1, size, size), 0 where something hides what would be there; None where nothing is known to, in any."""
    if all(view.hidden is None for view in views):
        return None
    return 1.0 - torch.stack([_unseen(view, size) for view in views])


def _unseen(view: ObjectView, size: int) -> Tensor:
    return torch.zeros(1, size, size) if view.hidden is None else _resized(view.hidden, size)


def _resized(mask: Mask, size: int) -> Tensor:
    """(1, size, size) in [0, 1], resampled as the colors are."""
    gray = np.where(mask, np.uint8(255), np.uint8(0))
    rgba = np.stack([gray, gray, gray, np.full_like(gray, 255)], axis=-1)
    return network_input(rgba, size)[:1]


def _hidden(crop: Crop, occlusion: Mask | None, *, beyond_border: bool) -> Mask | None:
    """What is hidden in the square; None where nothing is."""
    side = crop.side
    rows, columns = np.arange(side) + crop.top, np.arange(side) + crop.left
    inside_rows = (rows >= 0) & (rows < crop.image_height)
    inside_columns = (columns >= 0) & (columns < crop.image_width)
    inside = inside_rows[:, None] & inside_columns[None]
    hidden = np.zeros((side, side), dtype=bool)
    if beyond_border and crop.truncated:
        hidden |= ~inside
    if occlusion is not None:
        hidden[inside] |= occlusion[rows[inside_rows]][:, columns[inside_columns]].reshape(-1)
    hidden &= crop.rgba[..., 3] == 0
    return hidden if hidden.any() else None
