"""Model of a depth camera: quantized disparity, distance-dependent noise, missing edges and highlights.

The noise grows with the square of distance, as of triangulating sensors (K. Khoshelham and S. Elberink, 2012).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.data.tabletop.draws import Draws


@dataclass(frozen=True)
class DepthSensor:
    """A triangulating depth camera.

    Attributes:
        noise_at_1m: standard deviation at 1 m, metres; it grows with the square of distance.
        disparity_step: smallest step of disparity times baseline times focal length, in 1/m.
        grazing_cos: surfaces with a smaller cosine to the viewing ray are mostly missing.
        gloss_loss: share of mirror-like pixels that are missing.
        speckle_loss: share of all pixels that are missing.
        edge_px: width of the holes along depth edges, pixels.
        unit_m: metres per stored step.
        reach_m: farthest depth that is measured.
    """

    noise_at_1m: float = 0.0025
    disparity_step: float = 0.002
    grazing_cos: float = 0.2
    gloss_loss: float = 0.35
    speckle_loss: float = 0.002
    edge_px: int = 3
    unit_m: float = 0.001
    reach_m: float = 6.0


def measure(depth: Tensor, cosine: Tensor, gloss: Tensor, sensor: DepthSensor, draws: Draws) -> Tensor:
    """Measured depth (H, W), metres, rounded to the sensor's unit; 0 where there is no measurement.

    Args:
        depth: (H, W) true depth, metres; 0 where there is no surface.
        cosine: (H, W) |cosine| between surface normal and viewing ray.
        gloss: (H, W) 0 (matt) .. 1 (mirror).
        sensor: the camera.
        draws: source of the noise.
    """
    height, width = depth.shape
    fine = _field(draws, height, width, 1)
    coarse = _field(draws, height, width, 4)
    measured = depth + sensor.noise_at_1m * depth * depth * (0.6 * fine + 0.8 * coarse)
    disparity = torch.round(1 / measured.clamp(min=0.05) / sensor.disparity_step) * sensor.disparity_step
    measured = 1 / disparity.clamp(min=1e-3)
    lost = (depth <= 0) | (depth > sensor.reach_m)
    lost |= (cosine < sensor.grazing_cos) & (coarse < 1.0)
    chance = torch.from_numpy(draws.generator.uniform(size=(height, width)).astype(np.float32)).to(depth.device)
    # Missing depth on shiny surfaces comes in patches: a coarse field decides where.
    lost |= (gloss > 0.5) & (torch.special.ndtr(coarse) < sensor.gloss_loss)
    lost |= chance < sensor.speckle_loss
    lost |= _edges(depth, sensor.edge_px) & (fine + coarse > -0.8)
    measured = torch.round(measured / sensor.unit_m) * sensor.unit_m
    return torch.where(lost, torch.zeros_like(measured), measured)


def _edges(depth: Tensor, width: int) -> Tensor:
    """Pixels near a jump of depth (H, W): occluded from the second camera or the projector."""
    near = F.max_pool2d(-depth[None, None], width, 1, width // 2)
    far = F.max_pool2d(depth[None, None], width, 1, width // 2)
    return ((far + near)[0, 0] > 0.03 * depth.clamp(min=0.2)) & (depth > 0)


def _field(draws: Draws, height: int, width: int, cell: int) -> Tensor:
    """Gaussian noise (H, W) correlated over `cell` pixels, unit deviation."""
    size = (1, 1, -(-height // cell), -(-width // cell))
    noise = torch.from_numpy(draws.generator.standard_normal(size, dtype=np.float32))
    if cell == 1:
        return noise[0, 0]
    large = F.interpolate(noise, scale_factor=cell, mode="bilinear", align_corners=False)[0, 0, :height, :width]
    return large / 0.7
