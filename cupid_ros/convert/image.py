"""sensor_msgs/Image and CompressedImage to pixels, depth and labels, and back."""

from __future__ import annotations

import io
import struct
import sys
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cupid_core.geometry.pointmap import depth_to_metres
from cupid_core.image.files import MAX_PIXELS
from cupid_core.serving.errors import ImageSizeError
from cupid_core.serving.frames import Stamped
from cupid_core.types import DepthMap, ScaleSource
from cupid_ros.convert.header import make_header
from cupid_ros.errors import InvalidMessageError, UnsupportedEncodingError
from cupid_ros.messages import MessageTypes

# Encoding -> numbers per pixel and their type; names of sensor_msgs/image_encodings.h.
_ENCODINGS: dict[str, tuple[int, str]] = {
    "rgb8": (3, "u1"), "bgr8": (3, "u1"), "rgba8": (4, "u1"), "bgra8": (4, "u1"),
    "8UC3": (3, "u1"), "8UC4": (4, "u1"),
    "mono8": (1, "u1"), "8UC1": (1, "u1"), "mono16": (1, "u2"), "16UC1": (1, "u2"), "32FC1": (1, "f4"),
    "16SC1": (1, "i2"), "32SC1": (1, "i4"),
}  # fmt: skip
Role = Literal["color", "depth", "label"]
_COLORS = ("rgb8", "bgr8", "rgba8", "bgra8", "8UC3", "8UC4", "mono8", "8UC1")
_ENCODINGS_OF: dict[Role, tuple[str, ...]] = {
    "color": _COLORS,
    "depth": ("16UC1", "mono16", "16SC1", "32FC1"),
    "label": ("mono8", "8UC1", "mono16", "16UC1", "16SC1", "32SC1"),
}
_HINTS: dict[Role, str] = {
    "color": f"Publish one of {', '.join(_COLORS)}; for Bayer or YUV run image_proc.",
    "depth": "Publish 16UC1 or 16SC1 in millimetres, or 32FC1 in metres.",
    "label": "Publish mono8, mono16, 16UC1, 16SC1 or 32SC1: the number of its object in every pixel.",
}
_BLUE_FIRST = ("bgr8", "bgra8", "8UC3", "8UC4")  # OpenCV's order, which the nameless encodings mean by custom
# compressedDepth: an enum and two floats before the PNG (compressed_depth_image_transport).
_DEPTH_HEADER = np.dtype([("format", "<i4"), ("a", "<f4"), ("b", "<f4")])
# Modes of Pillow -> encoding and type. A gray PNG of 16 bits is I;16, of older versions I; P holds indices.
_MODES = {
    "RGB": ("rgb8", "u1"), "RGBA": ("rgba8", "u1"), "L": ("mono8", "u1"), "P": ("mono8", "u1"),
    "I;16": ("mono16", "u2"), "I": ("mono16", "u2"),
}  # fmt: skip
_FORMATS = ("JPEG", "PNG", "WEBP")
# What Pillow calls a format that does not keep the numbers of pixels, or has no single number per pixel.
_INEXACT = {"JPEG": "JPEG", "MPO": "JPEG", "WEBP": "WebP"}
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Names of these formats in `CompressedImage.format`; the bytes decide, the word only explains.
_KNOWN_WORDS = ("jpeg", "jpg", "png", "webp")
_LARGEST_INT16 = 2**15 - 1
# What Pillow raises for damaged files.
_DECODING = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError, IndexError)


