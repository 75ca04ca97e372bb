"""Which numbers of a network are in which precision.

The published files keep the torso (the deep stack of blocks) in float16 and all else in float32: input and output
layers, time embedding, and inside the torso the parameters of every norm.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from cupid_core.models.layers.norms import MultiHeadRMSNorm

_NORMS = (nn.LayerNorm, nn.GroupNorm, MultiHeadRMSNorm)


def cast_torso(torso: Iterable[nn.Module], dtype: torch.dtype) -> None:
    """Put the parameters of these modules in `dtype`, in place; those of norms stay as they are.

    Args:
        torso: roots of the module trees, e.g. the `blocks` of a network.
        dtype: float16, bfloat16 or float32.
    """
    for root in torso:
        for module in root.modules():
            if isinstance(module, _NORMS):
                continue
            for name, parameter in module.named_parameters(recurse=False):
                # `_parameters` is written through setattr so that meta-device modules work as well.
                setattr(module, name, nn.Parameter(parameter.detach().to(dtype), parameter.requires_grad))
