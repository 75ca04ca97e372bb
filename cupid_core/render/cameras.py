"""Cameras around an object, and projection matrices for rasterizers.

The object frame is z up; camera frames are OpenCV optical (x right, y down, z forward). Intrinsics are normalized:
they map camera points to uv in [0, 1] over the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cupid_core.errors import InvalidCameraError
from cupid_core.geometry.se3 import SE3

# Halvings of [0, 1] that a radical inverse resolves; enough for any count of cameras.
_RADICAL_BITS = 32


@dataclass(frozen=True, eq=False)
class CameraRing:
    """Cameras around the object, all with the same lens.

    Attributes:
        T_camera_object: N poses.
        K_normalized: (3, 3) normalized intrinsics, the same for all.
    """

    T_camera_object: SE3
    K_normalized: Tensor


def hammersley_ring(count: int, radius: float = 2.0, fov_rad: float = math.radians(40.0)) -> CameraRing:
    """Cameras spread evenly over the sphere, looking at the origin.

    The defaults are those of TRELLIS' texture baking.

    Args:
        count: number of cameras, at least 1.
        radius: distance of the cameras from the origin.
        fov_rad: full angle of view, horizontal and vertical, in radians.

    Raises:
        InvalidCameraError: no camera, or an impossible radius or angle.
    """
    yaw, pitch = hammersley_angles(count)
    return _ring(yaw, pitch, radius, fov_rad)


def turntable(
    count: int, pitch_rad: float = 0.35, radius: float = 2.0, fov_rad: float = math.radians(40.0)
) -> CameraRing:
    """Cameras on a circle around the vertical axis at one elevation, looking at the origin.

    Args:
        count: number of cameras, at least 1.
        pitch_rad: elevation above the horizontal plane in radians.
        radius: distance of the cameras from the origin.
        fov_rad: full angle of view, horizontal and vertical, in radians.

    Raises:
        InvalidCameraError: no camera, or an impossible radius or angle.
    """
    _check(count, radius, fov_rad)
    yaw = torch.arange(count, dtype=torch.float64) * (2 * math.pi / count)
    return _ring(yaw, torch.full_like(yaw, pitch_rad), radius, fov_rad)


def hammersley_angles(count: int) -> tuple[Tensor, Tensor]:
    """Yaw (N,) and pitch (N,) in radians, float64, of the Hammersley points on the sphere.

    Yaw 0 is +y and turns towards +x; pitch is positive above the horizontal plane. The first point is the south
    pole.

    Source: Wong et al., "Sampling with Hammersley and Halton points" (1997).
    """
    index = torch.arange(count)
    height = index.double() / count
    turn = torch.zeros_like(height)
    for bit in range(_RADICAL_BITS):
        turn += (index >> bit & 1).double() * 2.0 ** -(bit + 1)
    return turn * 2 * math.pi, torch.arccos(1 - 2 * height) - math.pi / 2


def look_at(eye: Tensor, target: Tensor, up: Tensor) -> SE3:
    """Poses of cameras at `eye` that look at `target` with `up` upwards in the image.

    Exactly above or below the target, the image has no upward direction; there +y of the world, or +x if `up` is
    y, takes the place of `up`.

    Args:
        eye: (*B, 3) camera centers, world frame.
        target: (*B, 3) or (3,) points that project onto the optical axis.
        up: (3,) direction in the world frame.

    Returns:
        T_camera_world, batch shape *B.

    Raises:
        InvalidCameraError: a camera is at its target.
    """
    toward = target - eye
    if bool((torch.linalg.vector_norm(toward, dim=-1) == 0).any()):
        raise InvalidCameraError("A camera is at the point it looks at.", hint="Move it away.")
    forward = torch.nn.functional.normalize(toward, dim=-1)
    right = torch.linalg.cross(forward, up.expand_as(forward), dim=-1)
    spare = torch.zeros_like(up)
    spare[0 if bool(up[1].abs() >= up.abs().max()) else 1] = 1.0
    sideways = torch.linalg.cross(forward, spare.expand_as(forward), dim=-1)
    # Exact zeros only: next to a pole the direction is small but given.
    at_pole = (right == 0).all(dim=-1, keepdim=True)
    # eps must not swallow the tiny but valid vectors there.
    right = torch.nn.functional.normalize(torch.where(at_pole, sideways, right), dim=-1, eps=1e-30)
    rotation = torch.stack([right, torch.linalg.cross(forward, right, dim=-1), forward], dim=-2)
    return SE3.from_rotation_translation(rotation, -(rotation @ eye[..., None]).squeeze(-1))


def intrinsics_from_fov(fov_rad: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normalized intrinsics (3, 3) of a square image with its principal point in the middle.

    Args:
        fov_rad: full angle of view in radians, between 0 and pi.
        dtype: type of the result.
    """
    focal = 0.5 / math.tan(fov_rad / 2)
    return torch.tensor([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]], dtype=dtype)


