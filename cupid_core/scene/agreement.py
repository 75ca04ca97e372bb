"""How far a rendering agrees with what was seen: silhouette, colors, depth. Knows pixels, judges nothing.

`hidden` is where something else, in front, may hide the object: nothing can be said there, so it does not count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cupid_core.errors import InputError
from cupid_core.render.raycast import Rendering
from cupid_core.types import DepthMap

Mask = npt.NDArray[np.bool_]
Depths = npt.NDArray[np.float32]

# Squared error below which colors are the same: 120 dB.
_LEAST_ERROR = 1e-12


@dataclass(frozen=True)
class Agreement:
    """How far an object at one place agrees with the image.

    Attributes:
        silhouette_iou: where nothing may hide it.
        depth_residual_m: median absolute difference of rendered and measured depth; None without depth.
    """

    silhouette_iou: float
    depth_residual_m: float | None


def silhouette_iou(rendering: Rendering, mask: Mask, hidden: Mask | None = None) -> float:
    """Intersection over union of the rendered silhouette with the mask.

    Args:
        rendering: (H, W) of one object.
        mask: (H, W) its visible pixels.
        hidden: (H, W) where it may be hidden; a pixel of the mask counts in any case. None where it is nowhere.

    Returns:
        In [0, 1]; 0 where neither has a pixel that counts.

    Raises:
        InputError: shapes differ.
    """
    check_shapes(rendering, mask, hidden)
    rendered = rendering.mask if hidden is None else rendering.mask & (mask | ~hidden)
    either = int((rendered | mask).sum())
    return int((rendered & mask).sum()) / either if either else 0.0


def color_psnr_db(rendering: Rendering, image: npt.NDArray[np.uint8], mask: Mask) -> float | None:
    """Peak signal-to-noise ratio of the colors inside both silhouettes, of values in [0, 1].

    The colors are compared as they are: no gain, no light is fitted first, so the shading of the photograph,
    which vertex colors do not have, counts as error.

    Args:
        rendering: (H, W) of one object.
        image: (H, W, 3) uint8.
        mask: (H, W) its visible pixels.

    Returns:
        At most 120 dB. None without colors, or where the silhouettes have no pixel in common.

    Raises:
        InputError: shapes differ.
    """
    check_shapes(rendering, mask, image[..., 0])
    both = rendering.mask & mask
    if rendering.colors is None or not both.any():
        return None
    error = rendering.colors[both].astype(np.float64) - image[both].astype(np.float64) / 255.0
    return -10.0 * math.log10(max(float(np.square(error).mean()), _LEAST_ERROR))


def depth_residual_m(rendering: Rendering, depth_m: Depths, mask: Mask) -> float | None:
    """Median absolute difference of rendered and measured depth inside both silhouettes.

    Args:
        rendering: (H, W) of one object, in metres.
        depth_m: (H, W), NaN where nothing is measured.
        mask: (H, W) its visible pixels.

    Returns:
        Metres; None where no pixel has both.

    Raises:
        InputError: shapes differ.
    """
    check_shapes(rendering, mask, depth_m)
    difference = np.abs(rendering.depth[mask] - depth_m[mask])
    difference = difference[np.isfinite(difference)]
    return float(np.median(difference)) if len(difference) else None


def depths_of(depth: DepthMap) -> Depths:
    """(H, W) float32 metres of a depth map as an array."""
    return np.asarray(depth.depth_m.detach().cpu().numpy())


def check_shapes(rendering: Rendering, *images: npt.NDArray[Any] | None) -> None:
    """Make sure that everything has the size of the rendering.

    Raises:
        InputError: something has another size.
    """
    for image in images:
        if image is not None and image.shape != rendering.mask.shape:
            raise InputError(
                f"A rendering of {rendering.mask.shape} meets an image of {image.shape} (height, width).",
                hint="Render with the camera of the image, and align depth to it.",
            )
