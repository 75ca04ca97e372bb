"""Images, masks, cameras and depth in the forms that people have them: paths, PIL images, arrays, tensors.

Each function turns every natural form into the one form of this package, or says with a typed error what it cannot
use. Files are read by `image.files` and `image.camera_files`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from cupid_core.errors import (
    CupidError,
    EmptyMaskError,
    InputError,
    InvalidCameraError,
    InvalidDepthError,
    InvalidImageError,
    UnreadableFileError,
)
from cupid_core.geometry import depth_to_metres, within_sensor_range
from cupid_core.geometry.camera import Camera
from cupid_core.image.camera_files import camera_of_photo, parse_camera, read_camera_info
from cupid_core.image.files import named, read_depth, read_image, read_labels, read_mask
from cupid_core.image.mask_values import is_soft
from cupid_core.image.masks import Mask, flat_array, mask_from_alpha, mask_from_picture, masks_from_labels
from cupid_core.image.object_values import as_id
from cupid_core.image.pillow_modes import Palette, pillow_pixels
from cupid_core.image.rgb import RgbImage, to_rgb8
from cupid_core.types import CameraSource, DepthMap, ScaleSource

PathInput: TypeAlias = "str | os.PathLike[str]"
ImageInput: TypeAlias = "PathInput | Image.Image | NDArray[Any] | Tensor"
MasksInput: TypeAlias = "ImageInput | Sequence[ImageInput] | Mapping[int, ImageInput] | Mapping[str, ImageInput]"
CameraInput: TypeAlias = "Camera | PathInput | NDArray[Any] | Tensor | Sequence[Any]"
DepthInput: TypeAlias = "DepthMap | PathInput | Image.Image | NDArray[Any] | Tensor"

_FORMS = "a path, a PIL image, a numpy array or a torch tensor"


@dataclass(frozen=True, eq=False)
class NamedMasks:
    """Masks of objects, and the names that came with them.

    Attributes:
        masks: (H, W) bool by id.
        names: by id; only of masks that were given by name.
    """

    masks: Mapping[int, Mask]
    names: Mapping[int, str] = field(default_factory=dict)


def as_image(image: ImageInput, *, upright: bool = True) -> RgbImage:
    """An image in 8-bit RGB, with its opacity where it has one.

    Args:
        image: path of a picture or .npy; PIL image; (H, W), (H, W, 3) or (H, W, 4) array; a tensor of these
            shapes, or channels first (3, H, W).
        upright: turn it as its EXIF orientation says, where it has one.

    Raises:
        InvalidImageError: another type or shape, no pixels, NaN, floats outside [0, 1].
        UnreadableFileError: the file is missing, damaged, or no picture.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image), upright=upright)
    if isinstance(image, Image.Image) and not upright:
        image = image.copy()
        image.getexif().pop(ExifTags.Base.Orientation, None)
    pixels = _pixels(image, "An image", InvalidImageError)
    if isinstance(image, Tensor) and pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4) and pixels.shape[2] > 4:
        pixels = np.moveaxis(pixels, 0, -1)
    return to_rgb8(pixels)


def as_masks(
    masks: MasksInput | None, height: int, width: int, *, alpha: NDArray[np.uint8] | None = None
) -> NamedMasks:
    """Masks of all objects by id.

    Args:
        masks: a label image (whole numbers, 0 for none), one mask (bool, or 0 and 255), masks in a list (ids 1, 2,
            ...), by id, or by name (ids 1, 2, ... in order); each in any form of `as_image`. None takes `alpha`.
        height: of the image.
        width: of the image.
        alpha: (H, W) opacity of the image.

    Raises:
        InvalidImageError: another type or size.
        EmptyMaskError: nothing is selected, or there is neither a mask nor an alpha channel.
        UnreadableFileError: a file is missing, damaged, or no picture.
    """
    if masks is None:
        if alpha is None:
            raise InvalidImageError(
                "There is no mask, and the image has no alpha channel.",
                hint="Give a mask, or an image whose alpha channel selects the object.",
            )
        return NamedMasks({1: mask_from_alpha(alpha)})
    if isinstance(masks, Mapping | list | tuple) and not masks:
        raise EmptyMaskError("There are no masks.", hint="Give one mask for each object.")
    if isinstance(masks, Mapping):
        if all(isinstance(key, str) for key in masks):
            found = {id_: _mask(mask, height, width) for id_, mask in enumerate(masks.values(), start=1)}
            return NamedMasks(found, {id_: str(name) for id_, name in enumerate(masks, start=1)})
        return NamedMasks({as_id(key): _mask(mask, height, width) for key, mask in masks.items()})
    if isinstance(masks, Sequence) and not isinstance(masks, str | bytes):
        return NamedMasks({id_: _mask(mask, height, width) for id_, mask in enumerate(masks, start=1)})
    if isinstance(masks, str | os.PathLike):
        return NamedMasks(_masks_of_file(Path(masks), height, width))
    return NamedMasks(
        _masks_of_array(_pixels(masks, "A mask", InvalidImageError, "indices"), masks, height, width)
    )