def clip_projection(K_normalized: Tensor, near: float, far: float) -> Tensor:
    """Camera points to clip space (4, 4) for a rasterizer whose row 0 is the top of the image.

    After division by w = camera z: x and y in [-1, 1] from left to right and top to bottom, z in [0, 1] from near
    to far. Skew is left out.

    Args:
        K_normalized: (3, 3).
        near: camera z of the near plane, positive.
        far: camera z of the far plane, beyond `near`.

    Raises:
        InvalidCameraError: the planes are not in this order.
    """
    _check_planes(near, far)
    result = _clip_rows(K_normalized)
    result[2, 2], result[2, 3] = far / (far - near), near * far / (near - far)
    result[3, 2] = 1.0
    return result


def opengl_projection(K_normalized: Tensor, near: float, far: float) -> Tensor:
    """OpenGL projection matrix (4, 4): view space looks along -z with y up; all clip axes in [-1, 1], y up.

    Skew is left out.

    Args:
        K_normalized: (3, 3) of the OpenCV camera.
        near: distance of the near plane, positive.
        far: distance of the far plane, beyond `near`.

    Raises:
        InvalidCameraError: the planes are not in this order.
    """
    _check_planes(near, far)
    flip_y = K_normalized.new_tensor([1.0, -1.0, 1.0, 1.0])
    result = flip_y[:, None] * _clip_rows(K_normalized) * _opengl_axes(K_normalized)
    result[2, 2], result[2, 3] = (near + far) / (near - far), 2 * near * far / (near - far)
    result[3, 2] = -1.0
    return result


def opengl_view(T_camera_object: SE3) -> Tensor:
    """OpenGL view matrices (*B, 4, 4) of OpenCV poses: the same camera with y up, looking along -z."""
    matrix = T_camera_object.matrix()
    return _opengl_axes(matrix)[:, None] * matrix


def _ring(yaw: Tensor, pitch: Tensor, radius: float, fov_rad: float) -> CameraRing:
    _check(len(yaw), radius, fov_rad)
    # Single precision before the sines, as the published cameras: it decides the roll at the south pole.
    yaw, pitch = yaw.float(), pitch.float()
    direction = torch.stack([yaw.sin() * pitch.cos(), yaw.cos() * pitch.cos(), pitch.sin()], dim=-1)
    origin, up = torch.zeros(3), torch.tensor([0.0, 0.0, 1.0])
    return CameraRing(look_at(direction * radius, origin, up), intrinsics_from_fov(fov_rad))


def _clip_rows(K_normalized: Tensor) -> Tensor:
    """The x and y rows of a projection, y downwards; (4, 4) with the other rows zero."""
    result = K_normalized.new_zeros(4, 4)
    result[0, 0], result[1, 1] = 2 * K_normalized[0, 0], 2 * K_normalized[1, 1]
    result[0, 2], result[1, 2] = 2 * K_normalized[0, 2] - 1, 2 * K_normalized[1, 2] - 1
    return result


def _opengl_axes(like: Tensor) -> Tensor:
    """Signs (4,) that turn OpenCV camera axes into OpenGL's and back."""
    return like.new_tensor([1.0, -1.0, -1.0, 1.0])


def _check(count: int, radius: float, fov_rad: float) -> None:
    if count < 1 or not radius > 0 or not 0 < fov_rad < math.pi:
        raise InvalidCameraError(
            f"{count} cameras at radius {radius:g} with {fov_rad:g} rad of view cannot be.",
            hint="Give at least one camera, a positive radius and an angle between 0 and pi.",
        )


def _check_planes(near: float, far: float) -> None:
    if not 0 < near < far:
        raise InvalidCameraError(
            f"Near plane {near:g} and far plane {far:g} are not in order.", hint="Give 0 < near < far."
        )
