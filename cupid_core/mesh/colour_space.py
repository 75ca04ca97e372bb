"""sRGB, as photos and our vertex colours are, and linear light, as glTF wants vertex colours. Knows numbers only.

Source: IEC 61966-2-1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def srgb_to_linear(colours: Tensor) -> Tensor:
    """Colours in [0, 1], any shape; undone by `linear_to_srgb`."""
    return torch.where(colours <= 0.04045, colours / 12.92, ((colours.clamp(min=0.0) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(colours: Tensor) -> Tensor:
    """Colours in [0, 1], any shape; undone by `srgb_to_linear`."""
    bent = 1.055 * colours.clamp(min=0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(colours <= 0.0031308, colours * 12.92, bent)
