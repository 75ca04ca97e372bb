"""Renders views of an asset to RGBA images.

Diffuse only: light of the sky, one lamp with shadow and one without, random for each view. The alpha channel is
the share of a pixel that the object covers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cupid_core.color_space import linear_to_srgb, srgb_to_linear
from cupid_core.data.assets.ray_scene import RayScene, SurfacePlaces
from cupid_core.data.assets.surface import Bytes, Floats
from cupid_core.data.assets.view_cameras import ViewCamera

# Rays at a time; bounds the memory.
_MOST_RAYS = 2**19
# Shadow rays start this far off the surface, canonical units.
_LIFT = 1e-4


@dataclass(frozen=True, eq=False)
class ViewLight:
    """Light of one view, linear; an albedo of 1 that faces the lamp comes out near 1.

    Attributes:
        sky: from above; surfaces that face down get half of it.
        lamp: strength of the lamp with shadow.
        fill: strength of the lamp without.
        lamp_direction: (3,) unit, towards it.
        fill_direction: (3,) unit, towards it.
    """

    sky: float
    lamp: float
    fill: float
    lamp_direction: Floats
    fill_direction: Floats


def draw_light(generator: np.random.Generator) -> ViewLight:
    """Light from anywhere above, and some from the side."""
    lamp, fill = generator.normal(size=3), generator.normal(size=3)
    lamp[2], fill[2] = abs(lamp[2]) + 0.3, 0.5 * fill[2]
    sky = float(generator.uniform(0.35, 0.6))
    strong = float(generator.uniform(0.4, 0.7))
    return ViewLight(sky, strong, 1.05 - sky - strong, *(_unit(v.astype(np.float32)) for v in (lamp, fill)))


def render_view(scene: RayScene, camera: ViewCamera, light: ViewLight, size: int, samples: int) -> Bytes:
    """The object in the view of a camera, (size, size, 4) uint8, not premultiplied; transparent pixels are black.

    Args:
        scene: surface in the canonical frame.
        camera: of the view.
        light: of the view.
        size: edge of the image in pixels.
        samples: rays per pixel along each edge.
    """
    band = max(1, _MOST_RAYS // (size * samples**2))
    rows = [_render_rows(scene, camera, light, (start, min(start + band, size)), (size, samples))
            for start in range(0, size, band)]  # fmt: skip
    return np.concatenate(rows)


def _render_rows(
    scene: RayScene, camera: ViewCamera, light: ViewLight, rows: tuple[int, int], resolution: tuple[int, int]
) -> Bytes:
    size, samples = resolution
    fine = size * samples
    down, across = np.arange(rows[0] * samples, rows[1] * samples), np.arange(fine)
    v, u = np.meshgrid((down + 0.5) / fine, (across + 0.5) / fine, indexing="ij")
    plane = np.stack([(u - 0.5) / camera.focal, (v - 0.5) / camera.focal, np.ones_like(u)], axis=-1)
    T_object_camera = camera.T_camera_object.inverse().matrix().numpy()
    directions = _unit((plane.reshape(-1, 3) @ T_object_camera[:3, :3].T).astype(np.float32))
    origin = T_object_camera[:3, 3].astype(np.float32)
    places = scene.hits(origin[None], directions)
    hit = np.flatnonzero(places.face >= 0)
    linear = np.zeros((len(directions), 4), dtype=np.float32)
    linear[hit, :3] = _shade(scene, light, _chosen(places, hit), origin, directions[hit])
    linear[hit, 3] = 1
    pixels = linear.reshape(rows[1] - rows[0], samples, size, samples, 4).mean(axis=(1, 3))
    cover = pixels[..., 3:]
    light_linear = np.divide(pixels[..., :3], cover, out=np.zeros_like(pixels[..., :3]), where=cover > 0)
    color = linear_to_srgb(torch.from_numpy(light_linear).clamp(0, 1)).numpy()
    return (np.concatenate([color, cover], axis=-1) * 255 + 0.5).astype(np.uint8)


def _shade(scene: RayScene, light: ViewLight, places: SurfacePlaces, origin: Floats, directions: Floats) -> Floats:
    """Linear radiance (N, 3) of points of the surface."""
    albedo = srgb_to_linear(torch.from_numpy(scene.surface.color_at(places.face, places.barycentric))).numpy()
    # Surfaces are two-sided.
    facing = (places.normal * directions).sum(axis=1, keepdims=True) < 0
    normal = np.where(facing, places.normal, -places.normal)
    points: Floats = (origin + directions * places.distance[:, None] + normal * _LIFT).astype(np.float32)
    lamp = (normal @ light.lamp_direction).clip(0)
    lit = np.flatnonzero(lamp > 0)
    toward = np.broadcast_to(light.lamp_direction, (len(lit), 3))
    lamp[lit] *= ~scene.blocked(points[lit], np.ascontiguousarray(toward))
    fill = (normal @ light.fill_direction).clip(0)
    total = light.sky * (0.75 + 0.25 * normal[:, 2]) + light.lamp * lamp + light.fill * fill
    shaded: Floats = (albedo * total[:, None]).astype(np.float32)
    return shaded


def _chosen(places: SurfacePlaces, rows: NDArray[np.int64]) -> SurfacePlaces:
    return SurfacePlaces(places.face[rows], places.barycentric[rows], places.normal[rows], places.distance[rows])


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit
