"""Random occluders in front of the object, after the paper's appendix A.2.

A shape (ellipse, box, bar, half plane) is placed over the object and shrunk until it covers no more than the
wanted share of it. An upright half plane models the border of the camera's image. As a robot crops around the
visible part, most occluded views are cropped again around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cupid_core.data.tabletop import palette
from cupid_core.data.tabletop.draws import Draws

SHAPES = ("ellipse", "box", "bar", "half")
SHRINKS = 8


@dataclass(frozen=True)
class OccluderDraw:
    """One occluder: shape (-1: none), center (u, v), half axes, angle, largest occluded share, sRGB color."""

    shape: int
    center: tuple[float, float]
    half: tuple[float, float]
    angle: float
    share: float
    color: tuple[float, float, float]
    recrop: bool


def draw_occluder(draws: Draws, probability: float, up_to: float) -> OccluderDraw:
    """Draw an occluder, or none."""
    shape = draws.integer(0, len(SHAPES) - 1) if draws.chance(probability) else -1
    angle = draws.uniform(-math.pi, math.pi)
    if shape == 3 and draws.chance(0.5):  # the border of the camera's image, which is upright
        angle = draws.integer(0, 3) * math.pi / 2
    long = draws.uniform(0.1, 0.45)
    short = 0.05 + 0.1 * draws.uniform() if shape == 2 else draws.uniform(0.1, 0.4)
    radius = draws.uniform(0.05, 0.45)
    towards = draws.uniform(-math.pi, math.pi)
    center = (0.5 + radius * math.cos(towards), 0.5 + radius * math.sin(towards))
    share = draws.uniform(0.05, up_to) if up_to > 0.05 else up_to
    return OccluderDraw(
        shape,
        center,
        (1.5 if shape == 2 else long, short),
        angle,
        share,
        palette.any_color(draws),
        draws.chance(0.85),
    )


@dataclass(frozen=True)
class Occluders:
    """Placed occluders of B views: (B, 7) shape, center, half axes, cosine, sine; `size` (B,), 0: none."""

    numbers: Tensor
    size: Tensor

    def covers(self, u: Tensor, v: Tensor, size: Tensor | None = None) -> Tensor:
        """Whether points (B, N) of the first crop lie behind the occluder, scaled by `size` (B,)."""
        scale = (self.size if size is None else size)[:, None]
        shape, cu, cv, a, b, cos, sin = (self.numbers[:, i, None] for i in range(7))
        u, v = u - cu, v - cv
        along, across = u * cos + v * sin, v * cos - u * sin
        x, y = along.abs() / (a * scale).clamp(min=1e-6), across.abs() / (b * scale).clamp(min=1e-6)
        inside = torch.where(shape == 0, x * x + y * y < 1, (x < 1) & (y < 1))
        inside = torch.where(shape == 2, y < 1, inside)
        inside = torch.where(shape == 3, along - 0.6 * (1 - scale) > 0, inside)
        return inside & (scale > 0)

    def mask(self, first: Tensor, second: Tensor, edge: int) -> Tensor:
        """Mask (B, 1, edge, edge) of the occluders in the second crop, 0 or 1.

        Args:
            first: (B, 3, 3) normalized K of the crop they were placed in.
            second: (B, 3, 3) normalized K of the final crop.
            edge: pixels.
        """
        step = (torch.arange(edge, device=first.device) + 0.5) / edge
        zoom = first[:, 0, 0] / second[:, 0, 0]
        u = (step[None] - second[:, 0, 2, None]) * zoom[:, None] + first[:, 0, 2, None]
        v = (step[None] - second[:, 1, 2, None]) * zoom[:, None] + first[:, 1, 2, None]
        every_u = u[:, None, :].expand(-1, edge, -1).flatten(1)
        every_v = v[:, :, None].expand(-1, -1, edge).flatten(1)
        return self.covers(every_u, every_v).to(first.dtype).view(-1, 1, edge, edge)


def place_occluders(drawn: Sequence[OccluderDraw], uv: Tensor, valid: Tensor) -> Occluders:
    """Shrink occluders until each covers no more than its share of the object.

    Args:
        drawn: B occluders.
        uv: (B, N, 2) projected surface points.
        valid: (B, N) which of them are.
    """
    numbers = torch.tensor(
        [[d.shape, *d.center, *d.half, math.cos(d.angle), math.sin(d.angle), d.share] for d in drawn],
        dtype=torch.float32,
        device=uv.device,
    )
    placed = Occluders(numbers[:, :7], torch.zeros_like(numbers[:, 0]))
    count = valid.sum(dim=1).clamp(min=1)
    waiting = numbers[:, 0] >= 0
    size = torch.zeros_like(numbers[:, 0])
    for step in range(SHRINKS):
        trial = torch.full_like(size, 0.8**step)
        hidden = (placed.covers(uv[..., 0], uv[..., 1], trial) & valid).sum(dim=1) / count
        fits = waiting & (hidden <= numbers[:, 7])
        size = torch.where(fits, trial, size)
        waiting = waiting & ~fits
    return Occluders(placed.numbers, size)
