"""Starts the networks of a stage from a checkpoint, where shapes may differ. Knows names and files, not losses."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cupid_core.errors import TrainingError
from cupid_core.models.weights import PIPELINE, read_checkpoint, read_tensors
from cupid_core.training.mismatch import FittedState, MismatchStrategy, fit_state
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


def start_from_checkpoint(stage: Stage[Any], folder: Path, strategy: MismatchStrategy) -> dict[str, FittedState]:
    """Fill the networks of a stage with what a checkpoint has for them, in place.

    Args:
        stage: freshly built.
        folder: in the published layout, or with only `ckpts/NAME.safetensors` of the networks.
        strategy: what to do where shapes differ (`training.mismatch`).

    Returns:
        What was done, by the names of the stage's networks; one that the checkpoint lacks stays as it is, and a
        warning says so.

    Raises:
        TrainingError: the checkpoint has none of the networks.
        CheckpointError: a file is damaged, or nothing in it fits.
    """
    done: dict[str, FittedState] = {}
    for name, network in stage.networks.items():
        path = _weights(folder, PUBLISHED_KEYS.get(stage.name, {}).get(name, name))
        if path is not None:
            fitted = fit_state(read_tensors(path), network.state_dict(), strategy)
            network.load_state_dict(fitted.state, strict=True)
            done[name] = fitted
            fresh = len(fitted.missing) + len(fitted.fitted)
            if fresh:
                _log.warning("%s: %d tensors of '%s' are missing or of another shape.", path, fresh, name)
        else:
            _log.warning("%s has no '%s': it starts fresh.", folder, name)
    if not done:
        raise TrainingError(
            f"{folder} has no network for the stage '{stage.name}'.",
            hint=f"It needs one of {', '.join(PUBLISHED_KEYS.get(stage.name, {}).values())}.",
        )
    return done


def _weights(folder: Path, key: str) -> Path | None:
    if (folder / PIPELINE).is_file():
        checkpoint = read_checkpoint(folder)
        if key in checkpoint.arguments.models:
            return checkpoint.files(key).weights
    path = folder / "ckpts" / f"{key}.safetensors"
    return path if path.is_file() else None
