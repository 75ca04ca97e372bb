"""Starts a network from a checkpoint that does not quite fit; knows state dictionaries, not networks or files.

Fine-tuning widens layers (more input channels, more classes). Three ways to fill what the checkpoint does not
have: "skip" keeps the fresh tensor where shapes differ, "partial" copies the corner both have and keeps the fresh
rest, "zeropad" copies the corner and puts zero elsewhere, so that new inputs have no effect at first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cupid_core.errors import CheckpointError

MismatchStrategy = Literal["skip", "partial", "zeropad"]


@dataclass(frozen=True, eq=False)
class FittedState:
    """A state dictionary that fits, and what had to be done for it.

    Attributes:
        state: one tensor per tensor of the network, in its shapes and types; load it strictly.
        copied: names taken over whole.
        fitted: names whose shapes differ.
        missing: names the checkpoint does not have.
        unexpected: names only the checkpoint has; dropped.
    """

    state: dict[str, Tensor]
    copied: tuple[str, ...]
    fitted: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def fit_state(
    checkpoint: Mapping[str, Tensor], fresh: Mapping[str, Tensor], strategy: MismatchStrategy
) -> FittedState:
    """Fill the tensors of a freshly initialized network from a checkpoint.

    Args:
        checkpoint: tensors to start from, any floating type.
        fresh: state dictionary of the network; not modified.
        strategy: what to do where shapes differ; a missing tensor stays fresh, with "zeropad" it is zero.

    Raises:
        CheckpointError: a tensor has another number of dimensions ("skip" aside), or nothing at all fits.

    Source: fine-tuning strategies of CUPID's released training (arXiv 2510.20776).
    """
    state: dict[str, Tensor] = {}
    copied, fitted = [], []
    for name, tensor in fresh.items():
        given = checkpoint.get(name)
        if given is None:
            state[name] = torch.zeros_like(tensor) if strategy == "zeropad" else tensor.clone()
        elif given.shape == tensor.shape:
            state[name] = given.detach().to(tensor).clone()
            copied.append(name)
        else:
            state[name] = _fitted(name, given, tensor, strategy)
            fitted.append(name)
    if not copied and not fitted:
        raise CheckpointError(
            "No tensor of the checkpoint has the name of one in the network.",
            hint="Give the checkpoint of the same kind of network.",
        )
    return FittedState(
        state=state,
        copied=tuple(copied),
        fitted=tuple(fitted),
        missing=tuple(name for name in fresh if name not in checkpoint),
        unexpected=tuple(name for name in checkpoint if name not in fresh),
    )


def _fitted(name: str, given: Tensor, fresh: Tensor, strategy: MismatchStrategy) -> Tensor:
    if strategy == "skip":
        return fresh.clone()
    if given.dim() != fresh.dim():
        raise CheckpointError(
            f"'{name}' is {tuple(given.shape)} in the checkpoint and {tuple(fresh.shape)} in the network.",
            hint="Use the strategy 'skip' to start this tensor fresh.",
        )
    corner = tuple(slice(min(a, b)) for a, b in zip(given.shape, fresh.shape, strict=True))
    result = torch.zeros_like(fresh) if strategy == "zeropad" else fresh.clone()
    result[corner] = given[corner].detach().to(fresh)
    return result
