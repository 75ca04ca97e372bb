"""Renders a reconstructed scene from its own camera, and makes the pictures of the report from that.

Everything is rendered once, at a bounded size, for the overlay and the report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cupid_core.geometry.camera import Camera
from cupid_core.geometry.grid import box_of
from cupid_core.reconstruct.results import Scene, SceneObject
from cupid_core.render.cameras import turntable as camera_circle
from cupid_core.render.raycast import MeshCaster, Rendering, SceneRendering, render_mesh, render_scene
from cupid_core.types import TriangleMesh

Picture = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

# Colors that stay apart for color-blind eyes (Okabe and Ito, 2008), without black and yellow.
_PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (213, 94, 0), (0, 114, 178))
MASK_ONLY = (213, 94, 0)
MESH_ONLY = (0, 114, 178)
BACKGROUND = 245
_TURNTABLE_FOV_RAD = math.radians(30.0)
# Length of the mean of the z axes from which they count as agreeing: half of them within about 50 degrees.
_UP_AGREEMENT = 0.8


def object_color(number: int) -> tuple[int, int, int]:
    """RGB in 0..255 that an object has in every picture and table."""
    return _PALETTE[number % len(_PALETTE)]


@dataclass(frozen=True, eq=False)
class SceneViews:
    """A scene rendered with its own camera, perhaps smaller than the photo.

    Attributes:
        camera: pinhole, of `image`.
        image: (H, W, 3) uint8 the photo.
        labels: (H, W) int32, 0 = none.
        single: rendering of every object alone, by id.
        together: all objects, the nearest in front; None where there is no object.
    """

    camera: Camera
    image: Picture
    labels: npt.NDArray[np.int32]
    single: Mapping[int, Rendering]
    together: SceneRendering | None


def view_scene(scene: Scene, longest_px: int) -> SceneViews:
    """Render a scene.

    Args:
        scene: what was reconstructed.
        longest_px: the longer side of the pictures, at most.
    """
    height, width = scene.image.shape[:2]
    ratio = min(1.0, longest_px / max(height, width))
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    camera = scene.camera.resize(*size) if ratio < 1 else scene.camera
    placed = [(item.mesh, item.pose) for item in scene.objects]
    return SceneViews(
        camera=camera,
        image=resized(scene.image, size),
        labels=_resized_labels(scene.labels, size),
        single={item.id: render_mesh(item.mesh, item.pose, camera) for item in scene.objects},
        together=render_scene(placed, camera) if placed else None,
    )


def _resized_labels(labels: npt.NDArray[np.int32], size: tuple[int, int]) -> npt.NDArray[np.int32]:
    # OpenCV resizes 32-bit integers with the nearest neighbor only, which is what labels need.
    return np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), dtype=np.int32)


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    """A picture at another (width, height), averaging where it gets smaller."""
    smaller = size[0] < picture.shape[1]
    return _bytes(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR))


def shaded(rendering: Rendering | SceneRendering, *, background: int = BACKGROUND) -> Picture:
    """(H, W, 3) the colors of a rendering, a little darker where the surface turns away, on a plain background."""
    facing = np.abs(rendering.normals[..., 2:3])
    colors = np.full((*rendering.mask.shape, 3), 0.7, np.float32)
    if rendering.colors is not None:
        colors = rendering.colors
    lit = np.nan_to_num(colors * (0.6 + 0.4 * facing)) * 255
    return np.where(rendering.mask[..., None], lit, background).round().clip(0, 255).astype(np.uint8)


def masked(image: Picture, mask: Mask) -> Picture:
    """The image with everything outside the mask faded."""
    gray = image.mean(axis=2, keepdims=True) * 0.25 + 185
    return np.where(mask[..., None], image, gray).round().clip(0, 255).astype(np.uint8)


def difference(image: Picture, rendering: Rendering, mask: Mask) -> Picture:
    """How photo and rendering differ.

    Args:
        image: (H, W, 3) the photo.
        rendering: of one object, same size.
        mask: (H, W) of the object in the photo.

    Returns:
        (H, W, 3): inside both outlines the mean absolute difference of color, white none and black 128 or more
        of 255; `MASK_ONLY` where only the mask is, `MESH_ONLY` where only the rendering is; the background color
        elsewhere.
    """
    result = np.full_like(image, BACKGROUND)
    both = mask & rendering.mask
    if rendering.colors is not None:
        away = np.abs(image.astype(np.float32) - np.nan_to_num(rendering.colors) * 255).mean(axis=2)
        result[both] = (255 - 2 * away.clip(0, 127.5)).astype(np.uint8)[both][:, None]
    result[mask & ~rendering.mask] = MASK_ONLY
    result[rendering.mask & ~mask] = MESH_ONLY
    return result


def turntable(mesh: TriangleMesh, frames: int, size_px: int, elevation_rad: float = 0.4) -> list[Picture]:
    """Pictures of a mesh that turns once.

    Args:
        mesh: in the object frame (z up), any unit; it is centered and scaled to fill the picture.
        frames: how many, evenly over the full turn.
        size_px: edge of the square pictures.
        elevation_rad: height of the camera above the horizontal plane.

    Returns:
        `frames` pictures (size_px, size_px, 3) uint8.

    Raises:
        InvalidCameraError: no frame.
    """
    vertices = mesh.vertices.detach().double().cpu()
    center = (vertices.amin(dim=0) + vertices.amax(dim=0)) / 2
    vertices = vertices - center
    radius = float(torch.linalg.vector_norm(vertices, dim=1).max().clamp(min=1e-9))
    middle = replace(mesh.to("cpu"), vertices=(vertices / radius).to(mesh.vertices.dtype))
    # The sphere of radius 1 just touches the border of the picture.
    distance = 1.02 / math.sin(_TURNTABLE_FOV_RAD / 2)
    caster = MeshCaster(middle)
    cameras = camera_circle(frames, elevation_rad, distance, _TURNTABLE_FOV_RAD)
    camera = Camera.from_normalized(cameras.K_normalized, size_px, size_px)
    return [shaded(caster.render(cameras.T_camera_object[i], camera)) for i in range(frames)]


def upward(objects: Sequence[SceneObject]) -> Tensor | None:
    """Upwards (3,) in the camera frame, unit length: the mean z axis of the objects.

    None where there is no object, where the axes disagree (objects lie on their sides), or where their mean points
    down in the image.
    """
    if not objects:
        return None
    mean = torch.stack([item.pose.matrix()[:3, 2].double() for item in objects]).mean(dim=0)
    length = float(mean.norm())
    return mean / length if length > _UP_AGREEMENT and float(mean[1]) < 0 else None


def square_around(mask: Mask, margin: float = 1.15) -> tuple[int, int, int] | None:
    """Left, top and edge of the square that holds a mask with a margin; None where the mask is empty."""
    box = box_of(mask)
    if box is None:
        return None
    left, top, right, bottom = box
    edge = max(8, round(max(bottom - top, right - left) * margin))
    return round((left + right - edge) / 2), round((top + bottom - edge) / 2), edge


def cut(picture: Picture, square: tuple[int, int, int], size_px: int) -> Picture:
    """A square of a picture at another size; the background color beyond the border."""
    left, top, edge = square
    height, width = picture.shape[:2]
    canvas = np.full((edge, edge, 3), BACKGROUND, np.uint8)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + edge, width), min(top + edge, height)
    if x0 < x1 and y0 < y1:
        canvas[y0 - top : y1 - top, x0 - left : x1 - left] = picture[y0:y1, x0:x1]
    return resized(canvas, (size_px, size_px))


def _bytes(picture: npt.NDArray[np.generic]) -> Picture:
    """OpenCV's stubs lose the type."""
    return np.ascontiguousarray(picture, dtype=np.uint8)
