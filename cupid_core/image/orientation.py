"""Photographs that are stored turned, as EXIF data say, and what else belongs to their pixels.

Programs disagree about whether masks, labels and depth of such a photograph are those of the stored or of the
upright pixels. Where their size does not tell, the caller has to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from PIL import ExifTags, Image

from cupid_core.errors import InputError, InvalidImageError, UnreadableFileError
from cupid_core.image.files import open_image
from cupid_core.types import DepthMap

Orientation: TypeAlias = Literal["auto", "upright", "stored"]
_Size: TypeAlias = tuple[int, int]


def is_taken_upright(image: Any, aligned: Mapping[str, Any], wanted: Orientation = "auto") -> bool:
    """Whether a photograph is turned upright, as its EXIF data say, or taken as it is stored.

    Args:
        image: the photograph in any form; only files and PIL images have EXIF data.
        aligned: what belongs to its pixels, by what it is called, in any form; None is skipped.
        wanted: "auto" decides by the sizes of `aligned`, and takes the photograph upright where there is nothing.

    Raises:
        InvalidImageError: the sizes do not tell, or what is aligned is itself stored turned and the photograph is
            to be taken as stored.
        InputError: `wanted` is none of the three.
    """
    if wanted not in ("auto", "upright", "stored"):
        raise InputError(f"The orientation is {wanted!r}.", hint="Choose 'auto', 'upright' or 'stored'.")
    orientation, stored = _orientation_and_size(image)
    if orientation == 1 or stored is None:
        return True
    upright = stored[::-1] if orientation > 4 else stored
    sizes: dict[str, _Size] = {}
    for name, values in _flat(aligned).items():
        own, size = _orientation_and_size(values)
        if own != 1 and wanted == "stored":
            raise InvalidImageError(
                f"The {name} is itself stored turned (EXIF orientation {own}), so it is taken upright.",
                hint="Take the photo upright too, or write both without EXIF orientation.",
            )
        if own == 1 and size is not None:
            sizes[name] = size
    if wanted != "auto" or not sizes:
        return wanted != "stored"
    if upright == stored:
        raise InvalidImageError(
            f"The photo is stored turned (EXIF orientation {orientation}), and nothing says whether the "
            f"{' and the '.join(sizes)} belongs to its stored or to its upright pixels.",
            hint="Say which (--orientation stored or --orientation upright), or write the photo upright.",
        )
    if set(sizes.values()) - {upright, stored} or len(set(sizes.values())) > 1:
        texts = ", ".join(f"{name} {width} x {height}" for name, (height, width) in sizes.items())
        raise InvalidImageError(
            f"The photo is stored turned (EXIF orientation {orientation}): {stored[1]} x {stored[0]} pixels as "
            f"stored, {upright[1]} x {upright[0]} upright; beside it are {texts}.",
            hint="Give all of them for the stored, or all for the upright pixels.",
        )
    return upright in sizes.values()


def orientation_of(image: Any) -> int:
    """EXIF orientation of a photograph in any form: 1 upright (or unknown), 2 to 8 mirrored or turned."""
    return _orientation_and_size(image)[0]


def _flat(aligned: Mapping[str, Any]) -> dict[str, Any]:
    """One value per name; of several masks the first, which all others have to be like."""
    found: dict[str, Any] = {}
    for name, value in aligned.items():
        if isinstance(value, Mapping):
            value = next(iter(value.values()), None)
        elif isinstance(value, list | tuple):
            value = next(iter(value), None)
        if value is not None:
            found[name] = value
    return found


def _orientation_and_size(values: Any) -> tuple[int, _Size | None]:
    """EXIF orientation, and height and width as stored; None of what has no size."""
    if isinstance(values, Image.Image):
        return _stated(values), (values.height, values.width)
    if isinstance(values, str | os.PathLike):
        return _of_file(Path(values))
    if isinstance(values, DepthMap):
        values = values.depth_m
    shape = tuple(getattr(values, "shape", ()))
    if len(shape) == 3:
        shape = shape[1:] if shape[0] == 1 else shape[:2]
    return 1, (int(shape[0]), int(shape[1])) if len(shape) == 2 else None


def _of_file(path: Path) -> tuple[int, _Size | None]:
    try:
        if path.suffix.lower() == ".npy":
            return _orientation_and_size(np.load(path, mmap_mode="r", allow_pickle=False))
        with open_image(path) as picture:
            return _stated(picture), (picture.height, picture.width)
    except (UnreadableFileError, OSError, ValueError, EOFError):
        return 1, None  # whoever reads the pixels says what is wrong


def _stated(picture: Image.Image) -> int:
    stated = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return stated if stated in range(1, 9) else 1
