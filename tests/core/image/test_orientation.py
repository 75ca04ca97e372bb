"""Photos stored turned: mask and depth of stored or upright pixels meet the same pixels, or are refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from cupid_core.errors import InputError, InvalidImageError
from cupid_core.image.orientation import is_taken_upright, orientation_of
from cupid_core.reconstruct.inputs import Frame

ROWS, COLUMNS = np.mgrid[:24, :36]
MASK = (ROWS < 10) & (COLUMNS > 20) & (ROWS + 12 > COLUMNS - 16)
STORED = np.where(MASK[..., None], np.uint8([250, 40, 40]), np.uint8([20, 60, 20]))
DEPTH = np.where(MASK, 700, 900).astype(np.uint16)
TURNED, MIRRORED = (5, 6, 7, 8), (2, 3, 4)


def photo(folder: Path, orientation: int, stored: np.ndarray = STORED) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(folder / "photo.png", exif=exif)
    return folder / "photo.png"


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    image = Image.fromarray(values)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def agree(frame: Frame) -> None:
    """The mask selects the red pixels, and depth is near there."""
    np.testing.assert_array_equal(frame.labels == 1, frame.image[..., 0] > 100)
    assert frame.depth is None or bool((frame.depth.depth_m.numpy() < 0.8)[frame.labels == 1].all())


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("form", [Path, Image.open, str])
def test_sizes_tell_which_pixels_are_meant(
    orientation: int, form: Callable[[Path], object], tmp_path: Path
) -> None:
    image = form(photo(tmp_path, orientation))
    assert orientation_of(image) == orientation
    agree(Frame.of(image, MASK, depth=DEPTH))
    assert Frame.of(image, MASK).image.shape == (24, 36, 3)
    standing = upright(MASK.astype(np.uint8), orientation) > 0
    agree(Frame.of(image, standing, depth=upright(DEPTH, orientation)))
    assert Frame.of(image, {"mug": standing}).image.shape == (36, 24, 3)
    Image.fromarray(MASK).save(tmp_path / "mask.png")
    agree(Frame.of(image, tmp_path / "mask.png"))
    with pytest.raises(InvalidImageError, match="EXIF"):
        Frame.of(image, MASK, depth=upright(DEPTH, orientation))
    with pytest.raises(InvalidImageError, match="EXIF"):
        Frame.of(image, MASK[:-1])


@pytest.mark.parametrize("orientation", MIRRORED)
def test_where_sizes_do_not_tell_the_caller_has_to(orientation: int, tmp_path: Path) -> None:
    image = photo(tmp_path, orientation)
    np.save(tmp_path / "mask.npy", MASK)
    for masks, depth in ((MASK, None), ([MASK], None), (tmp_path / "mask.npy", None), (MASK, DEPTH)):
        with pytest.raises(InvalidImageError, match=f"EXIF orientation {orientation}") as caught:
            Frame.of(image, masks, depth=depth)
        assert "orientation stored" in caught.value.hint
        agree(Frame.of(image, masks, depth=depth, orientation="stored"))
    standing = upright(MASK.astype(np.uint8), orientation)
    agree(Frame.of(image, standing, depth=upright(DEPTH, orientation), orientation="upright"))


def test_square_photos_need_to_be_told_too(tmp_path: Path) -> None:
    image = photo(tmp_path, 6, np.ascontiguousarray(STORED[:, 12:]))
    with pytest.raises(InvalidImageError, match="EXIF orientation 6"):
        Frame.of(image, MASK[:, 12:])
    agree(Frame.of(image, MASK[:, 12:], orientation="stored"))


@pytest.mark.parametrize("orientation", [*TURNED, *MIRRORED])
def test_a_mask_that_is_stored_turned_itself_stands_upright_with_its_photo(
    orientation: int, tmp_path: Path
) -> None:
    image = photo(tmp_path, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.where(MASK, np.uint8(255), np.uint8(0))).save(tmp_path / "mask.png", exif=exif)
    agree(Frame.of(image, tmp_path / "mask.png"))
    with pytest.raises(InvalidImageError, match="itself"):
        Frame.of(image, tmp_path / "mask.png", orientation="stored")


def test_what_states_nothing_is_upright(tmp_path: Path) -> None:
    assert is_taken_upright(photo(tmp_path, 6), {})
    for image in (photo(tmp_path, 1), STORED, "missing.png", photo(tmp_path, 1).parent):
        assert is_taken_upright(image, {"mask": MASK})
    agree(Frame.of(STORED, MASK, depth=DEPTH))
    with pytest.raises(InputError):
        Frame.of(STORED, MASK, orientation="sideways")  # type: ignore[arg-type]
