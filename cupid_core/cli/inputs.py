"""The inputs of `cupid reconstruct`, read from files and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_core.config import CupidConfig
from cupid_core.errors import (
    EmptyMaskError,
    InputError,
    InvalidDepthError,
    InvalidPromptError,
    UnreadableFileError,
)
from cupid_core.geometry import Camera, check_depth_unit
from cupid_core.image.camera_files import camera_of_photo, parse_camera, read_camera_info
from cupid_core.image.files import read_depth, read_image, read_labels, read_mask
from cupid_core.image.masks import Mask, mask_from_alpha, masks_from_labels
from cupid_core.image.object_values import check_longest_side
from cupid_core.image.orientation import Orientation, is_taken_upright, orientation_of
from cupid_core.image.rectify import check_camera
from cupid_core.image.rgb import RgbImage
from cupid_core.perception.depth import build_depth_source
from cupid_core.perception.segment import Prompt
from cupid_core.perception.segmenters import build_segmenter
from cupid_core.samples import sample_frame
from cupid_core.structured_text import StructureError, parse_words
from cupid_core.types import DepthMap


@dataclass(frozen=True)
class InputArgs:
    """The arguments of the command line that name inputs; None or empty where not given.

    Attributes:
        image: the photo.
        mask: mask image of the one object.
        labels: label image: the id of the object at every pixel, 0 for none.
        box: x0,y0,x1,y1 of the one object.
        camera: fx,fy,cx,cy, or exif.
        camera_info: file with a camera.
        depth: aligned depth image.
        depth_unit_m: meters per count of the depth image; None takes 0.001 for whole numbers and 1 for floating.
        names: file with the names of the objects.
        known_size: longest side in meters of the one object, or ID=METERS,ID=METERS.
        up: x,y,z against gravity in the camera frame.
        orientation: which pixels of a photo that is stored turned the other inputs belong to.
    """

    image: Path
    mask: Path | None = None
    labels: Path | None = None
    box: str = ""
    camera: str = ""
    camera_info: Path | None = None
    depth: Path | None = None
    depth_unit_m: float | None = None
    names: Path | None = None
    known_size: str = ""
    up: str = ""
    orientation: Orientation = "auto"

    def given(self) -> dict[str, str]:
        """What was given beside the image, by the name of the option; of files their name without the folder."""
        options = {
            "mask": self.mask, "labels": self.labels, "box": self.box, "camera": self.camera,
            "camera_info": self.camera_info, "depth": self.depth, "known_size": self.known_size, "up": self.up,
        }  # fmt: skip
        return {name: value.name if isinstance(value, Path) else value for name, value in options.items() if value}


@dataclass(frozen=True, eq=False)
class Inputs:
    """The inputs of a reconstruction.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        masks: (H, W) bool by object id.
        camera: None where none was given.
        depth: None where there is none.
        names: of objects, by id; objects without a name are missing.
        sizes_m: known longest sides of objects in meters, by id.
        up: (x, y, z) against gravity, camera frame; None where it was not given.
        notes: what people should know about how the inputs were read.
    """

    image: NDArray[np.uint8]
    masks: Mapping[int, Mask]
    camera: Camera | None
    depth: DepthMap | None
    names: Mapping[int, str]
    sizes_m: Mapping[int, float]
    up: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()


def sample_inputs() -> InputArgs:
    """The RGB-D frame that ships with the package."""
    frame = sample_frame()
    return InputArgs(
        frame.color, labels=frame.labels, camera_info=frame.camera, depth=frame.depth, names=frame.names
    )


def read_inputs(args: InputArgs, config: CupidConfig, *, device: str = "cpu") -> Inputs:
    """Read and check all inputs.

    Args:
        args: the arguments of the command line.
        config: which segmenter turns a box into a mask, and which model estimates depth where none is given.
        device: where these models run.

    Raises:
        InputError: a file or an argument cannot be used; its subclasses say which and why.
        MissingPackageError: the settings ask for a model whose package is not installed.
    """
    _one_of("--mask, --labels and --box", [args.mask, args.labels, args.box])
    _one_of("--camera and --camera-info", [args.camera, args.camera_info])
    if args.depth_unit_m is not None:
        check_depth_unit(args.depth_unit_m)
    aligned = {"mask": args.mask, "label image": args.labels, "depth image": args.depth}
    upright = is_taken_upright(args.image, aligned, args.orientation)
    picture = read_image(args.image, upright=upright)
    height, width = picture.rgb.shape[:2]
    camera = _camera(args, height, width)
    masks = _masks(args, config, picture, device)
    return Inputs(
        image=picture.rgb,
        masks=masks,
        camera=camera,
        depth=_depth(args, config, picture, camera, device),
        names={} if args.names is None else read_names(args.names),
        sizes_m=known_sizes(args.known_size, list(masks)),
        up=parse_up(args.up) if args.up else None,
        notes=_notes(args, upright),
    )


def _notes(args: InputArgs, upright: bool) -> tuple[str, ...]:
    turned = orientation_of(args.image)
    if turned == 1:
        return ()
    which = "upright, and so are positions in it" if upright else "as stored, like what belongs to it"
    return (f"the photo is stored turned (EXIF orientation {turned}); its pixels are taken {which}",)


def read_names(path: Path) -> dict[int, str]:
    """Names of objects by id, as they are written: `no`, `1.50` and `null` are words.

    Args:
        path: YAML or JSON: a mapping of id to name, or one with a list `objects` of {label: id, name: name}.

    Raises:
        UnreadableFileError: missing, or of another form.
    """
    try:
        values = parse_words(path.read_text(encoding="utf-8"))
        if isinstance(values, dict) and isinstance(values.get("objects"), list):
            values = {entry["label"]: entry["name"] for entry in values["objects"]}
        return {int(key): _name(name) for key, name in values.items()}
    except FileNotFoundError as error:
        raise UnreadableFileError(f"File not found: {path}.", hint="Check the path.") from error
    except (OSError, UnicodeDecodeError, StructureError) as error:
        raise UnreadableFileError(f"{path} cannot be read: {error}.", hint="Give a YAML or JSON file.") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        example = json.dumps({"objects": [{"label": 1, "name": "mug"}]})
        raise UnreadableFileError(
            f"{path} holds no names of objects by id.", hint=f"Write '1: mug' lines, or {example}."
        ) from error


def _name(value: Any) -> str:
    """A name of a file; without one, or with a list in its place, a ValueError."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(value)
    return value