@dataclass(frozen=True, eq=False)
class Pixels:
    """An image as it was sent, in the machine's byte order and without padding.

    Attributes:
        values: (H, W) or (H, W, C); uint8, uint16, int16, int32 or float32.
        encoding: of sensor_msgs.
        palette: (256, 3) uint8 RGB of a picture whose values are indices of colors; None where they are not.
        inexact: name of a compression that changes values or has none per pixel; empty for all others.
    """

    values: NDArray[Any]
    encoding: str
    palette: NDArray[np.uint8] | None = None
    inexact: str = ""

    def rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB; opacity is dropped, gray is repeated.

        Raises:
            UnsupportedEncodingError: not an encoding of 8 bits per channel.
        """
        if self.encoding not in _COLORS:
            raise _unsupported("color", self.encoding)
        if self.palette is not None:
            return np.ascontiguousarray(self.palette[self.values])
        colors = self.values if self.values.ndim == 3 else self.values[..., None]
        if self.encoding in _BLUE_FIRST:
            colors = colors[..., 2::-1]
        rgb: NDArray[np.uint8] = np.ascontiguousarray(
            np.broadcast_to(colors[..., :3], (*colors.shape[:2], 3)), dtype=np.uint8
        )
        return rgb


def read_pixels(message: Any, role: Role = "color") -> Pixels:
    """Pixels of sensor_msgs/Image or CompressedImage; see `read_image` and `read_compressed`.

    Raises:
        UnsupportedEncodingError: not an encoding of its role; says which are.
    """
    if not hasattr(message, "encoding"):
        return read_compressed(message)
    if str(message.encoding) not in _ENCODINGS_OF[role]:
        raise _unsupported(role, str(message.encoding))
    return read_image(message)


def read_image(message: Any) -> Pixels:
    """Pixels of sensor_msgs/Image.

    Args:
        message: one of `_ENCODINGS`; either byte order, with or without padding at the end of rows.

    Raises:
        UnsupportedEncodingError: another encoding.
        ImageSizeError: no pixels, far too many, or width, height, step and data contradict each other.
    """
    encoding = str(message.encoding)
    if encoding not in _ENCODINGS:
        raise UnsupportedEncodingError(
            f"The image has encoding '{encoding[:40]}'.", hint=f"Publish one of {', '.join(_ENCODINGS)}."
        )
    channels, number = _ENCODINGS[encoding]
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = _bytes_of(message.data)
    kind = np.dtype(number).newbyteorder(">" if message.is_bigendian else "<")
    row = width * channels * kind.itemsize
    _check_size(height, width, step, row, len(data))
    lines = np.lib.stride_tricks.as_strided(data, shape=(height, row), strides=(step, 1), writeable=False)
    values = np.ascontiguousarray(lines).view(kind).reshape(height, width, channels)
    native = values.astype(kind.newbyteorder("="), copy=False)
    return Pixels(native[..., 0] if channels == 1 else native, encoding)


def read_compressed(message: Any) -> Pixels:
    """Pixels of sensor_msgs/CompressedImage: JPEG, PNG, WebP, or depth as compressedDepth sends it.

    What the bytes are decides. The format is `JPEG`, `image/jpeg`, `rgb8; jpeg compressed bgr8` or nothing.

    Returns:
        rgb8, rgba8, mono8 or mono16; depth as 16UC1 (counts) or 32FC1 (metres).

    Raises:
        UnsupportedEncodingError: another format.
        InvalidMessageError: the bytes are not such a picture, or compressedDepth that does not say what it holds.
        ImageSizeError: far too many pixels.
    """
    text = str(message.format)
    data = _bytes_of(message.data)
    start = _DEPTH_HEADER.itemsize
    if "compresseddepth" in text.lower() or data[start : start + len(_PNG_MAGIC)].tobytes() == _PNG_MAGIC:
        return _compressed_depth(text, data)
    try:
        return _decoded(data)
    except InvalidMessageError as error:
        if not text.strip() or any(word in text.lower() for word in _KNOWN_WORDS):
            raise
        raise UnsupportedEncodingError(
            f"The compressed image has format '{text[:40]}'.",
            hint="Publish JPEG, PNG, WebP or compressedDepth; video must be decoded first.",
        ) from error


def is_known_encoding(message: Any) -> bool:
    """Whether `read_pixels` decodes the encoding."""
    return not hasattr(message, "encoding") or str(message.encoding) in _ENCODINGS


def read_depth(pixels: Pixels, *, scale_std: float) -> DepthMap:
    """Depth of a sensor, (H, W) float32 metres.

    Args:
        pixels: 16UC1 (or mono16, 16SC1) in millimetres or 32FC1 in metres; 0, NaN, infinite and negative are
            holes, and so is the largest value of 16SC1, where sensors saturate.
        scale_std: relative standard deviation of all depths together.

    Raises:
        UnsupportedEncodingError: another encoding.
        InvalidDepthError: no valid pixel.
    """
    _check_exact("depth", pixels)
    values = pixels.values
    if pixels.encoding == "16SC1":
        values = np.where((values > 0) & (values < _LARGEST_INT16), values, 0).astype(np.uint16)
    depth_m, _ = depth_to_metres(values)
    return DepthMap(depth_m.float(), ScaleSource.SENSOR, scale_std)


def read_label_values(pixels: Pixels) -> NDArray[np.int32]:
    """(H, W) int32 ids of a label image, 0 where there is no object; negative numbers are none.

    Raises:
        UnsupportedEncodingError: not one integer per pixel, or a compression that changes numbers (JPEG, WebP).
    """
    _check_exact("label", pixels)
    return np.maximum(pixels.values.astype(np.int32), 0)


def _check_exact(role: Role, pixels: Pixels) -> None:
    """Refuse what does not hold the numbers that were meant."""
    if pixels.inexact:
        raise UnsupportedEncodingError(
            f"The {role} image is a {pixels.inexact}, which does not keep the numbers of its pixels.",
            hint="Publish it raw, or compressed as PNG.",
        )
    if pixels.encoding not in _ENCODINGS_OF[role]:
        raise _unsupported(role, pixels.encoding)


def _unsupported(role: Role, encoding: str) -> UnsupportedEncodingError:
    return UnsupportedEncodingError(f"The {role} image has encoding '{encoding[:40]}'.", hint=_HINTS[role])


def make_image(types: MessageTypes, values: NDArray[Any], encoding: str, stamped: Stamped) -> Any:
    """sensor_msgs/Image without padding, in the machine's byte order; the inverse of `read_image`.

    Args:
        types: makes messages.
        values: (H, W) or (H, W, C) as the encoding says.
        encoding: one that `read_image` reads.
        stamped: header.

    Raises:
        UnsupportedEncodingError: another encoding.
        ImageSizeError: the array is not of that encoding.
    """
    if encoding not in _ENCODINGS:
        raise UnsupportedEncodingError(
            f"'{encoding}' is not written.", hint=f"Use one of {', '.join(_ENCODINGS)}."
        )
    channels, number = _ENCODINGS[encoding]
    shape = values.shape[2] if values.ndim == 3 else 1
    if values.ndim not in (2, 3) or shape != channels or values.dtype != np.dtype(number):
        raise ImageSizeError(
            f"An array {values.shape} {values.dtype} is not {encoding}.",
            hint=f"Give (H, W, {channels}) {np.dtype(number).name}.",
        )
    rows = np.ascontiguousarray(values)
    return types.make(
        "sensor_msgs/msg/Image",
        header=make_header(types, stamped),
        height=values.shape[0],
        width=values.shape[1],
        encoding=encoding,
        is_bigendian=int(sys.byteorder == "big"),
        step=values.shape[1] * channels * values.dtype.itemsize,
        data=rows.reshape(-1).view(np.uint8),
    )


def _bytes_of(data: Any) -> NDArray[np.uint8]:
    """The bytes of a message field: numpy (rosbags), array.array (rclpy) or bytes."""
    try:
        return np.frombuffer(data, dtype=np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        raise InvalidMessageError("The image has no bytes.", hint="Send data as uint8[].") from error


def _check_size(height: int, width: int, step: int, row: int, count: int) -> None:
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ImageSizeError(
            f"The image has {width} x {height} pixels.", hint=f"Send between 1 and {MAX_PIXELS} pixels."
        )
    if step < row:
        raise ImageSizeError(
            f"The step is {step} bytes, a row of {width} pixels needs {row}.", hint="Set step to bytes per row."
        )
    # Some drivers leave out the padding of the last row.
    if not step * (height - 1) + row <= count <= step * height:
        raise ImageSizeError(
            f"The image has {count} bytes; {height} rows of {step} need {step * height}.",
            hint="Set data to height times step bytes.",
        )


def _compressed_depth(text: str, data: NDArray[np.uint8]) -> Pixels:
    """compressedDepth: counts as they are, metres as scaled inverse depth of 16 bits."""
    words = text.lower()
    if "png" not in words and "rvl" in words:
        raise UnsupportedEncodingError("compressedDepth with RVL is not read.", hint="Set its format to png.")
    start = _DEPTH_HEADER.itemsize
    if len(data) <= start:
        raise InvalidMessageError(f"compressedDepth of {len(data)} bytes.", hint="It is cut off; send it whole.")
    bare = data[: len(_PNG_MAGIC)].tobytes() == _PNG_MAGIC  # publishers of their own leave the header out
    picture = _decoded(data if bare else data[start:])
    if picture.encoding != "mono16":
        raise InvalidMessageError(
            f"compressedDepth holds {picture.encoding}.", hint="Expected one channel of 16 bits."
        )
    header = np.zeros((), _DEPTH_HEADER) if bare else data[:start].view(_DEPTH_HEADER)[0]
    a, b = float(header["a"]), float(header["b"])
    if "32fc1" not in words:
        # Only metres are scaled; a format without encoding is clear where there is no scale.
        if "16uc1" not in words and a != 0.0:
            raise InvalidMessageError(
                f"The format '{text[:40]}' of compressedDepth does not say whether it holds counts or metres.",
                hint="Set it to '16UC1; compressedDepth png' or '32FC1; compressedDepth png'.",
            )
        return Pixels(picture.values, "16UC1")
    if bare:
        raise InvalidMessageError(
            "compressedDepth of 32FC1 lacks the header with its scale.", hint="Publish it with image_transport."
        )
    values = picture.values
    with np.errstate(all="ignore"):  # a damaged header gives infinities, which count as holes
        metres = a / (values.astype(np.float32) - b)
    return Pixels(np.where(values == 0, np.float32(np.nan), metres).astype(np.float32), "32FC1")


def _decoded(data: NDArray[np.uint8]) -> Pixels:
    """Pixels of a JPEG, PNG or WebP; one that is cut off is refused, not filled with gray."""
    try:
        with Image.open(io.BytesIO(data.tobytes()), formats=_FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ImageSizeError(
                    f"The picture has {picture.width} x {picture.height} pixels.",
                    hint=f"Send at most {MAX_PIXELS} pixels.",
                )
            inexact = _INEXACT.get(picture.format or "", "")
            known: Image.Image = picture if picture.mode in _MODES else picture.convert("RGB")  # CMYK and such
            values = np.asarray(known)
            encoding, kind = _MODES[known.mode]
            palette = _palette(known) if known.mode == "P" else None
    except _DECODING as error:
        raise InvalidMessageError(
            f"{data.size} bytes are not a complete JPEG, PNG or WebP: {error}.", hint="Check the transport."
        ) from error
    return Pixels(values.astype(kind), encoding, palette, inexact)


def _palette(picture: Image.Image) -> NDArray[np.uint8]:
    """(256, 3) RGB; black for indices that the palette does not have."""
    colors = np.zeros((256, 3), np.uint8)
    given = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    colors[: len(given)] = given
    return colors
