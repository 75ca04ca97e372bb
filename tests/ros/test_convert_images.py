"""Images, depth, labels: what goes onto the wire comes back in every encoding; contradictions do not."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from cupid_core.errors import InvalidDepthError
from cupid_core.serving.errors import ImageSizeError
from cupid_core.serving.frames import Stamped
from cupid_ros.convert.header import make_header, read_header
from cupid_ros.convert.image import (
    Pixels,
    make_image,
    read_compressed,
    read_depth,
    read_image,
    read_label_values,
    read_pixels,
)
from cupid_ros.errors import InvalidMessageError, UnsupportedEncodingError
from cupid_ros.messages import BagMessageTypes

NOW = Stamped(1_700_000_000_123_456_789, "camera")
KINDS = {
    "rgb8": (3, np.uint8), "bgr8": (3, np.uint8), "rgba8": (4, np.uint8), "bgra8": (4, np.uint8),
    "8UC3": (3, np.uint8), "8UC4": (4, np.uint8), "mono8": (1, np.uint8), "8UC1": (1, np.uint8),
    "mono16": (1, np.uint16), "16UC1": (1, np.uint16), "32FC1": (1, np.float32),
    "16SC1": (1, np.int16), "32SC1": (1, np.int32),
}  # fmt: skip


@st.composite
def pictures(draw: Any) -> tuple[str, np.ndarray]:
    encoding = draw(st.sampled_from(sorted(KINDS)))
    channels, kind = KINDS[encoding]
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    shape = (height, width) if channels == 1 else (height, width, channels)
    return encoding, draw(arrays(kind, shape))


@given(
    picture=pictures(), padding=st.integers(0, 5), big=st.booleans(), bare_end=st.booleans(), little=st.booleans()
)
@settings(max_examples=150, deadline=None)
def test_images_round_trip(
    types: BagMessageTypes, picture: tuple[str, np.ndarray], padding: int, big: bool, bare_end: bool, little: bool
) -> None:
    encoding, values = picture
    message = make_image(types, values, encoding, NOW)
    message.is_bigendian = int(big)
    rows = values.astype(values.dtype.newbyteorder(">" if big else "<")).reshape(values.shape[0], -1)
    lines = np.pad(rows.view(np.uint8), ((0, 0), (0, padding)), constant_values=171)
    message.step = lines.shape[1]
    message.data = lines.reshape(-1)[: lines.size - padding if bare_end else None]
    raw = types.store.serialize_cdr(message, "sensor_msgs/msg/Image", little_endian=little)
    back = types.decode(raw, "sensor_msgs/msg/Image")
    pixels = read_image(back)
    assert pixels.encoding == encoding
    assert pixels.values.dtype == values.dtype
    np.testing.assert_array_equal(pixels.values, values)
    assert read_header(back) == NOW


@given(rgb=arrays(np.uint8, (3, 4, 3)))
@settings(max_examples=20, deadline=None)
def test_all_color_encodings_mean_the_same_picture(types: BagMessageTypes, rgb: np.ndarray) -> None:
    opaque = np.full((3, 4, 1), 255, np.uint8)
    same = {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "8UC3": rgb[..., ::-1],
        "rgba8": np.concatenate([rgb, opaque], axis=2),
        "bgra8": np.concatenate([rgb[..., ::-1], opaque], axis=2),
    }
    for encoding, values in same.items():
        np.testing.assert_array_equal(read_image(make_image(types, values, encoding, NOW)).rgb(), rgb)
    gray = read_image(make_image(types, rgb[..., 0], "mono8", NOW)).rgb()
    np.testing.assert_array_equal(gray, np.repeat(rgb[..., :1], 3, axis=2))


@given(stamp=st.integers(-(2**31) * 10**9, 2**31 * 10**9 - 1))
@settings(max_examples=100, deadline=None)
def test_stamps_are_exact_to_the_nanosecond(types: BagMessageTypes, stamp: int) -> None:
    header = make_header(types, Stamped(stamp, "map"))
    back = types.decode(types.encode(header), "std_msgs/msg/Header")
    assert read_header(types.make("sensor_msgs/msg/Image", header=back)) == Stamped(stamp, "map")


def test_stamps_out_of_range_are_refused(types: BagMessageTypes) -> None:
    with pytest.raises(InvalidMessageError):
        make_header(types, Stamped(2**31 * 10**9, ""))
    header = make_header(types, NOW)
    header.stamp.nanosec = 10**9
    with pytest.raises(InvalidMessageError):
        read_header(types.make("sensor_msgs/msg/Image", header=header))


def image(types: BagMessageTypes, **changes: Any) -> Any:
    message = make_image(types, np.zeros((4, 5, 3), np.uint8), "rgb8", NOW)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    "changes",
    [
        {"step": 14}, {"step": 16}, {"height": 5}, {"height": 3}, {"width": 6}, {"height": 0}, {"width": 0},
        {"data": np.zeros(59, np.uint8)}, {"data": np.zeros(61, np.uint8)}, {"data": np.zeros(0, np.uint8)},
        {"height": 2**31, "width": 2**31, "step": 2**32 - 1}, {"encoding": "bgra8"}, {"encoding": "32FC1"},
    ],
    ids=str,
)  # fmt: skip
def test_sizes_that_contradict_each_other_are_refused(types: BagMessageTypes, changes: dict[str, Any]) -> None:
    with pytest.raises(ImageSizeError):
        read_image(image(types, **changes))


def test_encodings_are_refused_for_the_wrong_kind_of_image(types: BagMessageTypes) -> None:
    for encoding in ("", "bayer_rggb8", "rgb16", "yuv422", "64FC1", "RGB8"):
        with pytest.raises(UnsupportedEncodingError):
            read_image(image(types, encoding=encoding))
    with pytest.raises(UnsupportedEncodingError, match="color"):
        Pixels(np.zeros((2, 2), np.uint16), "16UC1").rgb()
    with pytest.raises(UnsupportedEncodingError, match="depth"):
        read_depth(Pixels(np.zeros((2, 2), np.uint8), "mono8"), scale_std=0.0)
    with pytest.raises(UnsupportedEncodingError, match="label"):
        read_label_values(Pixels(np.zeros((2, 2), np.float32), "32FC1"))
    with pytest.raises(ImageSizeError):
        make_image(types, np.zeros((2, 2), np.uint8), "rgb8", NOW)


def test_metric_depth_is_the_same_from_counts_and_metres() -> None:
    counts = np.array([[0, 1000], [29535, 100]], np.uint16)
    metres = np.array([[np.nan, 1.0], [29.535, 0.1]], np.float32)
    for pixels in (Pixels(counts, "16UC1"), Pixels(counts, "mono16"), Pixels(metres, "32FC1")):
        depth = read_depth(pixels, scale_std=0.02)
        np.testing.assert_allclose(depth.depth_m.numpy(), metres, rtol=1e-6)
        assert depth.scale_std == 0.02
    with pytest.raises(InvalidDepthError):
        read_depth(Pixels(np.zeros((2, 2), np.uint16), "16UC1"), scale_std=0.0)


def packed(values: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, kind, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {}))
    return stream.getvalue()


def compressed(types: BagMessageTypes, text: str, data: bytes) -> Any:
    message = types.make(
        "sensor_msgs/msg/CompressedImage",
        format=text,
        data=np.frombuffer(data, np.uint8),
        header=make_header(types, NOW),
    )
    return types.decode(types.encode(message), "sensor_msgs/msg/CompressedImage")


def test_compressed_pictures(types: BagMessageTypes) -> None:
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 255, (6, 7, 3), dtype=np.uint8)
    smooth = np.linspace(0, 255, 6 * 8 * 3).reshape(6, 8, 3).astype(np.uint8)
    png = read_compressed(compressed(types, "rgb8; png compressed bgr8", packed(rgb, "PNG")))
    np.testing.assert_array_equal(png.rgb(), rgb)
    jpeg = read_compressed(compressed(types, "bgr8; jpeg compressed bgr8", packed(smooth, "JPEG")))
    assert np.abs(jpeg.rgb().astype(int) - smooth).max() < 12
    labels = rng.integers(0, 60_000, (6, 7)).astype(np.uint16)
    np.testing.assert_array_equal(
        read_label_values(read_compressed(compressed(types, "mono16; png compressed", packed(labels, "PNG")))),
        labels,
    )


def test_compressed_depth(types: BagMessageTypes) -> None:
    counts = np.array([[0, 500, 1000], [2000, 4000, 65535]], np.uint16)
    head = struct.pack("<iff", 0, 0.0, 0.0)
    message = compressed(types, "16UC1; compressedDepth png", head + packed(counts, "PNG"))
    np.testing.assert_array_equal(read_compressed(message).values, counts)
    # Metres travel as quantized inverse depth: count = a / z + b.
    z = np.array([[np.nan, 0.5], [1.0, 4.0]], np.float32)
    a, b = 10_000.0, 1.0
    stored = np.where(np.isnan(z), 0, np.round(a / np.nan_to_num(z, nan=1.0) + b)).astype(np.uint16)
    message = compressed(types, "32FC1; compressedDepth", struct.pack("<iff", 0, a, b) + packed(stored, "PNG"))
    pixels = read_compressed(message)
    assert pixels.encoding == "32FC1"
    np.testing.assert_allclose(pixels.values, z, rtol=1e-3)


def test_damaged_and_foreign_compression_is_refused(types: BagMessageTypes) -> None:
    picture = packed(np.random.default_rng(2).integers(0, 255, (40, 40, 3), dtype=np.uint8), "JPEG")
    for text, data in (
        ("jpeg", picture[: len(picture) // 2]), ("jpeg", b""), ("png", b"not a picture"),
        ("16UC1; compressedDepth png", b"short"), ("16UC1; compressedDepth png", b"x" * 12 + picture),
    ):  # fmt: skip
        with pytest.raises(InvalidMessageError):
            read_compressed(compressed(types, text, data))
    for text, data in (
        ("tiff", b"II*\0tiff"),
        ("h264", b"\0\0\0\1packet"),
        ("16UC1; compressedDepth rvl", picture),
    ):
        with pytest.raises(UnsupportedEncodingError, match=r"tiff|h264|RVL"):
            read_compressed(compressed(types, text, data))


@pytest.mark.parametrize(
    "text", ["", "JPEG", "jpg", "image/jpeg", "png", "bgr8; JPEG compressed bgr8", "whatever"]
)
def test_the_bytes_of_a_picture_decide_and_not_the_word_beside_them(types: BagMessageTypes, text: str) -> None:
    smooth = np.linspace(0, 255, 6 * 8 * 3).reshape(6, 8, 3).astype(np.uint8)
    rough = np.random.default_rng(3).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    for kind, values, away in (("JPEG", smooth, 12), ("PNG", rough, 0)):
        read = read_compressed(compressed(types, text, packed(values, kind))).rgb()
        assert np.abs(read.astype(int) - values).max() <= away


def test_webp_palette_and_gray_pictures(types: BagMessageTypes) -> None:
    rng = np.random.default_rng(4)
    rgb = rng.integers(0, 255, (6, 7, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "WEBP", lossless=True)
    np.testing.assert_array_equal(read_compressed(compressed(types, "webp", stream.getvalue())).rgb(), rgb)
    indices = rng.integers(0, 4, (6, 7), dtype=np.uint8)
    picture, colors = Image.fromarray(indices, "P"), rng.integers(0, 255, (4, 3), dtype=np.uint8)
    picture.putpalette(colors.tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    pixels = read_compressed(compressed(types, "png", stream.getvalue()))
    np.testing.assert_array_equal(pixels.rgb(), colors[indices])
    np.testing.assert_array_equal(read_label_values(pixels), indices)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_compression_that_changes_numbers_is_refused_for_labels_and_depth(
    types: BagMessageTypes, kind: str
) -> None:
    values = np.zeros((32, 32), np.uint8)
    values[8:24, 8:24] = 200
    stream = io.BytesIO()
    Image.fromarray(values).convert("RGB" if kind == "WEBP" else "L").save(stream, kind)
    pixels = read_compressed(compressed(types, f"mono8; {kind} compressed mono8", stream.getvalue()))
    name = {"JPEG": "JPEG", "WEBP": "WebP"}[kind]
    with pytest.raises(UnsupportedEncodingError, match=f"label image is a {name}.*PNG"):
        read_label_values(pixels)
    with pytest.raises(UnsupportedEncodingError, match=f"depth image is a {name}.*PNG"):
        read_depth(pixels, scale_std=0.0)


def test_signed_labels_and_depth_of_simulators(types: BagMessageTypes) -> None:
    labels = np.array([[0, 1, -1], [70_000, 2**31 - 1, 7]], np.int32)
    read = read_label_values(read_pixels(make_image(types, labels, "32SC1", NOW), "label"))
    np.testing.assert_array_equal(read, [[0, 1, 0], [70_000, 2**31 - 1, 7]])
    small = labels[:, ::2].clip(-1, 300).astype(np.int16)
    read = read_label_values(read_pixels(make_image(types, small, "16SC1", NOW), "label"))
    np.testing.assert_array_equal(read, [[0, 0], [300, 7]])
    depth = np.array([[0, 1000, -5], [32767, 5000, 200]], np.int16)
    read_m = read_depth(read_pixels(make_image(types, depth, "16SC1", NOW), "depth"), scale_std=0.0).depth_m
    np.testing.assert_allclose(read_m, [[np.nan, 1.0, np.nan], [np.nan, 5.0, 0.2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("role", "encoding", "words"),
    [("depth", "mono8", "16SC1.*32FC1"), ("label", "32FC1", "mono16.*32SC1"), ("color", "16UC1", "rgb8.*bgr8")],
)
def test_a_refused_encoding_says_of_which_image_it_is_and_what_that_may_be(
    types: BagMessageTypes, role: Any, encoding: str, words: str
) -> None:
    channels, kind = KINDS[encoding]
    message = make_image(types, np.ones((4, 5) if channels == 1 else (4, 5, channels), kind), encoding, NOW)
    with pytest.raises(UnsupportedEncodingError, match=f"{role} image has encoding '{encoding}'.*{words}"):
        read_pixels(message, role)


def test_compressed_depth_says_what_it_holds_or_is_refused(types: BagMessageTypes) -> None:
    counts = np.array([[0, 500], [1000, 4000]], np.uint16)
    plain, scaled = struct.pack("<iff", 0, 0.0, 0.0), struct.pack("<iff", 0, 1000.0, 1.0)
    picture = packed(counts, "PNG")
    for text, data in (
        ("", plain + picture), ("compressedDepth", plain + picture), ("16UC1; COMPRESSEDDEPTH", plain + picture),
        ("16UC1; compressedDepth", scaled + picture), ("16UC1; compressedDepth png", picture),
    ):  # fmt: skip
        np.testing.assert_array_equal(read_compressed(compressed(types, text, data)).values, counts)
    for text, data in (("", scaled + picture), ("32FC1; compressedDepth png", picture)):
        with pytest.raises(InvalidMessageError, match="32FC1"):
            read_compressed(compressed(types, text, data))
