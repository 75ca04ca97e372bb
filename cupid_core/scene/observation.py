"""What one view shows of one object, and a lattice of its pixels of which half is fitted and half judges.

Depends on masks, depth and cameras, not on how a fit works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cupid_core.config import ShapeFitConfig
from cupid_core.errors import EmptyMaskError, InputError, InvalidCameraError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.grid import box_of
from cupid_core.geometry.sim3 import Sim3
from cupid_core.render.raycast import render_mesh
from cupid_core.render.silhouette import dilated, eroded
from cupid_core.scene.agreement import Agreement, Depths, Mask, depth_residual_m, depths_of, silhouette_iou
from cupid_core.types import DepthMap, TriangleMesh

# The lattice reaches beyond the mask by at least and at most these shares of its longer side.
_LEAST_MARGIN, _LARGEST_MARGIN = 0.2, 0.6
# Depth farther than this from the median of the mask, in sizes of the object, is not the object's.
_DEPTH_REACH = 1.0
# Neighborhood of the outline in which an occluder or the image border makes it doubtful.
_BESIDE_PX = 2

Placed = tuple[TriangleMesh, Sim3]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Observation:
    """What one view shows of one object; all images are (H, W) of one pinhole camera.

    Attributes:
        mask: bool, visible pixels of the object.
        camera: without lens distortion.
        occlusion: bool, where something in front may hide the object; None where nothing does.
        depth: metric depth; None without.

    Raises:
        InputError: sizes differ.
        EmptyMaskError: the mask selects nothing.
        InvalidCameraError: the camera has a lens.
    """

    mask: Mask
    camera: Camera
    occlusion: Mask | None = None
    depth: DepthMap | None = None

    def __post_init__(self) -> None:
        size = (self.camera.height, self.camera.width)
        shapes: dict[str, tuple[int, ...]] = {"mask": self.mask.shape}
        if self.occlusion is not None:
            shapes["occlusion mask"] = self.occlusion.shape
        if self.depth is not None:
            shapes["depth"] = tuple(self.depth.depth_m.shape)
        for name, shape in shapes.items():
            if shape != size:
                raise InputError(
                    f"The {name} is {shape}, the camera {size} (height, width).",
                    hint="Give images of one camera, of one size.",
                )
        if not self.mask.any():
            raise EmptyMaskError("The mask selects no pixel.", hint="Check which detection it belongs to.")
        if self.camera.lens is not None:
            raise InvalidCameraError("The camera has a lens distortion.", hint="Rectify the images first.")

    @property
    def hidden(self) -> Mask:
        """(H, W) bool, pixels outside the mask at which the object may be hidden."""
        return np.zeros_like(self.mask) if self.occlusion is None else self.occlusion & ~self.mask


@dataclass(frozen=True, eq=False)
class FitPixels:
    """Every few pixels around the object, in blocks of a checkerboard that are fitted or held out.

    Attributes:
        camera: of the lattice of h x w pixels.
        mask: (h, w) visible pixels of the object.
        hidden: (h, w) where nothing is known.
        depth_m: (h, w) of the object, NaN elsewhere; None without depth.
        held_out: (h, w) pixels that are not fitted; they measure the fit.
        size: longest side of the object at the start, unit of the camera frame.
        doubt: share of the observation that is doubtful, 0 to 1.
        doubt_reason: why the outline cannot determine offsets; empty where it can.
    """

    camera: Camera
    mask: Mask
    hidden: Mask
    depth_m: Depths | None
    held_out: Mask
    size: float
    doubt: float
    doubt_reason: str

    @classmethod
    def of(cls, observation: Observation, starts: Sequence[Placed], settings: ShapeFitConfig) -> FitPixels:
        """Choose the pixels for hypotheses, meshes with an extent, that start at their places."""
        size = float(np.median([_size(mesh, S) for mesh, S in starts]))
        depth_m, foreign = _object_depth(observation, size)
        disagreement = int(foreign.sum()) / int(observation.mask.sum())
        rows, columns, camera = _window(observation, starts, settings.window_px)
        picked = np.ix_(rows, columns)
        block_rows, block_columns = (np.arange(len(line)) // settings.block_px for line in (rows, columns))
        held_out = (block_rows[:, None] + block_columns) % 2 == 1
        if depth_m is not None:
            depth_m = depth_m[picked]
            if np.isfinite(depth_m[~held_out]).sum() < settings.min_points:
                depth_m = None
        doubtful_outline = hidden_outline(observation)
        reason = ""
        if doubtful_outline > settings.max_hidden_outline:
            reason = f"{doubtful_outline:.0%} of the outline is hidden"
        elif disagreement > settings.max_disagreement:
            reason = f"mask and depth disagree on {disagreement:.0%} of the mask"
        doubt = min(1.0, doubtful_outline + disagreement)
        # Where mask and depth contradict each other, neither is believed.
        mask, hidden = (observation.mask & ~foreign)[picked], (observation.hidden | foreign)[picked]
        return cls(camera, mask, hidden, depth_m, held_out, size, doubt, reason)

    def rays(self) -> tuple[Tensor, Tensor]:
        """Directions (N, 3) with z = 1 of the known pixels that are fitted, and their mask (N,) as 0 or 1."""
        chosen = ~self.held_out & ~self.hidden
        return self.camera.rays().float()[torch.from_numpy(chosen)], torch.from_numpy(self.mask[chosen]).float()

    def measured_points(self) -> Tensor:
        """Measured points (P, 3), camera frame, of the pixels that are fitted; P is 0 without depth."""
        if self.depth_m is None:
            return torch.zeros(0, 3)
        depth = torch.from_numpy(np.where(self.held_out, np.nan, self.depth_m)).float()
        known = depth.isfinite()
        return self.camera.rays().float()[known] * depth[known][:, None]

    def agreement(self, mesh: TriangleMesh, S_camera_object: Sim3) -> Agreement:
        """Agreement of a mesh at a place with the pixels that are held out."""
        rendering = render_mesh(replace(mesh, normals=None, colors=None), S_camera_object, self.camera)
        mask = self.mask & self.held_out
        residual = None if self.depth_m is None else depth_residual_m(rendering, self.depth_m, mask)
        return Agreement(silhouette_iou(rendering, mask, self.hidden | ~self.held_out), residual)


def _size(mesh: TriangleMesh, place: Sim3) -> float:
    """Longest side of the box of the object, unit of the camera frame."""
    vertices = mesh.vertices.detach().double().cpu()
    return float(place.scale) * float((vertices.amax(dim=0) - vertices.amin(dim=0)).max())


def _object_depth(observation: Observation, size: float) -> tuple[Depths | None, Mask]:
    """Depth (H, W) that is the object's, NaN elsewhere, and where (H, W) that of the mask is not the object's."""
    nowhere = np.zeros_like(observation.mask)
    if observation.depth is None:
        return None, nowhere
    depth = depths_of(observation.depth)
    # At its border a mask covers the background, and sensors mix two surfaces there.
    inner = eroded(observation.mask, 1) & np.isfinite(depth)
    inner = inner if inner.any() else observation.mask & np.isfinite(depth)
    if not inner.any():
        return None, nowhere
    own = inner & (np.abs(depth - np.median(depth[inner])) < _DEPTH_REACH * size)
    return np.where(own, depth, np.nan).astype(np.float32), dilated(inner & ~own, 1) & observation.mask


def foreign_share(observation: Observation, size: float) -> float:
    """Share of the mask whose depth is not the object's, for an object of this longest side."""
    return int(_object_depth(observation, size)[1].sum()) / int(observation.mask.sum())


