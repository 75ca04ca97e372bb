"""Cameras of the views of an asset: spread over the sphere, with lenses of all lengths.

Sources: rendering of conditioning views in TRELLIS (Xiang et al. 2024); focal lengths of 24 to 200 mm as in CUPID
(arXiv 2510.20776).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cupid_core.config.assets import AssetPreparationConfig
from cupid_core.geometry.se3 import SE3
from cupid_core.render.cameras import hammersley_angles, look_at

_SENSOR_MM = 36.0
# The whole canonical cube is in every view.
_CUBE_RADIUS = math.sqrt(3) / 2


@dataclass(frozen=True, eq=False)
class ViewCamera:
    """A camera aimed at the origin.

    Attributes:
        name: stem of the image file.
        T_camera_object: OpenCV pose, float64.
        angle_rad: full angle of view, horizontal and vertical.
    """

    name: str
    T_camera_object: SE3
    angle_rad: float

    @property
    def focal(self) -> float:
        """Normalized focal length."""
        return 0.5 / math.tan(self.angle_rad / 2)

    def frame(self) -> dict[str, Any]:
        """Entry of transforms.json: Blender's camera to world (x right, y up, looking along -z)."""
        matrix = self.T_camera_object.inverse().matrix()
        matrix[:3, 1:3] *= -1
        return {
            "file_path": f"{self.name}.png",
            "camera_angle_x": self.angle_rad,
            "transform_matrix": matrix.tolist(),
        }


def draw_cameras(config: AssetPreparationConfig, generator: np.random.Generator) -> tuple[ViewCamera, ...]:
    """Random cameras, as many as the settings say.

    Directions are randomly rotated and shifted Hammersley points; focal lengths are uniform on a logarithmic
    scale; the distance is such that the cube's bounding sphere fills the image.
    """
    turn, shift = generator.uniform(size=2)
    yaw, pitch = hammersley_angles(config.views)
    yaw = yaw + 2 * math.pi * turn
    # Shifted along the axis of the sphere, where its area is even.
    height = ((torch.sin(pitch) + 1) / 2 + shift / config.views).clamp(0, 1)
    pitch = torch.arcsin(2 * height - 1)
    direction = torch.stack([yaw.sin() * pitch.cos(), yaw.cos() * pitch.cos(), pitch.sin()], dim=-1)
    low, high = math.log(config.focal_low_mm), math.log(config.focal_high_mm)
    lenses = np.exp(generator.uniform(low, high, size=config.views))
    cameras = []
    for number, lens in enumerate(lenses):
        angle = 2 * math.atan(_SENSOR_MM / 2 / lens)
        eye = direction[number] * (_CUBE_RADIUS / math.sin(angle / 2))
        pose = look_at(eye, torch.zeros(3, dtype=torch.float64), torch.tensor([0, 0, 1], dtype=torch.float64))
        cameras.append(ViewCamera(f"{number:03d}", pose, angle))
    return tuple(cameras)
