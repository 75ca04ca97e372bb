"""Which pixels show the same place of an object in a rendering and in measured depth; knows no scale.

At the border of a mask, and where depth jumps, a pixel mixes two surfaces or belongs to the wrong one: such pixels
are left out on both sides, measured and rendered.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cupid_core.config import PlacementConfig
from cupid_core.errors import TooFewDepthPairsError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.sim3 import Sim3
from cupid_core.render.raycast import Rendering
from cupid_core.render.silhouette import eroded
from cupid_core.scene.agreement import Depths, Mask, check_shapes


@dataclass(frozen=True, eq=False)
class VisiblePairs:
    """Matched points of one object, N of them.

    Attributes:
        points_object: (N, 3) float64 canonical, as rendered.
        points_rendered: (N, 3) float64 the same in the camera frame, at the pose and in its unit.
        points_measured: (N, 3) float64 camera frame of the depth, metres.
        normals: (N, 3) float64 unit, camera frame, of the rendered surface.
        border_px: width of the border that was left out; smaller than the setting where the object is thin.
    """

    points_object: Tensor
    points_rendered: Tensor
    points_measured: Tensor
    normals: Tensor
    border_px: int

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self.points_object)


def visible_pairs(
    rendering: Rendering,
    S_camera_object: Sim3,
    camera: Camera,
    depth_m: Depths,
    mask: Mask,
    *,
    depth_camera: Camera | None = None,
    config: PlacementConfig | None = None,
) -> VisiblePairs:
    """Match rendered and measured points by pixel.

    Args:
        rendering: (H, W) of the object at this pose.
        S_camera_object: the pose it was rendered with; of any unit.
        camera: it was rendered with, H x W.
        depth_m: (H, W) metres, NaN where nothing is measured.
        mask: (H, W) bool, visible pixels of the object.
        depth_camera: what turns measured depth into points; `camera` where None.
        config: border, jumps, numbers of pairs; the defaults where None.

    Raises:
        InputError: sizes differ.
        TooFewDepthPairsError: fewer pairs than the settings want.
    """
    check_shapes(rendering, mask, depth_m)
    settings = config or PlacementConfig()
    usable = np.isfinite(depth_m) & mask & rendering.mask
    smooth = usable & _smooth(depth_m, settings.max_depth_jump)
    smooth &= _smooth(rendering.depth, settings.max_depth_jump)
    chosen, border = _inner(smooth, mask & rendering.mask, settings)
    if int(chosen.sum()) < settings.min_pairs:
        raise TooFewDepthPairsError(
            f"{int(chosen.sum())} pixels show the object with a measured depth, at least {settings.min_pairs} are "
            f"needed (the mask has {int(mask.sum())} pixels, {int((mask & np.isfinite(depth_m)).sum())} of them "
            f"measured).",
            hint="Check that depth is aligned to the image and in the sensor's range, or give a known size.",
        )
    rows, columns = _spread(chosen, settings.max_pairs)
    rendered = _points(camera, rows, columns, rendering.depth)
    pose = S_camera_object.to(dtype=torch.float64, device="cpu")
    return VisiblePairs(
        points_object=pose.inverse().apply(rendered),
        points_rendered=rendered,
        points_measured=_points(depth_camera or camera, rows, columns, depth_m),
        normals=torch.from_numpy(rendering.normals[rows, columns].astype(np.float64)),
        border_px=border,
    )


def _inner(smooth: Mask, silhouette: Mask, settings: PlacementConfig) -> tuple[Mask, int]:
    """Pixels away from the border; a thin object, which has none, keeps the nearest it has."""
    for border in range(settings.border_px, -1, -1):
        chosen = smooth & eroded(silhouette, border)
        if int(chosen.sum()) >= 2 * settings.min_pairs or border == 0:
            return chosen, border
    raise AssertionError("the loop ends at 0")


def _smooth(depth: Depths, max_jump: float) -> Mask:
    """Pixels (H, W) whose measured neighbors are all about as far; those that are not measured do not count."""
    padded = np.pad(depth, 1, constant_values=np.nan)
    smooth = np.isfinite(depth)
    for row in (0, 1, 2):
        for column in (0, 1, 2):
            neighbor = padded[row : row + depth.shape[0], column : column + depth.shape[1]]
            smooth &= ~(np.abs(neighbor - depth) > max_jump * depth)
    return np.asarray(smooth)


def _spread(chosen: Mask, most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows and columns of at most so many pixels, evenly over all."""
    numbers = np.flatnonzero(chosen)
    if len(numbers) > most:
        numbers = numbers[np.linspace(0, len(numbers) - 1, most).round().astype(np.int64)]
    rows, columns = np.unravel_index(numbers, chosen.shape)
    return rows.astype(np.int64), columns.astype(np.int64)


def _points(camera: Camera, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], depth: Depths) -> Tensor:
    """Points (N, 3) float64 of pixels, camera frame."""
    px = torch.from_numpy(np.stack([columns, rows], axis=-1).astype(np.float64))
    exact = replace(camera, K=camera.K.detach().cpu().double())
    return exact.unproject(px, torch.from_numpy(depth[rows, columns].astype(np.float64)))
