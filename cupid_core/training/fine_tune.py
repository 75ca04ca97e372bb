"""Starts the networks of a stage from a checkpoint, also where tensors differ in shape.

Fine-tuning widens layers (more input channels, more classes). Three strategies fill what the checkpoint does not
have. "skip" keeps the fresh tensor where shapes differ. "partial" copies the corner that both have and keeps the
fresh rest. "zeropad" does the same, but zeroes the weights that read a new input: the network computes at first
what the checkpoint did, whatever the new inputs are.

What is new on the output side stays fresh under "zeropad" as well. Were it zero too, a new branch and the columns
that read it would both be zero. Each one's gradient is proportional to the other, so neither could ever learn.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from cupid_core.errors import CheckpointError, TrainingError
from cupid_core.models.weights import PIPELINE, read_checkpoint, read_tensors
from cupid_core.training.stage import Stage

_log = logging.getLogger(__name__)
# Stage -> network of the stage -> its name in checkpoints.
PUBLISHED_KEYS: Mapping[str, Mapping[str, str]] = {
    "occupancy-vae": {"encoder": "sparse_structure_encoder", "decoder": "sparse_structure_decoder"},
    "uv-vae": {"encoder": "sparse_structure_uv_encoder", "decoder": "sparse_structure_uv_decoder"},
    "image-encoder": {"image_encoder": "image_encoder"},
    "structure": {"structure_flow": "sparse_structure_flow_model", "image_encoder": "image_encoder"},
    "appearance-vae": {"encoder": "appearance_encoder", "decoder": "slat_decoder_mesh"},
    "appearance": {"flow": "slat_flow_model", "slat_encoder": "slat_encoder"},
}
MismatchStrategy = Literal["skip", "partial", "zeropad"]


def start_from_checkpoint(stage: Stage[Any], folder: Path, strategy: MismatchStrategy) -> dict[str, FittedState]:
    """Load the networks of a stage from a checkpoint, as far as it has them, in place.

    Args:
        stage: freshly built.
        folder: in the published layout, or with only `ckpts/NAME.safetensors` of the networks.
        strategy: what to do where shapes differ; see the top of this module.

    Returns:
        How each network was loaded, by the names of the stage. A network that the checkpoint lacks stays as it is,
        with a warning.

    Raises:
        TrainingError: the checkpoint has none of the networks.
        CheckpointError: a file is damaged, or nothing in it fits.
    """
    loaded: dict[str, FittedState] = {}
    for name, network in stage.networks.items():
        path = _weights(folder, PUBLISHED_KEYS.get(stage.name, {}).get(name, name))
        if path is not None:
            fitted = fit_state(read_tensors(path), network.state_dict(), strategy)
            network.load_state_dict(fitted.state, strict=True)
            loaded[name] = fitted
            fresh = len(fitted.missing) + len(fitted.fitted)
            if fresh:
                _log.warning("%s: %d tensors of '%s' are missing or of another shape.", path, fresh, name)
        else:
            _log.warning("%s has no '%s': it starts fresh.", folder, name)
    if not loaded:
        raise TrainingError(
            f"{folder} has no network for the stage '{stage.name}'.",
            hint=f"It needs one of {', '.join(PUBLISHED_KEYS.get(stage.name, {}).values())}.",
        )
    return loaded


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


def _weights(folder: Path, key: str) -> Path | None:
    if (folder / PIPELINE).is_file():
        checkpoint = read_checkpoint(folder)
        if key in checkpoint.arguments.models:
            return checkpoint.files(key).weights
    path = folder / "ckpts" / f"{key}.safetensors"
    return path if path.is_file() else None
