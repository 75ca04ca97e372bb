"""Files: what was written is what is read; whatever is wrong with a file is said with its name."""

import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from cupid_core.errors import EmptyMaskError, InvalidDepthError, InvalidImageError, UnreadableFileError
from cupid_core.image.files import read_depth, read_image, read_labels, read_mask
from cupid_core.types import ScaleSource

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp"])
def test_lossless_colors_are_read_unchanged(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RGB).save(path, **({"lossless": True} if suffix == "webp" else {}))
    found = read_image(path)
    np.testing.assert_array_equal(found.rgb, RGB)
    assert found.alpha is None


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_read_rounded_to_eight(tmp_path, suffix, channels):
    deep = RNG.integers(0, 65536, (5, 7, channels)).astype(np.uint16)
    deep[0, 0] = 65535
    path = tmp_path / f"a.{suffix}"
    bgr = deep[..., [2, 1, 0, 3][:channels]] if channels > 1 else deep[..., 0]
    assert cv2.imwrite(str(path), bgr)
    found = read_image(path)
    expected = np.rint(deep / 257.0).astype(np.uint8)
    np.testing.assert_array_equal(found.rgb, np.broadcast_to(expected[..., :3], (5, 7, 3)))
    assert (found.alpha is None) == (channels != 4)


def test_gray_opacity_palette_and_orientation(tmp_path):
    Image.fromarray(RGB[..., 0]).save(tmp_path / "gray.png")
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png").rgb[..., 2], RGB[..., 0])
    rgba = np.concatenate([RGB, RGB[..., :1]], axis=2)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png").alpha, rgba[..., 3])
    Image.fromarray(RGB).quantize(colors=64).save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png").rgb, RGB)
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the picture is on the right: turn it clockwise
    Image.fromarray(RGB).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png").rgb, np.rot90(RGB, -1))


def test_labels_are_indices_also_in_palette_images(tmp_path):
    labels = RNG.integers(0, 5, (5, 7)).astype(np.uint8)
    palette = Image.fromarray(labels, mode=None).convert("P")
    palette.putpalette(RNG.integers(0, 256, 768).astype(np.uint8).tobytes())
    palette.putdata(labels.ravel().tolist())
    palette.save(tmp_path / "palette.png")
    Image.fromarray(labels.astype(np.uint16) * 300).save(tmp_path / "deep.png")
    np.save(tmp_path / "array.npy", labels.astype(np.int64))
    np.testing.assert_array_equal(read_labels(tmp_path / "palette.png"), labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "deep.png"), labels.astype(np.int32) * 300)
    np.testing.assert_array_equal(read_labels(tmp_path / "array.npy"), labels)
    Image.fromarray(RGB).save(tmp_path / "colors.png")
    with pytest.raises(UnreadableFileError, match=r"colors\.png"):
        read_labels(tmp_path / "colors.png")


def test_masks_are_gray_or_opacity(tmp_path):
    mask = RNG.random((5, 7)) > 0.5
    Image.fromarray(mask).save(tmp_path / "one_bit.png")
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(tmp_path / "gray.png")
    Image.fromarray(np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, 2)).save(tmp_path / "rgb.png")
    rgba = np.concatenate([RGB, np.where(mask, 255, 0).astype(np.uint8)[..., None]], axis=2)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    for name in ("one_bit", "gray", "rgb", "rgba"):
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png", 5, 7), mask)
    with pytest.raises(InvalidImageError, match=r"gray\.png"):
        read_mask(tmp_path / "gray.png", 7, 5)
    Image.fromarray(np.zeros((5, 7), dtype=np.uint8)).save(tmp_path / "empty.png")
    with pytest.raises(EmptyMaskError, match=r"empty\.png"):
        read_mask(tmp_path / "empty.png", 5, 7)


