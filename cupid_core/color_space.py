"""The sRGB transfer function: photographs and vertex colors are sRGB, light adds up in linear values.

Source: IEC 61966-2-1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def srgb_to_linear(srgb: Tensor) -> Tensor:
    """Linear light of sRGB colors in [0, 1], any shape; undone by `linear_to_srgb`."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, power((srgb + 0.055) / 1.055, 2.4))


def linear_to_srgb(linear: Tensor) -> Tensor:
    """The sRGB values of linear light, any shape, clipped to [0, 1]; undone by `srgb_to_linear`."""
    linear = linear.clamp(0, 1)
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * power(linear, 1 / 2.4) - 0.055)


def power(base: Tensor, exponent: float | Tensor) -> Tensor:
    """A base >= 0 to an exponent, elementwise.

    Through the logarithm: the built-in power rounds differently at the end of a vector register, so a value would
    depend on its place in the batch.
    """
    return torch.exp(torch.log(base.clamp(min=1e-12)) * exponent)
