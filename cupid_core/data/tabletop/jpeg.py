"""JPEG compression as tensor arithmetic: color transform, halved chroma, 8x8 cosine transform, quantization.

The loss is that of a JPEG file (ITU-T T.81 with its example tables, quality scaled as by the IJG). Batched, with
one quality per sample, on any device.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Quantization steps of annex K of ITU-T T.81, luminance and chrominance, row by row.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), (99,) * 8, (99,) * 8, (99,) * 8, (99,) * 8,
)  # fmt: skip


def jpeg(image: Tensor, quality: Tensor) -> Tensor:
    """Compress and decompress.

    Args:
        image: (B, 3, H, W) sRGB in [0, 1]; edges multiples of 16.
        quality: (B,) 1..100; 0 leaves an image unchanged.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    r, g, b = image[:, 0] * 255, image[:, 1] * 255, image[:, 2] * 255
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    chroma = torch.stack([(b - luma) * 0.564, (r - luma) * 0.713], dim=1)
    half = F.avg_pool2d(chroma, 2)
    scale = torch.where(quality < 50, 5000 / quality.clamp(min=1), 200 - 2 * quality) / 100
    luma = _blocks(luma[:, None] - 128, image.new_tensor(LUMINANCE), scale)[:, 0] + 128
    half = _blocks(half, image.new_tensor(CHROMINANCE), scale)
    chroma = F.interpolate(half, scale_factor=2, mode="bilinear", align_corners=False)
    blue, red = chroma[:, 0] / 0.564 + luma, chroma[:, 1] / 0.713 + luma
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    result = (torch.stack([red, green, blue], dim=1) / 255).clamp(0, 1)
    return torch.where(quality[:, None, None, None] > 0, result, image)


def _blocks(plane: Tensor, table: Tensor, scale: Tensor) -> Tensor:
    """Quantize (B, C, H, W) in 8x8 cosine blocks."""
    batch, channels, height, width = plane.shape
    index = torch.arange(8, dtype=plane.dtype, device=plane.device)
    basis = torch.cos((2 * index[None] + 1) * index[:, None] * math.pi / 16) / 2
    basis = basis * torch.where(index == 0, 1 / math.sqrt(2), 1.0)[:, None]
    blocks = plane.view(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    waves = basis @ blocks @ basis.T
    steps = (table * scale[:, None, None] + 0.5).floor().clamp(1, 255)[:, None, None, None]
    blocks = basis.T @ (torch.round(waves / steps) * steps) @ basis
    return blocks.transpose(3, 4).reshape(batch, channels, height, width)
