"""An image with several objects, without lens distortion; knows pixels, cameras and depth, no networks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_core.errors import EmptyMaskError, InputError
from cupid_core.geometry.camera import Camera
from cupid_core.image.masks import labels_from_masks, masks_from_labels
from cupid_core.image.rectify import rectify
from cupid_core.image.rgb import to_rgb8
from cupid_core.types import DepthMap


@dataclass(frozen=True, eq=False)
class Frame:
    """One image and what is known about it.

    Attributes:
        image: (H, W, 3) uint8 without lens distortion.
        labels: (H, W) int32, the id of the object at each pixel, 0 for none.
        camera: of `image`, without distortion; None where it is unknown.
        depth: aligned to `image`; None without.
        names: of objects, by id.
        sizes_m: longest side of objects of known size, by id.
        only: ids of the objects that are wanted; the others only hide parts of them. None takes all.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    camera: Camera | None
    depth: DepthMap | None
    names: Mapping[int, str] = field(default_factory=dict)
    sizes_m: Mapping[int, float] = field(default_factory=dict)
    only: frozenset[int] | None = None

    @classmethod
    def of(
        cls,
        image: NDArray[Any],
        masks: Mapping[int, NDArray[Any]] | NDArray[Any],
        *,
        names: Mapping[int, str] | None = None,
        camera: Camera | None = None,
        depth: DepthMap | None = None,
        sizes_m: Mapping[int, float] | None = None,
        only: Collection[int] | None = None,
    ) -> Frame:
        """Bring images of any kind together and take the lens out of all of them.

        Args:
            image: any kind `to_rgb8` reads.
            masks: by id, or a label image.
            names: by id.
            camera: distortion included; None takes the camera that comes with the depth.
            depth: aligned to the image.
            sizes_m: by id; positive.
            only: ids that are wanted; None takes all.

        Raises:
            InputError: something cannot be used, or does not fit the image.
            EmptyMaskError: there is no object.
        """
        rgb = to_rgb8(image).rgb
        height, width = rgb.shape[:2]
        known = masks if isinstance(masks, Mapping) else masks_from_labels(masks, height, width)
        labels = labels_from_masks(known, height, width)
        for id_, size in (sizes_m or {}).items():
            if not (np.isfinite(size) and size > 0):
                raise InputError(f"Object {id_} has a longest side of {size} m.", hint="Give a positive length.")
        if camera is None and depth is not None:
            camera = depth.camera
        if camera is not None:
            straight = rectify(rgb, camera, labels=labels, depth=depth)
            assert straight.labels is not None
            rgb, labels, depth, camera = straight.image, straight.labels, straight.depth, straight.camera
        elif depth is not None and tuple(depth.depth_m.shape) != (height, width):
            raise InputError(
                f"Depth is {tuple(depth.depth_m.shape)}, the image {(height, width)} (height, width).",
                hint="Align depth to the color image.",
            )
        if not labels.any():
            raise EmptyMaskError("No object is left in the image.", hint="Check the masks and the lens.")
        wanted = None if only is None else frozenset(only)
        frame = cls(rgb, labels, camera, depth, dict(names or {}), dict(sizes_m or {}), wanted)
        if not frame.ids():
            seen = [int(id_) for id_ in np.unique(labels) if id_ != 0]
            raise EmptyMaskError(
                f"None of the objects {sorted(wanted or ())} is in the image: it has {seen}.",
                hint="Ask for ids that have a mask.",
            )
        return frame

    def ids(self) -> list[int]:
        """Ids of the objects that are wanted, ascending."""
        found = [int(id_) for id_ in np.unique(self.labels) if id_ != 0]
        return [id_ for id_ in found if self.only is None or id_ in self.only]

    def mask(self, id_: int) -> NDArray[np.bool_]:
        """(H, W) visible pixels of an object."""
        mask: NDArray[np.bool_] = self.labels == id_
        return mask
