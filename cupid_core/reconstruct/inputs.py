"""What comes in: a frame with its objects, and each object cropped as the networks want it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupid_core.config import CupidConfig, PoseConfig
from cupid_core.errors import EmptyMaskError, InputError, InvalidImageError
from cupid_core.geometry.camera import Camera
from cupid_core.image.any_input import (
    CameraInput,
    DepthInput,
    ImageInput,
    MasksInput,
    as_camera,
    as_depth,
    as_image,
    as_masks,
)
from cupid_core.image.crop import Crop, crop_to_content, network_input
from cupid_core.image.foreground import with_mask
from cupid_core.image.masks import labels_from_masks, without_specks
from cupid_core.image.object_values import as_ids, as_names, as_sizes
from cupid_core.image.orientation import Orientation, is_taken_upright
from cupid_core.image.rectify import rectify
from cupid_core.models.conv_image_encoder import mark_occlusion
from cupid_core.models.encoder_planes import point_planes, select_planes
from cupid_core.types import CameraSource, DepthMap

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Frame:
    """One image without lens distortion and what is known about it.

    Attributes:
        image: (H, W, 3) uint8.
        labels: (H, W) int32, the id of the object at each pixel, 0 for none.
        camera: of `image`, without distortion; None where it is not known yet.
        camera_source: where the camera comes from; ESTIMATED where there is none yet.
        depth: aligned to `image`; None without.
        names: of objects, by id.
        sizes_m: longest side of objects of known size, by id.
        only: ids of the objects that are wanted; the others only hide parts of them. None takes all.
        occlusion_masks: (H, W) by id, where something else hides the object; None finds it from labels and depth.
        up: (3,) unit vector against gravity, camera frame; None where it is not known.
    """

    image: Image
    labels: NDArray[np.int32]
    camera: Camera | None
    camera_source: CameraSource
    depth: DepthMap | None
    names: Mapping[int, str] = field(default_factory=dict)
    sizes_m: Mapping[int, float] = field(default_factory=dict)
    only: frozenset[int] | None = None
    occlusion_masks: Mapping[int, Mask] | None = None
    up: Tensor | None = None

    @classmethod
    def of(
        cls,
        image: ImageInput,
        masks: MasksInput | None,
        *,
        camera: CameraInput | None = None,
        camera_source: CameraSource | None = None,
        depth: DepthInput | None = None,
        depth_scale_std: float = 0.0,
        names: Mapping[int, str] | Sequence[str] | None = None,
        sizes_m: Mapping[int, float] | None = None,
        only: Collection[int] | None = None,
        occlusion_masks: Mapping[int, Mask] | None = None,
        orientation: Orientation = "auto",
        up: Sequence[float] | None = None,
    ) -> Frame:
        """Bring everything that belongs to the pixels together and remove the lens distortion from all of it.

        Args:
            image: any kind `as_image` reads.
            masks: any kind `as_masks` reads, specks far from their object left out (`without_specks`); None takes
                the alpha channel of the image.
            camera: of the image, distortion included, any kind `as_camera` reads; None takes the camera that comes
                with the depth, if any.
            camera_source: where `camera` comes from; None where its kind says it.
            depth: aligned to the image, any kind `as_depth` reads.
            depth_scale_std: relative deviation of the unit of depth that is given as pixels.
            names: by id, or in a list those of 1, 2, ...
            sizes_m: by id, metres; 1 mm to 20 m.
            only: ids that are wanted; None takes all.
            occlusion_masks: by id; None finds them from labels and depth.
            orientation: of a photograph that is stored turned; "auto" takes that of the masks and depth.
            up: direction against gravity, camera frame, of any length; None where it is not known.

        Raises:
            InputError: something cannot be used, or does not fit the image.
            EmptyMaskError: there is no object.
        """
        upright = is_taken_upright(image, {"mask": masks, "depth image": depth}, orientation)
        picture = as_image(image, upright=upright)
        rgb, (height, width) = picture.rgb, picture.rgb.shape[:2]
        camera, source = as_camera(camera, width, height, photo=image)
        source = source if camera is None or camera_source is None else camera_source
        depth = as_depth(depth, scale_std=depth_scale_std)
        found = as_masks(masks, height, width, alpha=picture.alpha)
        cleaned = {id_: without_specks(mask) for id_, mask in found.masks.items()}
        labels = labels_from_masks(cleaned, height, width)
        named = as_names(names)
        sizes, wanted = as_sizes(sizes_m), as_ids(only)
        if camera is None and depth is not None and depth.camera is not None:
            camera, source = depth.camera, CameraSource.DEPTH_MODEL
        if camera is not None:
            straight = rectify(rgb, camera, labels=labels, depth=depth)
            assert straight.labels is not None
            hidden = {id_: _rectified_mask(mask, camera) for id_, mask in (occlusion_masks or {}).items()}
            rgb, labels, depth, camera = straight.image, straight.labels, straight.depth, straight.camera
            occlusion_masks = None if occlusion_masks is None else hidden
        elif depth is not None and tuple(depth.depth_m.shape) != (height, width):
            raise InputError(
                f"Depth is {tuple(depth.depth_m.shape)}, the image {(height, width)} (height, width).",
                hint="Align depth to the color image.",
            )
        frame = cls(
            image=rgb,
            labels=labels,
            camera=camera,
            camera_source=source,
            depth=depth,
            names={**found.names, **named},
            sizes_m=sizes,
            only=wanted,
            occlusion_masks=occlusion_masks,
            up=_unit_vector(up),
        )
        frame._check_objects()
        return frame

    def ids(self) -> list[int]:
        """Ids of the objects that are wanted, ascending."""
        found = [int(id_) for id_ in np.unique(self.labels) if id_ != 0]
        return [id_ for id_ in found if self.only is None or id_ in self.only]

    def mask(self, id_: int) -> Mask:
        """(H, W) visible pixels of an object."""
        mask: Mask = self.labels == id_
        return mask

    def with_camera(self, camera: Camera, source: CameraSource) -> Frame:
        """The same frame with a camera, which must be without distortion."""
        return replace(self, camera=camera, camera_source=source)

    def _check_objects(self) -> None:
        if not self.labels.any():
            raise EmptyMaskError("No object is left in the image.", hint="Check the masks and the lens.")
        if not self.ids():
            present = [int(id_) for id_ in np.unique(self.labels) if id_ != 0]
            raise EmptyMaskError(
                f"None of the objects {sorted(self.only or ())} is in the image: it has {present}.",
                hint="Ask for ids that have a mask.",
            )


def _unit_vector(up: Sequence[float] | None) -> Tensor | None:
    if up is None:
        return None
    direction = torch.tensor([float(value) for value in up], dtype=torch.float64)
    length = direction.norm()
    if direction.shape != (3,) or not 0 < float(length) < math.inf:
        raise InputError(f"The direction of up is {list(up)}.", hint="Give three numbers, not all of them zero.")
    unit: Tensor = direction / length
    return unit


@dataclass(frozen=True, eq=False)
class ObjectCrop:
    """One object, cut out of an image without lens distortion.

    Attributes:
        crop: the square around it.
        mask: (H, W) bool, its visible pixels in the whole image.
        occlusion_mask: (side, side) bool of the crop: where the object may continue unseen, behind something else
            or beyond the border of the image; None where it is known to end.
        camera: of the crop; of a guessed focal length where `camera_known` is False.
        camera_known: the camera is not guessed.
        depth: (side, side) float32 of the crop, z of the visible surface of the object, 0 where there is none;
            None without depth.
    """

    crop: Crop
    mask: Mask
    occlusion_mask: Mask | None
    camera: Camera
    camera_known: bool
    depth: NDArray[np.float32] | None = None


def crop_objects(frame: Frame, occlusion: Mapping[int, Mask], config: CupidConfig) -> list[ObjectCrop]:
    """The wanted objects of a frame, in the order of `frame.ids()`.

    Args:
        frame: image, labels, camera.
        occlusion: (H, W) by id, where something else may hide the object.
        config: of crop, pose and reconstruction.
    """
    return [
        crop_object(
            frame.image,
            frame.mask(id_),
            config,
            camera=frame.camera,
            occlusion=occlusion[id_] if id_ in occlusion and occlusion[id_].any() else None,
            depth=frame.depth,
        )
        for id_ in frame.ids()
    ]


def crop_object(
    image: Image,
    mask: Mask,
    config: CupidConfig,
    *,
    camera: Camera | None = None,
    occlusion: Mask | None = None,
    depth: DepthMap | None = None,
) -> ObjectCrop:
    """Cut one object out of an image.

    Args:
        image: (H, W, 3) uint8 RGB without lens distortion.
        mask: (H, W) bool, the visible pixels of the object.
        config: of crop, pose and reconstruction.
        camera: of the image, without lens distortion; None where it is unknown: square pixels and a principal
            point in the middle are then assumed, and the focal length is estimated.
        occlusion: (H, W) bool, where something else hides what would be there; None where nothing is known to.
        depth: aligned to the image; None without.

    Raises:
        InvalidImageError: shapes do not fit.
        EmptyMaskError: the mask selects nothing.
    """
    crop = crop_to_content(with_mask(image, mask), config.crop)
    height, width = mask.shape
    if occlusion is not None and occlusion.shape != mask.shape:
        raise InvalidImageError(
            f"The occlusion mask is {occlusion.shape}, the image {mask.shape} (height, width).",
            hint="Give one value per pixel of the image.",
        )
    return ObjectCrop(
        crop=crop,
        mask=mask,
        occlusion_mask=_occlusion_in(crop, occlusion, beyond_border=config.reconstruct.border_occludes),
        camera=crop.camera(camera or guessed_camera(width, height, config.pose)),
        camera_known=camera is not None,
        depth=None if depth is None else _depth_in(crop, depth, mask),
    )


def guessed_camera(width: int, height: int, config: PoseConfig) -> Camera:
    """Square pixels, principal point in the middle, the most likely focal length."""
    return Camera.from_focal(config.unknown_focal * max(width, height), width, height)


def pose_config(camera_known: bool, config: CupidConfig) -> PoseConfig:
    """What is free in the camera of a crop: what the settings say, or the focal length of a guessed one."""
    if camera_known:
        return config.pose
    free = {
        "intrinsics": "focal",
        "focal_std": config.pose.unknown_focal_std_log,
        # The errors of a UV cube belong to whole patches: its pairs do not outvote the prior by their number.
        "independent_pairs": config.placement.independent_patches,
    }
    return config.pose.model_copy(update=free)


def encoder_images(crops: Sequence[ObjectCrop], size: int, planes: Sequence[str]) -> Tensor:
    """(B, C, size, size) planes of the crops, as an image encoder wants them (`models.encoder_planes`)."""
    rgb = torch.stack([network_input(crop.crop.rgba, size) for crop in crops])
    if tuple(planes) == ("rgb",):
        return rgb
    masks = torch.stack([_resized(crop.crop.rgba[..., 3] > 0, size) for crop in crops])
    occluded = torch.stack([_occluded(crop, size) for crop in crops])
    image = mark_occlusion(torch.cat([rgb, masks], dim=1), occluded)
    if "points" in planes:
        up, known = torch.zeros(len(crops), 3), torch.zeros(len(crops), dtype=torch.bool)
        points = point_planes(depth_images(crops, size), normalized_intrinsics(crops), up, known)
        image = torch.cat([image, points], dim=1)
    return select_planes(image, planes)


def depth_images(crops: Sequence[ObjectCrop], size: int) -> Tensor:
    """(B, size, size) depth of the nearest pixels of the crops, 0 where there is none."""
    images = []
    for crop in crops:
        pixels = ((np.arange(size) + 0.5) / size * crop.crop.side).astype(np.int64)
        there = np.zeros((size, size), np.float32) if crop.depth is None else crop.depth[pixels][:, pixels]
        images.append(torch.from_numpy(there))
    return torch.stack(images)


def normalized_intrinsics(crops: Sequence[ObjectCrop]) -> Tensor:
    """(B, 3, 3) float32 K of the crops, for positions in [0, 1]."""
    return torch.stack([crop.camera.K_normalized().float() for crop in crops])


def visible_fraction(crops: Sequence[ObjectCrop], size: int) -> Tensor | None:
    """(B, 1, size, size), 0 where something hides what would be there; None where nothing does, in any crop."""
    if all(crop.occlusion_mask is None for crop in crops):
        return None
    return 1.0 - torch.stack([_occluded(crop, size) for crop in crops])


def _occluded(crop: ObjectCrop, size: int) -> Tensor:
    return torch.zeros(1, size, size) if crop.occlusion_mask is None else _resized(crop.occlusion_mask, size)


def _resized(mask: Mask, size: int) -> Tensor:
    """(1, size, size) in [0, 1], resampled as the colors are."""
    gray = np.where(mask, np.uint8(255), np.uint8(0))
    rgba = np.stack([gray, gray, gray, np.full_like(gray, 255)], axis=-1)
    return network_input(rgba, size)[:1]


def _occlusion_in(crop: Crop, occlusion: Mask | None, *, beyond_border: bool) -> Mask | None:
    """Where the object may continue unseen in the square; None where it does nowhere."""
    side = crop.side
    rows, columns = np.arange(side) + crop.top, np.arange(side) + crop.left
    inside_rows = (rows >= 0) & (rows < crop.image_height)
    inside_columns = (columns >= 0) & (columns < crop.image_width)
    inside = inside_rows[:, None] & inside_columns[None]
    occluded = np.zeros((side, side), dtype=bool)
    if beyond_border and crop.truncated:
        occluded |= ~inside
    if occlusion is not None:
        occluded[inside] |= occlusion[rows[inside_rows]][:, columns[inside_columns]].reshape(-1)
    occluded &= crop.rgba[..., 3] == 0
    return occluded if occluded.any() else None


def _depth_in(crop: Crop, depth: DepthMap, mask: Mask) -> NDArray[np.float32]:
    """Depth (side, side) of the visible pixels of the object, 0 elsewhere."""
    known = np.nan_to_num(np.asarray(depth.depth_m.cpu(), np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    whole = np.where(mask, known, np.float32(0.0))
    rows, columns = np.arange(crop.side) + crop.top, np.arange(crop.side) + crop.left
    inside_rows, inside_columns = (rows >= 0) & (rows < len(whole)), (columns >= 0) & (columns < whole.shape[1])
    square = np.zeros((crop.side, crop.side), np.float32)
    square[np.ix_(inside_rows, inside_columns)] = whole[np.ix_(rows[inside_rows], columns[inside_columns])]
    return square


def _rectified_mask(mask: Mask, camera: Camera) -> Mask:
    straight: Mask = camera.undistort(mask.astype(np.uint8), "nearest")[0].astype(np.bool_)
    return straight
