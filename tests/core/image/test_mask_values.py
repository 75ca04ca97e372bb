"""Masks as people write them: every way to say the same mask is read as this mask, every other one is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cupid_core.errors import EmptyMaskError, InvalidImageError, UnreadableFileError
from cupid_core.image.any_input import as_masks
from cupid_core.image.files import read_labels, read_mask
from cupid_core.image.masks import mask_from_array, masks_from_labels

HEIGHT, WIDTH = 60, 80
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
INSIDE = 20.3 - np.hypot(ROWS - 30.0, COLUMNS - 45.0)  # distance to the border of a disc, positive inside
DISC = INSIDE > 0
SCORES = 0.5 * INSIDE
PROBABILITIES = 1 / (1 + np.exp(-SCORES))
BLACK_WHITE = np.where(DISC, np.uint8(255), np.uint8(0))


def of_white(probabilities: np.ndarray, white: int, kind: type) -> np.ndarray:
    return np.rint(probabilities * white).astype(kind)


ARRAYS = {
    "bool": DISC,
    "one": DISC.astype(np.uint8),
    "seven": DISC.astype(np.int64) * 7,
    "254": np.where(DISC, np.uint8(254), np.uint8(0)),
    "65535": np.where(DISC, np.uint16(65535), np.uint16(0)),
    "1000 of 65535": np.where(DISC, np.uint16(1000), np.uint16(0)),
    "floats 0 and 255": np.where(DISC, 255.0, 0.0),
    "floats 0 and 0.3": np.where(DISC, 0.3, 0.0),
    "-1 around": np.where(DISC, 1, -1).astype(np.int32),
    "-1 around, bytes": np.where(DISC, 1, -1).astype(np.int8),
    "-1 around, 255": np.where(DISC, 255, -1).astype(np.int16),
    "-1 around, floats": np.where(DISC, 1.0, -1.0),
    "-100 around": np.where(DISC, 3, -100),
    "-1 and 0 around": np.where(DISC, 1, np.where(ROWS < 10, -1, 0)),
    "-1 around probabilities": np.where(ROWS < 5, -1.0, PROBABILITIES),
    "scores": SCORES,
    "scores of half precision": SCORES.astype(np.float16),
    "large scores": 40 * SCORES,
    "probabilities": PROBABILITIES,
    "probabilities, single": PROBABILITIES.astype(np.float32),
    "probabilities, 0.002 to 0.9": np.clip(PROBABILITIES, 0.002, 0.9),
    "two probabilities": np.where(DISC, 0.9, 0.1),
    "overshooting": 1.2 * PROBABILITIES - 0.1,
    "overshooting 255": 255 * (1.2 * PROBABILITIES - 0.1),
    "soft up to 254": of_white(PROBABILITIES, 254, np.uint8),
    "soft, 1 to 254": of_white(PROBABILITIES, 253, np.uint8) + 1,
    "soft up to 200": np.minimum(of_white(PROBABILITIES, 255, np.uint8), 200),
    "soft, 16 bits": of_white(PROBABILITIES, 65000, np.uint16),
    "soft, 0 to 255 in 32 bits": of_white(PROBABILITIES, 255, np.int32),
    "soft, 0 to 255 in floats": 255 * PROBABILITIES,
    "narrow soft border": of_white(np.clip(INSIDE + 0.5, 0, 1), 255, np.uint8),
    "1 and 254": np.where(DISC, np.uint8(254), np.uint8(1)),
    "one channel last": BLACK_WHITE[..., None],
    "one channel first": PROBABILITIES[None],
    "gray and opaque": np.dstack([BLACK_WHITE, np.full_like(BLACK_WHITE, 255)]),
    "colors and opaque": np.dstack([BLACK_WHITE] * 3 + [np.full_like(BLACK_WHITE, 254)]),
    "opacity": np.dstack([np.full_like(BLACK_WHITE, 90)] * 3 + [BLACK_WHITE]),
    "opacity in floats": np.dstack([np.ones(DISC.shape)] * 3 + [DISC * 1.0]),
    "red on black": np.where(DISC[..., None], np.uint8([200, 10, 10]), np.uint8(0)),
    "nearly gray": np.clip(np.dstack([BLACK_WHITE, BLACK_WHITE - 2 * DISC, BLACK_WHITE]), 0, 255).astype(np.uint8),
}  # fmt: skip


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("form", ["array", "tensor", "list", "npy"])
def test_every_way_to_write_a_mask_selects_the_same_pixels(kind: str, form: str, tmp_path: Path) -> None:
    values = ARRAYS[kind]
    if form == "array":
        found = as_masks({1: values}, HEIGHT, WIDTH).masks
    elif form == "tensor":
        found = as_masks([torch.from_numpy(values.copy())], HEIGHT, WIDTH).masks
    elif form == "list":
        found = as_masks([values], HEIGHT, WIDTH).masks
    else:
        np.save(tmp_path / "mask.npy", values)
        found = {1: read_mask(tmp_path / "mask.npy", HEIGHT, WIDTH)}
    np.testing.assert_array_equal(found[1], DISC)


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in ARRAYS
        if kind not in ("seven", "254", "1000 of 65535", "-1 and 0 around", "65535", "1 and 254")
    ],
)
def test_one_mask_in_place_of_labels_is_one_object(kind: str) -> None:
    """Not one object for each of its values."""
    found = as_masks(ARRAYS[kind], HEIGHT, WIDTH).masks
    assert list(found) == [1]
    np.testing.assert_array_equal(found[1], DISC)


def palette(colors: list[tuple[int, int, int]], indices: np.ndarray, **options: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        image = Image.fromarray(indices.astype(np.uint8))
        image = image.convert("P") if image.mode == "L" else image
        image.putpalette([value for color in colors for value in color])
        image.putdata(indices.ravel().tolist())
        image.save(path, **options)

    return write


def picture(image: Image.Image, **options: object) -> Callable[[Path], None]:
    return lambda path: image.save(path, **options)


RGB = Image.fromarray(np.dstack([BLACK_WHITE] * 3))
FILES: dict[str, Callable[[Path], None]] = {
    "lossy.webp": picture(RGB, quality=60),
    "lossless.webp": picture(RGB, lossless=True),
    "opacity.webp": picture(Image.fromarray(ARRAYS["opacity"]), quality=60),
    "good.jpg": picture(RGB, quality=90),
    "bad.jpg": picture(Image.fromarray(BLACK_WHITE), quality=30),
    "turned_off.gif": picture(Image.fromarray(BLACK_WHITE)),
    "one_bit.png": picture(Image.fromarray(DISC)),
    "one_bit.tiff": picture(Image.fromarray(DISC)),
    "two_bits.png": palette([(0, 0, 0), (255, 255, 255)], DISC, bits=1),
    "dark_red.png": palette([(0, 0, 0), (128, 0, 0)], DISC),
    "object_first.png": palette([(128, 0, 0), (0, 0, 0)], ~DISC),
    "white_first.png": palette([(255, 255, 255), (0, 0, 0)], ~DISC),
    "red_on_white.png": palette([(255, 255, 255), (128, 0, 0)], DISC),
    "transparent.png": palette([(10, 20, 30), (40, 50, 60)], DISC, transparency=0),
    "opaque.png": picture(RGB.convert("RGBA")),
    "opaque_gray.png": picture(Image.fromarray(BLACK_WHITE).convert("LA")),
    "cmyk.tiff": picture(RGB.convert("CMYK")),
    "float.tiff": picture(Image.fromarray(PROBABILITIES.astype(np.float32))),
    "soft.png": picture(Image.fromarray(of_white(PROBABILITIES, 254, np.uint8))),
    "deep.png": picture(Image.fromarray(of_white(PROBABILITIES, 65535, np.uint16))),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_mask_file_selects_the_same_pixels(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    found = read_mask(tmp_path / name, HEIGHT, WIDTH)
    loss = 20 if name == "bad.jpg" else 0  # pixels of the border that compression moved
    assert int((found != DISC).sum()) <= loss
    for masks in (tmp_path / name, Image.open(tmp_path / name)):
        if name in ("good.jpg", "bad.jpg", "lossy.webp") and not isinstance(masks, Path):
            continue  # a picture in memory does not say how it was compressed
        alone = as_masks(masks, HEIGHT, WIDTH).masks
        if name not in ("red_on_white.png", "object_first.png"):  # as labels, their indices count
            assert list(alone) == [1]
            np.testing.assert_array_equal(alone[1], found)


LABELS = np.where(DISC, 2, np.where(COLUMNS < 15, 1, 0)).astype(np.uint8)


@pytest.mark.parametrize(
    "values",
    [
        LABELS,
        LABELS * np.uint8(100),
        np.where(LABELS == 2, np.uint8(255), LABELS),
        LABELS.astype(np.float32),
        np.where(DISC, 128, np.where(COLUMNS < 15, 255, 0)).astype(np.uint8),
        np.where(DISC, 2, 1),
        np.rint(100 * PROBABILITIES).astype(np.uint8),
        100 * PROBABILITIES,
        np.dstack([LABELS * np.uint8(100), 0 * LABELS, np.uint8(60) * (LABELS == 1)]),
        np.where(DISC, np.inf, 0.0),
        np.where(DISC, 1 + 1j, 0),
    ],
    ids=[
        "labels",
        "bright",
        "void",
        "floats",
        "three",
        "no_zero",
        "percent",
        "percents",
        "colors",
        "inf",
        "complex",
    ],
)
def test_several_objects_and_scores_of_unknown_scale_are_no_mask(values: np.ndarray) -> None:
    with pytest.raises(InvalidImageError) as caught:
        as_masks([values], HEIGHT, WIDTH)
    assert caught.value.hint


@pytest.mark.parametrize("values", [np.full((4, 4), -1), -np.ones((4, 4)), np.full((4, 4), 0.3), np.zeros((4, 4))])
def test_a_mask_of_background_alone_is_empty(values: np.ndarray) -> None:
    with pytest.raises(EmptyMaskError):
        mask_from_array(values, 4, 4)


def test_labels_keep_their_numbers_in_files_of_few_bits_and_in_floats(tmp_path: Path) -> None:
    many = np.repeat(np.arange(4, dtype=np.uint8), 64).reshape(16, 16)
    Image.fromarray(many).convert("P").save(tmp_path / "palette.png", bits=2)
    np.save(tmp_path / "floats.npy", many.astype(np.float32))
    Image.fromarray(many > 0).save(tmp_path / "one_bit.png")
    Image.fromarray(np.dstack([many, np.where(many, np.uint8(255), 0).astype(np.uint8)])).save(tmp_path / "la.png")
    for name in ("palette.png", "floats.npy", "la.png"):
        np.testing.assert_array_equal(read_labels(tmp_path / name), many)
    np.testing.assert_array_equal(read_labels(tmp_path / "one_bit.png"), many > 0)
    _write_gray_png(tmp_path / "four_bits.png", many)
    np.testing.assert_array_equal(read_labels(tmp_path / "four_bits.png"), many)


def _write_gray_png(path: Path, values: np.ndarray) -> None:
    """A gray PNG of 4 bits, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packed = (values[:, ::2] << 4) | values[:, 1::2]
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 4, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("name", ["labels.jpg", "labels.webp"])
def test_labels_that_were_compressed_with_loss_are_refused(name: str, tmp_path: Path) -> None:
    Image.fromarray(LABELS * np.uint8(40)).save(tmp_path / name)
    with pytest.raises(UnreadableFileError, match="loss"):
        read_labels(tmp_path / name)
    with pytest.raises(UnreadableFileError, match="loss"):
        as_masks(tmp_path / name, HEIGHT, WIDTH)


def test_resampled_labels_are_refused_and_not_dozens_of_objects() -> None:
    large = Image.fromarray(LABELS * np.uint8(40)).resize((WIDTH * 3, HEIGHT * 3), Image.Resampling.BICUBIC)
    with pytest.raises(InvalidImageError, match="resampled"):
        masks_from_labels(np.asarray(large), HEIGHT * 3, WIDTH * 3)
    many = np.kron(np.arange(48, dtype=np.uint16).reshape(6, 8), np.ones((10, 10), dtype=np.uint16))
    assert len(masks_from_labels(many, HEIGHT, WIDTH)) == 47
