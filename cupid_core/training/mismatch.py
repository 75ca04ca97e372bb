"""Starts a network from a checkpoint whose tensors do not all have the shapes of the network.

Fine-tuning widens layers (more input channels, more classes). Three strategies fill what the checkpoint does not
have. "skip" keeps the fresh tensor where shapes differ. "partial" copies the corner that both have and keeps the
fresh rest. "zeropad" does the same, but zeroes the weights that read a new input: the network computes at first
what the checkpoint did, whatever the new inputs are.

What is new on the output side stays fresh under "zeropad" as well. Were it zero too, a new branch and the columns
that read it would both be zero, the gradient of either would be their product, and the branch could never learn.
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
    """A state dictionary that fits the network, and how each of its tensors was obtained.

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
        strategy: what to do where shapes differ. Tensors that the checkpoint does not have stay fresh.

    Raises:
        CheckpointError: a tensor has another number of dimensions ("skip" aside), or nothing at all fits.

    Source: fine-tuning strategies of CUPID's released training (arXiv 2510.20776); there "zeropad" also zeroes new
    outputs and missing tensors.
    """
    state: dict[str, Tensor] = {}
    copied, fitted = [], []
    for name, tensor in fresh.items():
        given = checkpoint.get(name)
        if given is None:
            state[name] = tensor.clone()
        elif given.shape == tensor.shape:
            state[name] = given.detach().to(tensor).clone()
            copied.append(name)
        else:
            state[name] = _fit_tensor(name, given, tensor, strategy)
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


def _fit_tensor(name: str, given: Tensor, fresh: Tensor, strategy: MismatchStrategy) -> Tensor:
    if strategy == "skip":
        return fresh.clone()
    if given.dim() != fresh.dim():
        raise CheckpointError(
            f"'{name}' is {tuple(given.shape)} in the checkpoint and {tuple(fresh.shape)} in the network.",
            hint="Use the strategy 'skip' to start this tensor fresh.",
        )
    corner = tuple(slice(min(a, b)) for a, b in zip(given.shape, fresh.shape, strict=True))
    result = fresh.clone()
    if strategy == "zeropad":
        # Axis 0 is the output; an entry beyond the corner along any other axis reads an input that is new.
        for axis in range(1, fresh.dim()):
            result.narrow(axis, corner[axis].stop, fresh.shape[axis] - corner[axis].stop).zero_()
    result[corner] = given[corner].detach().to(fresh)
    return result
