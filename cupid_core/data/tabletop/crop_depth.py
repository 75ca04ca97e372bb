"""Measured depth of the crops of single objects, for training: noise relative to the object, holes, wrong borders.

The sensor behind a crop is unknown, so every view gets a random sensor: fine or coarse noise, quantization, flying
pixels at edges, missing edges, grazing surfaces and patches, and depth of other surfaces where the given mask is
wrong. `depth_sensor` is the model of one known camera, for whole scenes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class CropGeometry:
    """Geometry that a depth sensor measures in B crops, (B, S, S) each.

    Attributes:
        depth: z of the visible surface, canonical units; 0 off the object.
        silhouette: bool, the object, occluded parts included.
        occluder: bool, where something is in front of it.
        given: bool, the mask that the network gets.
        grazing: bool, surfaces at more than about 75 degrees to the viewing ray.
        distance: (B,) z of the object's center.
    """

    depth: Tensor
    silhouette: Tensor
    occluder: Tensor
    given: Tensor
    grazing: Tensor
    distance: Tensor


def measure_crops(crops: CropGeometry, generator: torch.Generator) -> Tensor:
    """Measured depth (B, S, S) inside the given masks, canonical units; 0 where there is no measurement.

    Args:
        crops: geometry, on the CPU.
        generator: of all random numbers.
    """
    draw = _Draws(len(crops.depth), crops.depth.shape[-1], generator)
    distance = crops.distance.view(-1, 1, 1)
    behind = distance + 0.15 + draw.log_uniform(0.1, 3.0)
    before = distance - 0.3 - draw.log_uniform(0.05, 0.6)
    measured = torch.where(crops.silhouette, crops.depth, behind)
    measured = torch.where(crops.occluder, before, measured)
    outside = ~(crops.silhouette & ~crops.occluder)
    flying = draw.chance(0.6) & _grown(outside, 1) & (draw.pixels() < 0.5) & crops.silhouette
    measured = torch.where(flying, measured + draw.pixels() * (behind - distance), measured)
    sigma = draw.log_uniform(0.001, 0.03)
    measured = measured + sigma * (0.6 * draw.field(1) + 0.7 * draw.field(4) + 0.5 * draw.field(16))
    step = draw.log_uniform(0.0005, 0.04)
    measured = torch.where(draw.chance(0.7), torch.round(measured / step) * step, measured)
    lost = ~crops.given | (measured <= 0)
    lost |= draw.chance(0.6) & crops.grazing & (draw.field(4) < 0.8)
    width = (4 * draw.uniform()).long()  # of the missing band along edges, pixels
    for band in (1, 2, 3):
        lost |= (width == band) & _grown(outside, band) & (draw.pixels() < 0.8)
    patches = torch.where(draw.chance(0.35), draw.log_uniform(0.02, 0.6), torch.zeros(1))
    lost |= torch.special.ndtr(draw.field(8)) < patches
    lost |= draw.pixels() < draw.log_uniform(0.001, 0.05)
    return torch.where(lost, torch.zeros_like(measured), measured)


class _Draws:
    """Random numbers of B views of S x S pixels; those of a view are (B, 1, 1)."""

    def __init__(self, count: int, size: int, generator: torch.Generator) -> None:
        self._count, self._size, self._generator = count, size, generator

    def uniform(self) -> Tensor:
        return torch.rand(self._count, 1, 1, generator=self._generator)

    def log_uniform(self, low: float, high: float) -> Tensor:
        return torch.exp(self.uniform() * math.log(high / low) + math.log(low))

    def chance(self, share: float) -> Tensor:
        return self.uniform() < share

    def pixels(self) -> Tensor:
        return torch.rand(self._count, self._size, self._size, generator=self._generator)

    def field(self, cell: int) -> Tensor:
        """Gaussian noise (B, S, S) of about unit deviation, correlated over `cell` pixels."""
        if cell == 1:
            return torch.randn(self._count, self._size, self._size, generator=self._generator)
        coarse = -(-self._size // cell) + 1
        noise = torch.randn(self._count, 1, coarse, coarse, generator=self._generator)
        large = F.interpolate(noise, size=coarse * cell, mode="bilinear", align_corners=False)
        shift = cell // 2  # the first half cell only repeats its border
        return large[:, 0, shift : shift + self._size, shift : shift + self._size] / 0.7


def _grown(mask: Tensor, width: int) -> Tensor:
    """(B, S, S) bool, grown by `width` pixels."""
    return F.max_pool2d(mask[:, None].float(), 2 * width + 1, 1, width)[:, 0] > 0
