"""sensor_msgs/Image and CompressedImage to pixels, depth and labels, and back."""

from __future__ import annotations

import io
import struct
import sys
from dataclasses import dataclass
from typing import Any

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
}  # fmt: skip
_COLORS = ("rgb8", "bgr8", "rgba8", "bgra8", "8UC3", "8UC4", "mono8", "8UC1")
_BLUE_FIRST = ("bgr8", "bgra8", "8UC3", "8UC4")  # OpenCV's order, which the nameless encodings mean by custom
# compressedDepth: an enum and two floats before the PNG (compressed_depth_image_transport).
_DEPTH_HEADER = np.dtype([("format", "<i4"), ("a", "<f4"), ("b", "<f4")])
# Modes of Pillow -> encoding and type.
_MODES = {"RGB": ("rgb8", "u1"), "RGBA": ("rgba8", "u1"), "L": ("mono8", "u1"), "I;16": ("mono16", "u2")}
# What Pillow raises for damaged files.
_DECODING = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError, IndexError)


@dataclass(frozen=True, eq=False)
class Pixels:
    """An image as it was sent, in the machine's byte order and without padding.

    Attributes:
        values: (H, W) or (H, W, C); uint8, uint16 or float32.
        encoding: of sensor_msgs.
    """

    values: NDArray[Any]
    encoding: str

    def rgb(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB; opacity is dropped, gray is repeated.

        Raises:
            UnsupportedEncodingError: not an encoding of 8 bits per channel.
        """
        if self.encoding not in _COLORS:
            raise UnsupportedEncodingError(
                f"The color image has encoding '{self.encoding}'.", hint=f"Publish one of {', '.join(_COLORS)}."
            )
        colors = self.values if self.values.ndim == 3 else self.values[..., None]
        if self.encoding in _BLUE_FIRST:
            colors = colors[..., 2::-1]
        rgb: NDArray[np.uint8] = np.ascontiguousarray(
            np.broadcast_to(colors[..., :3], (*colors.shape[:2], 3)), dtype=np.uint8
        )
        return rgb


def read_pixels(message: Any) -> Pixels:
    """Pixels of sensor_msgs/Image or CompressedImage; see `read_image` and `read_compressed`."""
    return read_image(message) if hasattr(message, "encoding") else read_compressed(message)


def read_image(message: Any) -> Pixels:
    """Pixels of sensor_msgs/Image.

    Args:
        message: rgb8, bgr8, rgba8, bgra8, mono8, mono16, 16UC1, 32FC1, 8UC1, 8UC3 or 8UC4; either byte order, with
            or without padding at the end of rows.

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
    """Pixels of sensor_msgs/CompressedImage: JPEG, PNG, or depth as compressedDepth sends it.

    Returns:
        rgb8, rgba8, mono8 or mono16; depth as 16UC1 (counts) or 32FC1 (metres).

    Raises:
        UnsupportedEncodingError: another format.
        InvalidMessageError: the bytes are not such a picture.
        ImageSizeError: far too many pixels.
    """
    text = str(message.format)
    data = _bytes_of(message.data)
    if "compressedDepth" in text:
        return _compressed_depth(text, data)
    if "jpeg" not in text and "jpg" not in text and "png" not in text:
        raise UnsupportedEncodingError(
            f"The compressed image has format '{text[:40]}'.", hint="Publish jpeg, png or compressedDepth."
        )
    return _decoded(data)


def is_known_encoding(message: Any) -> bool:
    """Whether `read_pixels` decodes the encoding."""
    return not hasattr(message, "encoding") or str(message.encoding) in _ENCODINGS


def read_depth(pixels: Pixels, *, scale_std: float) -> DepthMap:
    """Depth of a sensor, (H, W) float32 metres.

    Args:
        pixels: 16UC1 (or mono16) in millimetres or 32FC1 in metres; 0, NaN, infinite and negative are holes.
        scale_std: relative standard deviation of all depths together.

    Raises:
        UnsupportedEncodingError: another encoding.
        InvalidDepthError: no valid pixel.
    """
    if pixels.encoding not in ("16UC1", "mono16", "32FC1"):
        raise UnsupportedEncodingError(
            f"The depth image has encoding '{pixels.encoding}'.",
            hint="Publish 16UC1 in millimetres or 32FC1 in metres.",
        )
    depth_m, _ = depth_to_metres(pixels.values)
    return DepthMap(depth_m.float(), ScaleSource.SENSOR, scale_std)


def read_label_values(pixels: Pixels) -> NDArray[np.int32]:
    """(H, W) int32 ids of a label image, 0 where there is no object.

    Raises:
        UnsupportedEncodingError: not mono8, 8UC1, mono16 or 16UC1.
    """
    if pixels.encoding not in ("mono8", "8UC1", "mono16", "16UC1"):
        raise UnsupportedEncodingError(
            f"The label image has encoding '{pixels.encoding}'.", hint="Publish mono8 or mono16."
        )
    return pixels.values.astype(np.int32)


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
    if "png" not in text and "rvl" in text:
        raise UnsupportedEncodingError("compressedDepth with RVL is not read.", hint="Set its format to png.")
    if len(data) <= _DEPTH_HEADER.itemsize:
        raise InvalidMessageError(f"compressedDepth of {len(data)} bytes.", hint="It is cut off; send it whole.")
    header = data[: _DEPTH_HEADER.itemsize].view(_DEPTH_HEADER)[0]
    picture = _decoded(data[_DEPTH_HEADER.itemsize :])
    values = picture.values
    if picture.encoding != "mono16":
        raise InvalidMessageError(
            f"compressedDepth holds {picture.encoding}.", hint="Expected one channel of 16 bits."
        )
    if not text.startswith("32FC1"):
        return Pixels(values, "16UC1")
    a, b = float(header["a"]), float(header["b"])
    with np.errstate(all="ignore"):  # a damaged header gives infinities, which count as holes
        metres = a / (values.astype(np.float32) - b)
    return Pixels(np.where(values == 0, np.float32(np.nan), metres).astype(np.float32), "32FC1")


def _decoded(data: NDArray[np.uint8]) -> Pixels:
    """Pixels of a JPEG or PNG; one that is cut off is refused, not filled with gray."""
    try:
        with Image.open(io.BytesIO(data.tobytes()), formats=("JPEG", "PNG")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ImageSizeError(
                    f"The picture has {picture.width} x {picture.height} pixels.",
                    hint=f"Send at most {MAX_PIXELS} pixels.",
                )
            known: Image.Image = picture if picture.mode in _MODES else picture.convert("RGB")  # palettes and such
            values = np.asarray(known)
            encoding, kind = _MODES[known.mode]
    except _DECODING as error:
        raise InvalidMessageError(
            f"{data.size} bytes are not a complete JPEG or PNG: {error}.", hint="Check the transport."
        ) from error
    return Pixels(values.astype(kind), encoding)
