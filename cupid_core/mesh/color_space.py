"""sRGB, as photos and our vertex colors are, and linear light, as glTF wants vertex colors. Knows numbers only.

Source: IEC 61966-2-1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def srgb_to_linear(colors: Tensor) -> Tensor:
    """Colors in [0, 1], any shape; undone by `linear_to_srgb`."""
    return torch.where(colors <= 0.04045, colors / 12.92, ((colors.clamp(min=0.0) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(colors: Tensor) -> Tensor:
    """Colors in [0, 1], any shape; undone by `srgb_to_linear`."""
    bent = 1.055 * colors.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(colors <= 0.0031308, colors * 12.92, bent)