def hidden_outline(observation: Observation) -> float:
    """Share of the outline that lies beside something hidden or at the border of the image."""
    mask = observation.mask
    ring = dilated(mask, _BESIDE_PX) & ~mask
    cut = _BESIDE_PX * (int(mask[[0, -1]].sum()) + int(mask[:, [0, -1]].sum()))
    return (int((ring & observation.hidden).sum()) + cut) / max(1, int(ring.sum()) + cut)


def _window(observation: Observation, starts: Sequence[Placed], longer_side: int) -> tuple[Rows, Rows, Camera]:
    """Rows and columns of the lattice, around the mask and, in bounds, around the meshes; and its camera."""
    camera = observation.camera
    box = box_of(observation.mask)
    assert box is not None
    low, high = np.array(box[:2], float), np.array(box[2:], float)
    side = float((high - low).max())
    margins = [np.full(4, _LEAST_MARGIN * side + 2)]
    for mesh, S in starts:
        points = camera.project(S.apply(mesh.vertices.detach().cpu().double())).numpy()
        points = points[np.isfinite(points).all(axis=1)]
        if len(points):
            margins.append(np.concatenate([low - points.min(axis=0), points.max(axis=0) - high]) + 2)
    margin = np.minimum(np.max(margins, axis=0), _LARGEST_MARGIN * side + 2)
    first = np.maximum(0, np.floor(low - margin[:2])).astype(int)
    last = np.minimum((camera.width, camera.height), np.ceil(high + margin[2:])).astype(int)
    step = max(1, -(-int((last - first).max()) // longer_side))
    # Every step-th pixel, not an average: depth and masks must not be mixed.
    columns, rows = (np.arange(first[k] + step // 2, last[k], step) for k in range(2))
    K = camera.K.detach().cpu().double().clone()
    K[0, 2] -= int(columns[0])
    K[1, 2] -= int(rows[0])
    K[:2] /= step
    return rows, columns, Camera(K, len(columns), len(rows))
