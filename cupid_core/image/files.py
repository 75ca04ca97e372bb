"""Reads photographs, masks, label images and depth images from files.

Everything that can be wrong with a file becomes an `UnreadableFileError` that names it. Nothing is unpickled, and
the size that the header states is checked before any pixel is decoded.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from cupid_core.errors import CupidError, InvalidDepthError, UnreadableFileError
from cupid_core.geometry import depth_to_metres
from cupid_core.image.masks import Mask, flat_array, mask_from_picture
from cupid_core.image.pillow_modes import HALF_OF_WHITE, Palette, pillow_pixels
from cupid_core.image.rgb import RgbImage, to_rgb8
from cupid_core.types import DepthMap, ScaleSource

_FORMATS = "PNG, JPEG, TIFF, WebP, BMP or .npy"
# Formats that are tried: Pillow knows more, and some of those run other programs (EPS).
_PILLOW_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM")
_ORIENTATION_TAG = 0x0112
_WIDTH_TAG, _HEIGHT_TAG, _BITS_PER_SAMPLE_TAG = 256, 257, 258
# Largest image that is decoded. A PNG of a few kilobytes can state any size, and would fill the memory.
MAX_PIXELS = 64_000_000
_MAX_CHANNELS = 4


def read_image(path: Path | str, *, bits: int | None = None, upright: bool = True) -> RgbImage:
    """Read a photograph.

    Args:
        path: PNG, JPEG, TIFF, WebP, BMP or .npy; RGB, RGBA, gray or palette, 8 or 16 bits.
        bits: significant bits of 16-bit files, see `to_rgb8`.
        upright: turn it as its EXIF orientation says (`image.orientation`).

    Raises:
        UnreadableFileError: missing, damaged, too large, or not an image.
        InvalidImageError: `to_rgb8` cannot convert its content.
    """
    path = Path(path)
    pixels = _load(path, "colors", upright=upright)
    try:
        return to_rgb8(pixels, bits=bits)
    except CupidError as error:
        raise named(path, error) from error


def read_mask(path: Path | str, height: int, width: int) -> Mask:
    """Read the mask of one object from a picture or array.

    Opacity counts where it selects something, else the values, as `mask_values.selected_pixels` understands them:
    0 and anything, soft borders, probabilities, scores. Of a palette of grays the grays count, of a colored one
    the index: black, else index 0, is the background. Files compressed with loss are cut at half of white.

    Args:
        path: as `read_image`.
        height: rows of the image it belongs to.
        width: columns of that image.

    Returns:
        (height, width) bool.

    Raises:
        UnreadableFileError: missing, damaged, too large, or not an image.
        InvalidImageError: another size, several colors or several objects.
        EmptyMaskError: it selects no pixel.
    """
    path = Path(path)
    try:
        pixels = _load(path, "mask")
        if pixels.dtype == np.uint8 and is_lossy(path):
            pixels = np.where(pixels > HALF_OF_WHITE, np.uint8(255), np.uint8(0))
        return mask_from_picture(pixels, height, width)
    except UnreadableFileError:
        raise
    except CupidError as error:
        raise named(path, error) from error


def read_labels(path: Path | str) -> NDArray[np.int32]:
    """Read a label image; of a palette image the indices count, not the colors.

    Returns:
        (H, W) int32 object ids, 0 is background. `masks_from_labels` gives one mask per object.

    Raises:
        UnreadableFileError: missing, damaged, compressed with loss, not one channel of whole numbers.
    """
    path = Path(path)
    hint = "Write labels as a gray 8- or 16-bit PNG: 0 for the background, the id of the object elsewhere."
    pixels = _label_channel(_load(path, "indices"))
    if is_lossy(path):
        raise UnreadableFileError(
            f"{path} was compressed with loss, so its values along borders are those of no object.", hint=hint
        )
    if pixels.dtype.kind == "f" and np.isfinite(pixels).all() and (pixels == np.rint(pixels)).all():
        pixels = pixels.astype(np.int64)
    if pixels.ndim != 2 or 0 in pixels.shape or pixels.dtype.kind not in "bui":
        raise UnreadableFileError(
            f"{path} holds {pixels.shape} {pixels.dtype}, expected one channel of whole numbers.", hint=hint
        )
    if int(pixels.min()) < 0 or int(pixels.max()) > np.iinfo(np.int32).max:
        raise UnreadableFileError(f"{path} holds labels below 0 or above 2^31.", hint="Number the objects from 1.")
    return pixels.astype(np.int32)


def read_depth(path: Path | str, *, metres_per_count: float | None = None, scale_std: float = 0.0) -> DepthMap:
    """Read an aligned depth image of a sensor.

    Args:
        path: 16-bit PNG or TIFF in counts, 32-bit floating TIFF in metres, or .npy of either.
        metres_per_count: unit of the numbers; None takes millimetres for whole and metres for floating numbers.
        scale_std: relative standard deviation of all depths together.

    Returns:
        Metres with NaN in holes, see `geometry.depth_to_metres`; source SENSOR.

    Raises:
        UnreadableFileError: missing, damaged, too large, or not an image.
        InvalidDepthError: 8 bits, colors, not one valid pixel, or another unit than stated.
    """
    path = Path(path)
    pixels = flat_array(_load(path, "indices"))
    try:
        depth_m, _ = depth_to_metres(pixels, metres_per_count=metres_per_count)
    except InvalidDepthError as error:
        raise named(path, error) from error
    return DepthMap(depth_m.to(torch.float32), ScaleSource.SENSOR, scale_std)


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """An image file whose header has been read and whose size is accepted, before its pixels are decoded.

    Raises:
        UnreadableFileError: missing, damaged, not an image, or of more than `MAX_PIXELS` pixels; also what goes
            wrong while the caller decodes it.
    """
    try:
        with warnings.catch_warnings():
            # Our own limit is lower than the one that Pillow warns of.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_PILLOW_FORMATS) as opened:
                check_pixel_count(opened.width, opened.height, str(path))
                yield opened
    except Image.DecompressionBombError as error:
        raise _too_large(str(path), f"more than {MAX_PIXELS * 2}") from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as error:
        raise _damaged(path, error) from error


def check_pixel_count(width: int, height: int, origin: str) -> None:
    """Refuse an image that is too large to decode.

    Args:
        width: columns, as a header states them.
        height: rows.
        origin: what the image is called in the error.

    Raises:
        UnreadableFileError: more than `MAX_PIXELS` pixels.
    """
    if width * height > MAX_PIXELS:
        raise _too_large(origin, f"{width} x {height}")


def is_lossy(path: Path) -> bool:
    """Whether a picture was compressed with loss, by its first bytes: JPEG, and WebP that is not lossless."""
    with path.open("rb") as stream:
        header = stream.read(4096)
    if header[:4] == b"RIFF" and header[8:12] == b"WEBP":
        return b"VP8L" not in header
    return header[:3] == b"\xff\xd8\xff"


def _load(path: Path, palette: Palette, *, upright: bool = True) -> NDArray[Any]:
    if not path.is_file():
        raise UnreadableFileError(f"File not found: {path}.", hint="Check the path.")
    if path.suffix.lower() == ".npy":
        return _load_array(path)
    if path.suffix.lower() == ".exr":
        raise UnreadableFileError(
            f"{path}: OpenEXR is not supported.", hint="Convert it to a floating TIFF or to .npy, in metres."
        )
    if _is_deep_tiff(path):
        return _load_deep(path, 1)
    with open_image(path) as opened:
        opened.load()
        if _has_deep_colors(path, opened):
            return _load_deep(path, int(opened.getexif().get(_ORIENTATION_TAG, 1)) if upright else 1)
        pixels = pillow_pixels(ImageOps.exif_transpose(opened) if upright else opened, palette)
        return _unscaled(path, pixels) if palette == "indices" and opened.mode == "L" else pixels


def _load_array(path: Path) -> NDArray[Any]:
    try:
        # Mapped, not read: a header may state any shape.
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, error) from error
    if not isinstance(loaded, np.ndarray) or loaded.dtype.kind not in "buif":
        raise UnreadableFileError(f"{path} is not an array of numbers.", hint="Write it with numpy.save.")
    if math.prod(loaded.shape[:2]) > MAX_PIXELS or loaded.size > MAX_PIXELS * _MAX_CHANNELS:
        raise _too_large(str(path), " x ".join(map(str, loaded.shape)))
    return np.array(loaded)


def _unscaled(path: Path, gray: NDArray[Any]) -> NDArray[Any]:
    """Values as they are stored in a PNG of 2 or 4 bits, which Pillow stretches to 255."""
    with path.open("rb") as stream:
        header = stream.read(26)
    bits = header[24] if header[:4] == b"\x89PNG" and header[25] == 0 else 8
    return gray // np.uint8(255 // (2**bits - 1)) if bits < 8 else gray


def _is_deep_tiff(path: Path) -> bool:
    """Whether this is a TIFF of 16-bit colors, which Pillow does not open; its stated size is checked here."""
    try:
        with path.open("rb") as stream:
            header = stream.read(8)
            if header[:4] not in (b"II*\0", b"MM\0*") or _opens_in_pillow(path):
                return False
            directory = TiffImagePlugin.ImageFileDirectory_v2(header)
            stream.seek(directory.next)
            directory.load(stream)
        width, height = int(directory[_WIDTH_TAG]), int(directory[_HEIGHT_TAG])
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error) as error:
        raise _damaged(path, error) from error
    check_pixel_count(width, height, str(path))
    return True


def _opens_in_pillow(path: Path) -> bool:
    try:
        with open_image(path):
            return True
    except UnreadableFileError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            return False
        raise


def _has_deep_colors(path: Path, image: Image.Image) -> bool:
    """Whether these are several channels of 16 bits, which Pillow cuts to 8."""
    if image.mode not in ("RGB", "RGBA", "LA", "RGBX"):
        return False
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE_TAG, (8,))
        return bool(np.max(bits) > 8)
    if image.format != "PNG":
        return False
    with path.open("rb") as stream:
        header = stream.read(25)
    return header[24] == 16


def _load_deep(path: Path, orientation: int) -> NDArray[Any]:
    encoded = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    try:
        pixels = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if encoded.size else None
    except cv2.error as error:
        raise _damaged(path, error) from error
    if pixels is None:
        raise UnreadableFileError(f"{path} is damaged or not an image.", hint=f"Give {_FORMATS}.")
    if orientation != 1:
        raise UnreadableFileError(
            f"{path} has 16 bits per channel and is stored turned (EXIF orientation {orientation}).",
            hint="Write it upright.",
        )
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(pixels.shape[2] if pixels.ndim == 3 else 1)
    return np.asarray(pixels if order is None else pixels[..., order])


def _label_channel(pixels: NDArray[Any]) -> NDArray[Any]:
    """Gray written as colors becomes one channel, and what is transparent the background.

    Real colors stay as they are and are refused later.
    """
    if pixels.ndim != 3 or pixels.shape[2] not in (2, 3, 4):
        return flat_array(pixels)
    gray = pixels[..., 0]
    if pixels.shape[2] > 2 and not (pixels[..., :3] == pixels[..., :1]).all():
        return pixels
    return np.where(pixels[..., -1] > 0, gray, 0) if pixels.shape[2] in (2, 4) else gray


def _too_large(origin: str, size: str) -> UnreadableFileError:
    return UnreadableFileError(
        f"{origin} has {size} pixels, the limit is {MAX_PIXELS}.",
        hint="Scale the image down, and its camera with it.",
    )


def _damaged(path: Path, error: Exception) -> UnreadableFileError:
    first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UnreadableFileError(f"{path} cannot be read: {first_line}.", hint=f"Give an undamaged {_FORMATS}.")


def named(path: Path, error: CupidError) -> CupidError:
    """The same error with the name of the file in front."""
    return type(error)(f"{path}: {error.problem}", hint=error.hint)