def parse_up(text: str) -> tuple[float, ...]:
    """Three numbers of `--up`.

    Raises:
        InputError: the text is something else.
    """
    try:
        x, y, z = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"--up is {text!r}.",
            hint="Give x,y,z against gravity with x right, y down and z forward: 0,-1,0 for a level camera.",
        ) from None
    return x, y, z


def known_sizes(text: str, ids: list[int]) -> dict[int, float]:
    """Longest sides in meters by id, from "0.19" for a single object or "1=0.19,3=0.08".

    Raises:
        InputError: not of this form, an unknown id, or not a positive length.
    """
    hint = "Write the longest side in meters, 0.19, or for several objects 1=0.19,3=0.08."
    sizes: dict[int, float] = {}
    for part in (piece for piece in text.split(",") if piece.strip()):
        name, _, number = part.rpartition("=")
        try:
            id_, size = (int(name) if name.strip() else None), float(number)
        except ValueError as error:
            raise InputError(f"--known-size '{text}' is not a length.", hint=hint) from error
        if id_ is None and len(ids) != 1:
            raise InputError(f"--known-size '{text}' names no object, and there are several: {ids}.", hint=hint)
        id_ = ids[0] if id_ is None else id_
        if id_ not in ids:
            raise InputError(f"--known-size '{part.strip()}': there is no object {id_}, only {ids}.", hint=hint)
        check_longest_side(id_, size)
        sizes[id_] = size
    return sizes


def _one_of(names: str, values: list[Any]) -> None:
    if sum(value not in (None, "") for value in values) > 1:
        raise InputError(f"{names} exclude each other.", hint="Give one of them.")


def _camera(args: InputArgs, height: int, width: int) -> Camera | None:
    if args.camera_info is not None:
        camera = read_camera_info(args.camera_info)
    elif args.camera == "exif":
        camera = camera_of_photo(args.image, width, height)
    elif args.camera:
        camera = parse_camera(args.camera, width, height)
    else:
        return None
    check_camera(camera, height, width)
    return camera


def _masks(args: InputArgs, config: CupidConfig, picture: RgbImage, device: str) -> Mapping[int, Mask]:
    height, width = picture.rgb.shape[:2]
    if args.labels is not None:
        return masks_from_labels(read_labels(args.labels), height, width)
    if args.mask is not None:
        return {1: read_mask(args.mask, height, width)}
    if args.box:
        return _segmented(args.box, config, picture, device)
    if picture.alpha is not None:
        return {1: mask_from_alpha(picture.alpha, threshold=config.crop.alpha_threshold)}
    raise EmptyMaskError(
        f"There is no mask of an object in {args.image}.",
        hint="Give --mask, --labels or --box, or an image with an alpha channel.",
    )


def _segmented(text: str, config: CupidConfig, picture: RgbImage, device: str) -> Mapping[int, Mask]:
    try:
        x0, y0, x1, y1 = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidPromptError(
            f"--box '{text}' is not x0,y0,x1,y1.", hint="Give four numbers in pixels, with commas between."
        ) from error
    segmenter = build_segmenter(config.perception.segmenter, device=device)
    found = segmenter.segment(picture.rgb, {1: Prompt(box=(x0, y0, x1, y1))})
    for failure in found.failures.values():
        raise failure
    return found.masks


def _depth(
    args: InputArgs, config: CupidConfig, picture: RgbImage, camera: Camera | None, device: str
) -> DepthMap | None:
    wanted = config.perception.depth
    if args.depth is None:
        return build_depth_source(wanted, device=device).depth(picture.rgb, camera)
    depth = read_depth(args.depth, metres_per_count=args.depth_unit_m, scale_std=wanted.sensor_scale_std)
    if tuple(depth.depth_m.shape) != picture.rgb.shape[:2]:
        raise InvalidDepthError(
            f"{args.depth} has {_size(depth.depth_m.shape)} pixels, the image {_size(picture.rgb.shape)}.",
            hint="Align depth to the color image first.",
        )
    return depth


def _size(shape: Sequence[int]) -> str:
    """Width x height of an array of rows."""
    return f"{shape[1]}x{shape[0]}"
