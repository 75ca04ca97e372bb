"""Sources of metric depth for an image: a sensor, a model, or none."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from cupid_core.config.perception import DepthConfig
from cupid_core.errors import InvalidDepthError
from cupid_core.geometry import Camera, depth_to_metres
from cupid_core.perception.moge import MogeDepth
from cupid_core.types import DepthMap, ScaleSource


class DepthSource(Protocol):
    """Gives the depth of every pixel of an image in metres, or None."""

    def depth(self, image: NDArray[np.uint8], camera: Camera | None = None) -> DepthMap | None:
        """Depth of one image.

        Args:
            image: (H, W, 3) uint8 RGB.
            camera: of this image, where known.

        Returns:
            (H, W) metres, or None where this source has no depth.

        Raises:
            InvalidDepthError: depth of another size, or not one valid pixel.
            InvalidCameraError: a camera that this source cannot use.
        """
        ...


class NoDepth:
    """No depth: objects get a pose up to scale."""

    def depth(self, image: NDArray[np.uint8], camera: Camera | None = None) -> DepthMap | None:
        """As `DepthSource.depth`; always None."""
        return None


class SensorDepth:
    """The depth image that a sensor delivered along with the color image, aligned to it.

    Args:
        measured: (H, W) uint16 millimetres or floating metres, as `geometry.depth_to_metres`.
        config: standard deviation of the sensor's scale; defaults where None.

    Raises:
        InvalidDepthError: another type or shape, or not one valid pixel.
    """

    def __init__(self, measured: NDArray[Any], config: DepthConfig | None = None) -> None:
        depth_m, _ = depth_to_metres(measured)
        scale_std = (config or DepthConfig()).sensor_scale_std
        self._depth = DepthMap(depth_m.to(torch.float32), ScaleSource.SENSOR, scale_std)

    def depth(self, image: NDArray[np.uint8], camera: Camera | None = None) -> DepthMap:
        """As `DepthSource.depth`; the camera plays no part."""
        if tuple(self._depth.depth_m.shape) != image.shape[:2]:
            raise InvalidDepthError(
                f"Depth is {tuple(self._depth.depth_m.shape)}, the image {image.shape[:2]} (height, width).",
                hint="Align depth to the color image first.",
            )
        return self._depth


def build_depth_source(config: DepthConfig | None = None, *, device: torch.device | str = "cpu") -> DepthSource:
    """The source of the settings, for images that come without sensor depth.

    Args:
        config: `perception.depth`; no depth where None.
        device: where a network runs.

    Raises:
        MissingPackageError: its package is not installed; the text says how to install it.
        CheckpointError: its weights cannot be loaded, or are not metric.
    """
    config = config or DepthConfig()
    return MogeDepth.from_pretrained(config, device=device) if config.kind == "moge" else NoDepth()
