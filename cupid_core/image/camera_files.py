"""Reads cameras from calibration files, from text, and from the EXIF data of a photograph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from PIL import ExifTags

from cupid_core.errors import CupidError, InvalidCameraError, UnreadableFileError
from cupid_core.geometry import Camera, Distortion
from cupid_core.image.files import open_image
from cupid_core.structured_text import StructureError, parse_values

# Diagonal of the film that equivalent focal lengths refer to: 36 x 24 mm.
_FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
_LAYOUT = (
    "Give a sensor_msgs/CameraInfo as YAML or JSON (width, height, k, distortion_model, d), a calibration file of "
    "camera_calibration, or a mapping with width, height and K."
)


def parse_camera(text: str, width: int, height: int) -> Camera:
    """Read "fx,fy,cx,cy", pixels with pixel centers at integers, of a pinhole camera.

    Raises:
        InvalidCameraError: not four numbers, or not a valid camera.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        fx, fy, cx, cy = (float(part) for part in parts)
    except ValueError as error:
        raise InvalidCameraError(
            f"'{text}' is not fx,fy,cx,cy.", hint="Give four numbers in pixels, with commas between."
        ) from error
    return Camera.from_parameters(fx=fx, fy=fy, cx=cx, cy=cy, width=width, height=height)


def camera_of_photo(path: Path | str, width: int, height: int) -> Camera:
    """The camera from the EXIF data of a photograph, as phones and cameras write them.

    From the focal length equivalent to 35 mm film, by the diagonal (CIPA DCG-001), in whole millimetres: right to
    a few percent. Square pixels, principal point in the middle, no distortion. A photograph that was cropped
    afterwards has another camera than its EXIF data state, and they do not show it.

    Args:
        path: the photograph.
        width: of the image, pixels; it may have been scaled down.
        height: of the image.

    Raises:
        UnreadableFileError: not an image.
        InvalidCameraError: the file does not state the focal length.
    """
    with open_image(Path(path)) as photo:
        stated = photo.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.FocalLengthIn35mmFilm)
    if not isinstance(stated, int | float) or not 0 < stated < math.inf:
        raise InvalidCameraError(
            f"{path} does not state the focal length equivalent to 35 mm film.",
            hint="Give fx,fy,cx,cy in pixels, or leave the camera out and it is estimated.",
        )
    focal = float(stated) / _FILM_DIAGONAL_MM * math.hypot(width, height)
    return Camera.from_focal(focal, width, height)


def read_camera_info(path: Path | str, *, rectified: bool = False) -> Camera:
    """Read the camera of an image, which `roi` and `binning` make smaller than the sensor, as in ROS.

    Understood: what `ros2 topic echo --once .../camera_info` prints, the same as JSON, calibration files of
    camera_calibration (camera_matrix, distortion_coefficients), and plain mappings with K as 3 x 3 rows.

    Args:
        path: YAML or JSON file.
        rectified: the image is the rectified one of this camera: use P instead of K, and no distortion.

    Raises:
        UnreadableFileError: missing, not YAML or JSON, or not a mapping.
        InvalidCameraError: numbers missing or not a valid camera, or a region of interest beyond the sensor.
    """
    path = Path(path)
    values = _mapping(path)
    try:
        return _camera(values, rectified)
    except CupidError as error:
        raise type(error)(f"{path}: {error.problem}", hint=error.hint) from error


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        first = parse_values(path.read_text(encoding="utf-8"))
    except StructureError as error:
        raise UnreadableFileError(f"{path} is neither YAML nor JSON: {error}.", hint=_LAYOUT) from error
    except (OSError, ValueError) as error:  # not UTF-8, or no path at all
        raise UnreadableFileError(f"{path} cannot be read: {error}.", hint="Check the path.") from error
    if not isinstance(first, dict):
        raise UnreadableFileError(f"{path} does not contain a mapping.", hint=_LAYOUT)
    return cast("Mapping[str, Any]", first)


def _camera(values: Mapping[str, Any], rectified: bool) -> Camera:
    width = _whole(values, "width", "image_width")
    height = _whole(values, "height", "image_height")
    if rectified:
        p = _numbers(values, 12, "p", "P", "projection_matrix")
        camera = Camera.from_parameters(fx=p[0], fy=p[5], cx=p[2], cy=p[6], width=width, height=height)
        return _windowed(camera, values)
    k = _numbers(values, 9, "k", "K", "camera_matrix")
    if k[1] != 0.0 or k[3:4] + k[6:] != [0.0, 0.0, 0.0, 1.0]:
        raise InvalidCameraError(
            f"K = {k} is not a K without skew.", hint="Give fx 0 cx, 0 fy cy, 0 0 1, row by row."
        )
    camera = Camera.from_parameters(
        fx=k[0], fy=k[4], cx=k[2], cy=k[5], width=width, height=height, distortion=_distortion(values)
    )
    return _windowed(camera, values)


def _windowed(camera: Camera, values: Mapping[str, Any]) -> Camera:
    """CameraInfo describes the whole sensor; of its region of interest and binning the image is smaller."""
    region = values.get("roi") or {}
    if not isinstance(region, Mapping):
        raise InvalidCameraError(f"'roi' is {region!r}.", hint=_LAYOUT)
    x, y, width, height = (
        _whole({name: region.get(name) or 0}, name) for name in ("x_offset", "y_offset", "width", "height")
    )
    binning = tuple(_whole({name: values.get(name) or 0}, name) for name in ("binning_x", "binning_y"))
    return camera.window((x, y, width, height), (binning[0], binning[1]))


def _distortion(values: Mapping[str, Any]) -> Distortion | None:
    model = str(values.get("distortion_model") or "")
    found = _find(values, "d", "D", "distortion_coefficients")
    coefficients = () if found is None else tuple(_floats(found, "d"))
    # Drivers of rectified or undistorted streams name all sorts of models beside zeros.
    if not any(coefficients) and all(map(math.isfinite, coefficients)) and model != "equidistant":
        return None
    if not coefficients:
        raise InvalidCameraError(f"Distortion model '{model}' comes without coefficients.", hint=_LAYOUT)
    # Distortion checks names and counts itself.
    return Distortion(cast("Any", model or "plumb_bob"), coefficients)


def _find(values: Mapping[str, Any], *names: str) -> Any | None:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _whole(values: Mapping[str, Any], *names: str) -> int:
    found = _find(values, *names)
    if isinstance(found, float) and found.is_integer():
        found = int(found)  # some programs write every number of JSON as 640.0
    if isinstance(found, bool) or not isinstance(found, int):
        raise InvalidCameraError(f"'{names[0]}' is {found!r}, expected a whole number.", hint=_LAYOUT)
    return found


def _numbers(values: Mapping[str, Any], count: int, *names: str) -> list[float]:
    found = _find(values, *names)
    numbers = [] if found is None else _floats(found, names[0])
    if len(numbers) != count:
        raise InvalidCameraError(f"'{names[0]}' has {len(numbers)} numbers, expected {count}.", hint=_LAYOUT)
    return numbers


def _floats(found: Any, name: str) -> list[float]:
    if isinstance(found, Mapping):  # camera_calibration: {rows, cols, data}
        found = found.get("data")
    rows = found if isinstance(found, Sequence) and not isinstance(found, str) else [found]
    flat = [value for row in rows for value in (row if isinstance(row, list) else [row])]
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in flat):
        raise InvalidCameraError(f"'{name}' is {found!r}, expected numbers.", hint=_LAYOUT)
    return [float(value) for value in flat]
