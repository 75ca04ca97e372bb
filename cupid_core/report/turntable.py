"""Small pictures of an object from all around its vertical axis."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from cupid_core.geometry.camera import Camera
from cupid_core.render.cameras import turntable as ring
from cupid_core.render.raycast import MeshCaster
from cupid_core.report.pictures import Picture, shaded
from cupid_core.types import TriangleMesh

_FIELD_OF_VIEW_RAD = math.radians(30.0)


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
    distance = 1.02 / math.sin(_FIELD_OF_VIEW_RAD / 2)
    caster = MeshCaster(middle)
    cameras = ring(frames, elevation_rad, distance, _FIELD_OF_VIEW_RAD)
    camera = Camera.from_normalized(cameras.K_normalized, size_px, size_px)
    return [shaded(caster.render(cameras.T_camera_object[i], camera)) for i in range(frames)]
