"""The input planes of an image encoder, by name, and how those of depth and gravity are computed.

    rgb      3  color in [0, 1] on black
    mask     1  1 on the object, 1/2 where it may continue occluded, 0 elsewhere
    points   4  measured surface points in the frame of the crop, and whether there is one
    gravity  2  how far each pixel's ray points down, and whether gravity is known

Every group but the color may be absent; its planes are zero then, for robots without depth or without a known up
direction.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cupid_core.errors import ConfigError, InvalidTensorError

PLANES: dict[str, int] = {"rgb": 3, "mask": 1, "points": 4, "gravity": 2}
# Farther points, in half widths of the crop, belong to something else.
_FARTHEST = 2.5
# With fewer measured points the position of the object is too uncertain.
_FEWEST_POINTS = 12


def channels_of(planes: Sequence[str]) -> int:
    """Number of channels of these planes.

    Raises:
        ConfigError: an unknown or repeated name, or another order than that of `PLANES`.
    """
    if not planes or list(planes) != [name for name in PLANES if name in planes]:
        raise ConfigError(
            f"The planes of an image encoder are {list(planes)}.",
            hint=f"Name each once, in this order: {', '.join(PLANES)}.",
        )
    return sum(PLANES[name] for name in planes)


def select_planes(image: Tensor, planes: Sequence[str]) -> Tensor:
    """The channels of these planes from an image that has the first ones of `PLANES`; absent ones are zero.

    Args:
        image: (B, C, S, S), channels in the order of `PLANES`, possibly only the first groups.
        planes: of the encoder.

    Returns:
        (B, channels_of(planes), S, S).

    Raises:
        InvalidTensorError: a group is there in part.
    """
    starts, parts, first = image.shape[1], [], 0
    for name, width in PLANES.items():
        if first < starts < first + width:
            raise InvalidTensorError(
                f"An image of {starts} channels has only a part of '{name}'.",
                hint=f"Channels are {PLANES}, in this order; leave out whole groups at the end.",
            )
        if name in planes:
            there = first < starts
            parts.append(
                image[:, first : first + width]
                if there
                else image.new_zeros(image.shape[0], width, *image.shape[2:])
            )
        first += width
    return torch.cat(parts, dim=1)


def without_planes(image: Tensor, absent: Sequence[str]) -> Tensor:
    """The image (B, C, S, S) as it is where these groups are not known: zeros."""
    made, first = image.clone(), 0
    for name, width in PLANES.items():
        if name in absent:
            made[:, first : first + width] = 0
        first += width
    return made


def normalized_planes(image: Tensor, planes: Sequence[str]) -> Tensor:
    """Color and mask brought to about zero mean and unit deviation; the other planes are so already."""
    pictures = sum(PLANES[name] for name in planes if name in ("rgb", "mask"))
    return torch.cat([(image[:, :pictures] - 0.5) * 4, image[:, pictures:]], dim=1)


def central_frame(intrinsics: Tensor) -> Tensor:
    """Rotations (B, 3, 3) from the camera to the frame of the crop: z is the ray through the crop's center.

    Args:
        intrinsics: (B, 3, 3) normalized K of the crop.
    """
    z = torch.stack(
        [
            (0.5 - intrinsics[:, 0, 2]) / intrinsics[:, 0, 0],
            (0.5 - intrinsics[:, 1, 2]) / intrinsics[:, 1, 1],
            torch.ones_like(intrinsics[:, 0, 0]),
        ],
        dim=1,
    )
    z = z / z.norm(dim=1, keepdim=True)
    down = z.new_tensor([0.0, 1.0, 0.0]).expand_as(z)
    x = torch.linalg.cross(down, z)
    x = x / x.norm(dim=1, keepdim=True)
    return torch.stack([x, torch.linalg.cross(z, x), z], dim=1)


def level_frame(R_crop_camera: Tensor, up_camera: Tensor, known: Tensor) -> Tensor:
    """Rotations (B, 3, 3) from the camera to a frame whose y is gravity, as near to the crop's as can be.

    Where up is not known, or the camera looks along it, the frame is that of the crop.

    Args:
        R_crop_camera: (B, 3, 3) of `central_frame`.
        up_camera: (B, 3) unit vectors, camera frame.
        known: (B,) bool.
    """
    y = -(R_crop_camera @ up_camera[..., None])[..., 0]
    forward = y.new_tensor([0.0, 0.0, 1.0]).expand_as(y)
    x = torch.linalg.cross(y, forward)
    length = x.norm(dim=1, keepdim=True)
    defined = known & (length[:, 0] > 0.05)
    x = x / length.clamp(min=1e-6)
    R_level_crop = torch.stack([x, y, torch.linalg.cross(x, y)], dim=1)
    chosen = torch.where(defined[:, None, None], R_level_crop, torch.eye(3, device=y.device))
    return chosen @ R_crop_camera


def point_planes(depth: Tensor, intrinsics: Tensor, up_camera: Tensor, up_known: Tensor) -> Tensor:
    """Planes "points": surface points around their middle, in half widths of the crop.

    The middle lies on the central ray at the median depth along it; the unit is half the crop's width there. So
    the planes do not change with the distance or the focal length. Axes are level where gravity is known.

    Args:
        depth: (B, S, S) z of the camera frame, any unit, 0 where nothing was measured or it is not the object.
        intrinsics: (B, 3, 3) normalized K of the crop.
        up_camera: (B, 3) unit vectors against gravity, camera frame.
        up_known: (B,) bool.

    Returns:
        (B, 4, S, S): x, y, z, and 1 where there is a point; all zero where there are too few.
    """
    size = depth.shape[-1]
    rays = pixel_rays(intrinsics, size)
    R_crop_camera = central_frame(intrinsics)
    there = depth > 0
    along = torch.einsum("bj,bjhw->bhw", R_crop_camera[:, 2], rays) * depth
    middle = torch.nanmedian(torch.where(there, along, torch.nan).flatten(1), dim=1).values
    enough = there.flatten(1).sum(dim=1) >= _FEWEST_POINTS
    middle = torch.where(enough, middle, torch.ones_like(middle))
    unit = 0.5 * middle / (intrinsics[:, 0, 0] * rays_length_at_center(intrinsics))
    R_level_camera = level_frame(R_crop_camera, up_camera, up_known)
    center = R_crop_camera[:, 2] * middle[:, None]  # camera frame
    points = rays * depth[:, None] - center[:, :, None, None]
    points = torch.einsum("bij,bjhw->bihw", R_level_camera, points) / unit[:, None, None, None]
    good = there & enough[:, None, None] & (points.abs() < _FARTHEST).all(dim=1)
    return torch.cat([points, torch.ones_like(points[:, :1])], dim=1) * good[:, None]


def gravity_planes(intrinsics: Tensor, up_camera: Tensor, known: Tensor, size: int) -> Tensor:
    """Planes "gravity": sine of the angle of each pixel's ray below the horizon, and whether it is known.

    Args:
        intrinsics: (B, 3, 3) normalized K of the crop.
        up_camera: (B, 3) unit vectors, camera frame.
        known: (B,) bool.
        size: S.

    Returns:
        (B, 2, S, S).
    """
    rays = pixel_rays(intrinsics, size)
    down = -torch.einsum("bj,bjhw->bhw", up_camera, rays) / rays.norm(dim=1)
    return torch.stack([down, torch.ones_like(down)], dim=1) * known.view(-1, 1, 1, 1)


def pixel_rays(intrinsics: Tensor, size: int) -> Tensor:
    """Rays (B, 3, S, S) through the pixel centers, camera frame, z = 1."""
    axis = (torch.arange(size, device=intrinsics.device) + 0.5) / size
    x = (axis[None] - intrinsics[:, 0, 2:3]) / intrinsics[:, 0, 0:1]
    y = (axis[None] - intrinsics[:, 1, 2:3]) / intrinsics[:, 1, 1:2]
    count = len(intrinsics)
    return torch.stack(
        [
            x[:, None, :].expand(count, size, size),
            y[:, :, None].expand(count, size, size),
            x.new_ones(count, size, size),
        ],
        dim=1,
    )


def rays_length_at_center(intrinsics: Tensor) -> Tensor:
    """Length (B,) of the ray through the crop's center whose z is 1."""
    x = (0.5 - intrinsics[:, 0, 2]) / intrinsics[:, 0, 0]
    y = (0.5 - intrinsics[:, 1, 2]) / intrinsics[:, 1, 1]
    return (1 + x * x + y * y).sqrt()