def test_depth_is_metres_whatever_the_file(tmp_path):
    millimetres = RNG.integers(1, 5000, (5, 7)).astype(np.uint16)
    millimetres[0, 0] = 0
    metres = millimetres.astype(np.float32) / 1000
    Image.fromarray(millimetres).save(tmp_path / "a.png")
    Image.fromarray(metres).save(tmp_path / "a.tiff")
    np.save(tmp_path / "counts.npy", millimetres)
    np.save(tmp_path / "metres.npy", metres.astype(np.float64))
    for name in ("a.png", "a.tiff", "counts.npy", "metres.npy"):
        found = read_depth(tmp_path / name, scale_std=0.02)
        assert found.source is ScaleSource.SENSOR
        assert found.scale_std == 0.02
        assert bool(found.depth_m[0, 0].isnan())
        torch.testing.assert_close(found.depth_m.nan_to_num(0.0), torch.from_numpy(metres))
    tenth = read_depth(tmp_path / "a.png", metres_per_count=0.0001)
    torch.testing.assert_close(tenth.depth_m.nan_to_num(0.0), torch.from_numpy(metres) / 10)


def test_images_without_depth_are_refused_by_name(tmp_path):
    Image.fromarray(np.zeros((5, 7), dtype=np.uint16)).save(tmp_path / "zero.png")
    Image.fromarray(np.full((5, 7), np.nan, dtype=np.float32)).save(tmp_path / "nan.tiff")
    Image.fromarray(RGB).save(tmp_path / "colors.png")
    for name in ("zero.png", "nan.tiff", "colors.png"):
        with pytest.raises(InvalidDepthError, match=name):
            read_depth(tmp_path / name)


def _damage(path, kind):
    Image.fromarray(np.tile(RGB, (20, 20, 1))).save(path.with_suffix(".good.png"))
    good = path.with_suffix(".good.png").read_bytes()
    path.write_bytes({"empty": b"", "text": b"no picture", "cut": good[: len(good) // 2]}[kind])


@pytest.mark.parametrize("kind", ["empty", "text", "cut"])
@pytest.mark.parametrize("reader", [read_image, read_labels, read_depth])
@pytest.mark.parametrize("name", ["bad.png", "bad.npy", "bad.tiff", "bad.exr"])
def test_damaged_files_are_refused_by_name(tmp_path, kind, reader, name):
    _damage(tmp_path / name, kind)
    with pytest.raises(UnreadableFileError, match=name) as caught:
        reader(tmp_path / name)
    assert caught.value.code == "unreadable_file"


def test_missing_files_folders_and_pickles_are_refused(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for path in (tmp_path / "absent.png", tmp_path, tmp_path / "objects.npy"):
        with pytest.raises(UnreadableFileError, match=path.name):
            read_image(path)


def _png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _write_header_of(path, side):
    """A file whose header states side x side pixels of 16 bits, with next to nothing behind it."""
    if path.suffix == ".png":
        header = struct.pack(">IIBBBBB", side, side, 16, 0, 0, 0, 0)
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", zlib.compress(b""))
        )
    elif path.suffix == ".tiff":
        assert cv2.imwrite(str(path), RNG.integers(0, 65536, (5, 7, 3)).astype(np.uint16))
        content = bytearray(path.read_bytes())
        directory = struct.unpack_from("<I", content, 4)[0]
        for number in range(struct.unpack_from("<H", content, directory)[0]):
            entry = directory + 2 + 12 * number
            if struct.unpack_from("<H", content, entry)[0] in (256, 257):
                struct.pack_into("<HII", content, entry + 2, 4, 1, side)
        path.write_bytes(content)
    else:
        with path.open("wb") as stream:
            layout = {"descr": "<u2", "fortran_order": False, "shape": (side, side)}
            np.lib.format.write_array_header_1_0(stream, layout)
            stream.truncate(stream.tell() + 2 * side * side)  # a sparse file


@pytest.mark.parametrize("side", [8_001, 60_000])
@pytest.mark.parametrize("suffix", ["png", "tiff", "npy"])
def test_a_stated_size_above_the_limit_is_refused_before_decoding(tmp_path, suffix, side):
    path = tmp_path / f"huge.{suffix}"
    _write_header_of(path, side)
    for reader in (read_image, read_labels, read_depth):
        with pytest.raises(UnreadableFileError, match=r"huge.*the limit is 64000000"):
            reader(path)


def test_a_size_within_the_limit_is_not_what_refuses_a_file(tmp_path):
    _write_header_of(tmp_path / "cut.png", 100)
    with pytest.raises(UnreadableFileError, match="cannot be read"):
        read_depth(tmp_path / "cut.png")


def test_formats_that_run_other_programs_are_not_opened(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(UnreadableFileError, match="cannot be read"):
        read_image(tmp_path / "a.png")