def as_camera(
    camera: CameraInput | None, width: int, height: int, *, photo: ImageInput | None = None
) -> tuple[Camera | None, CameraSource]:
    """The camera of an image, and where it comes from.

    Args:
        camera: a Camera; K as (3, 3) numbers in pixels; (fx, fy, cx, cy); the same as text "fx,fy,cx,cy"; the
            path of a CameraInfo or calibration file; "exif" for what the photo itself states. None: unknown.
        width: of the image, pixels.
        height: of the image, pixels.
        photo: the image, for "exif".

    Raises:
        InvalidCameraError: another type or shape, or no camera.
        UnreadableFileError: the file is missing or damaged.
    """
    if camera is None:
        return None, CameraSource.ESTIMATED
    if isinstance(camera, Camera):
        return camera, CameraSource.GIVEN
    if isinstance(camera, str) and camera == "exif":
        if not isinstance(photo, str | os.PathLike):
            raise InvalidCameraError(
                "camera='exif' wants the path of a photo, not its pixels.",
                hint="Give the image as a path, or its K.",
            )
        return camera_of_photo(Path(photo), width, height), CameraSource.EXIF
    if isinstance(camera, str | os.PathLike):
        text = os.fspath(camera)
        is_numbers = text.count(",") == 3 and not Path(text).exists()
        return (parse_camera(text, width, height) if is_numbers else read_camera_info(text)), CameraSource.GIVEN
    return _camera_of_numbers(camera, width, height), CameraSource.GIVEN


def as_depth(
    depth: DepthInput | None, *, metres_per_count: float | None = None, scale_std: float = 0.0
) -> DepthMap | None:
    """Depth aligned to the image, in metres.

    Args:
        depth: a DepthMap; path of a depth image or .npy; array, tensor or PIL image (H, W) of whole counts, or
            floating metres. None: there is none.
        metres_per_count: unit of the numbers; None takes millimetres for whole and metres for floating numbers.
        scale_std: relative standard deviation of all depths together.

    Raises:
        InvalidDepthError: another type or shape, not one valid pixel, or what no depth camera measures.
        UnreadableFileError: the file is missing, damaged, or no picture.
    """
    if depth is None:
        return None
    if isinstance(depth, DepthMap):
        if depth.source is not ScaleSource.SENSOR:
            return depth
        return replace(depth, depth_m=within_sensor_range(depth.depth_m))
    if isinstance(depth, str | os.PathLike):
        return read_depth(Path(depth), metres_per_count=metres_per_count, scale_std=scale_std)
    values = flat_array(_pixels(depth, "Depth", InvalidDepthError))
    depth_m, _ = depth_to_metres(values, metres_per_count=metres_per_count)
    return DepthMap(depth_m.to(torch.float32), ScaleSource.SENSOR, scale_std)


def _pixels(values: Any, what: str, error: type[InputError], palette: Palette = "colors") -> NDArray[Any]:
    """Numbers of a PIL image, array or tensor."""
    if isinstance(values, Image.Image):
        try:
            return pillow_pixels(ImageOps.exif_transpose(values), palette)
        except (OSError, ValueError, SyntaxError) as reason:
            raise error(f"{what} cannot be decoded: {reason}.", hint="Give an undamaged picture.") from reason
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return np.asarray((values.float() if values.dtype in (torch.bfloat16, torch.float16) else values).numpy())
    if isinstance(values, np.ndarray) and values.dtype.kind in "buif":
        numbers: NDArray[Any] = values
        return numbers
    kind = f"array of {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
    raise error(f"{what} was given as {kind}.", hint=f"Give {_FORMS}.")


def _mask(mask: Any, height: int, width: int) -> Mask:
    """One mask of any form."""
    if isinstance(mask, str | os.PathLike):
        return read_mask(Path(mask), height, width)
    return mask_from_picture(_pixels(mask, "A mask", InvalidImageError, "mask"), height, width)


def _masks_of_file(path: Path, height: int, width: int) -> Mapping[int, Mask]:
    try:
        labels = read_labels(path)
    except UnreadableFileError as error:
        # A picture with opacity, in colors or compressed with loss may still be the mask of one object.
        if not path.is_file():
            raise
        try:
            return {1: read_mask(path, height, width)}
        except CupidError:
            raise error from None
    if _is_one_mask(labels):
        return {1: read_mask(path, height, width)}
    try:
        return masks_from_labels(labels, height, width)
    except CupidError as error:
        raise named(path, error) from error


def _masks_of_array(labels: NDArray[Any], given: Any, height: int, width: int) -> Mapping[int, Mask]:
    labels = flat_array(labels)
    if labels.ndim == 2 and labels.dtype.kind in "bui" and not _is_one_mask(labels):
        return masks_from_labels(labels, height, width)
    return {1: _mask(given, height, width)}


def _is_one_mask(labels: NDArray[Any]) -> bool:
    """Whether numbers are the mask of one object rather than ids: 0 and 255, soft, or below zero around it."""
    if labels.dtype.kind == "b" or not labels.size:
        return True
    values = np.unique(labels)
    two = len(values) == 2 and values[0] < 0 < values[1]
    return two or set(values.tolist()) in ({255}, {0, 255}) or is_soft(labels)


def _camera_of_numbers(values: Any, width: int, height: int) -> Camera:
    try:
        plain = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
        numbers = torch.as_tensor(plain.astype(np.float64, casting="same_kind"))
    except (TypeError, ValueError) as error:
        raise InvalidCameraError(
            f"A camera was given as {type(values).__name__}.",
            hint="Give a Camera, K (3, 3) in pixels, (fx, fy, cx, cy), or the path of a CameraInfo file.",
        ) from error
    if tuple(numbers.shape) == (4,):
        fx, fy, cx, cy = numbers.tolist()
        return Camera.from_parameters(fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height)
    if tuple(numbers.shape) != (3, 3):
        raise InvalidCameraError(
            f"A camera was given as numbers of shape {tuple(numbers.shape)}.",
            hint="Give K (3, 3) in pixels, or (fx, fy, cx, cy).",
        )
    return Camera(numbers, width, height)
