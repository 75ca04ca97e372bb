"""What comes in: one camera image with everything that belongs to it, as plain values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cupid_core.errors import CupidError
from cupid_core.geometry.camera import Camera
from cupid_core.image.masks import Box
from cupid_core.types import DepthMap

_LARGEST_NUMBER = 2**31 - 1


@dataclass(frozen=True)
class Stamped:
    """When and in which frame something was measured.

    Attributes:
        stamp_ns: nanoseconds since the epoch.
        frame_id: name of the frame; of an image the camera's optical frame (x right, y down, z forward).
    """

    stamp_ns: int
    frame_id: str


@dataclass(frozen=True)
class Detection:
    """One detected object.

    Attributes:
        id: as the detector gave it; empty where it gave none.
        class_id: of the best hypothesis; empty where there is none.
        score: of the best hypothesis, 0 to 1; None where there is none.
        box: x0, y0, x1, y1 in pixels, far edges excluded; None where the detection has only an id, and its pixels
            are marked in a label image.
        labeled: its number may name its pixels in a label image; False where its box is elsewhere.
    """

    id: str
    class_id: str
    score: float | None
    box: Box | None
    labeled: bool = True

    @property
    def number(self) -> int | None:
        """The number at the end of the id, which label images use as pixel value; None where there is none."""
        found = re.search(r"[0-9]+$", self.id)
        number = int(found.group()) if found and len(found.group()) <= 10 else 0
        return number if 0 < number <= _LARGEST_NUMBER else None


@dataclass(frozen=True, eq=False)
class CameraFrame:
    """One image and what belongs to it.

    Attributes:
        stamped: stamp of the image and the camera's optical frame.
        image: (H, W, 3) uint8 RGB, as the lens made it.
        camera: with its lens; None where it is unknown.
        depth: aligned to the image; None without.
        labels: (H, W) int32, 0 where there is no object; None without.
        detections: of the objects; empty takes every value of the label image as an object.
        problems: why parts of the input were left out.
        up: (3,) against gravity, camera frame; None where it is not known.
    """

    stamped: Stamped
    image: NDArray[np.uint8]
    camera: Camera | None
    depth: DepthMap | None = None
    labels: NDArray[np.int32] | None = None
    detections: tuple[Detection, ...] = ()
    problems: tuple[CupidError, ...] = ()
    up: tuple[float, float, float] | None = None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The images a job gets: "image", and where there are any "depth" (float32 metres) and "labels"."""
        arrays: dict[str, NDArray[Any]] = {"image": self.image}
        if self.depth is not None:
            arrays["depth"] = self.depth.depth_m.numpy()
        if self.labels is not None:
            arrays["labels"] = self.labels
        return arrays
