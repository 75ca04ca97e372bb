"""Writes trained networks in the published layout and reads them back for the stages that build on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from cupid_core.errors import CheckpointError, TrainingError
from cupid_core.files import atomic_write, write_text
from cupid_core.models.locate import sha256
from cupid_core.models.weights import NetworkFiles, load_network
from cupid_core.training.stage import ExportedNetwork

NetworkT = TypeVar("NetworkT", bound=nn.Module)

EXPORT = "export"


def write_networks(folder: Path, networks: Sequence[ExportedNetwork]) -> list[Path]:
    """Write `ckpts/KEY.json` and `ckpts/KEY.safetensors` (float16) of each network.

    Args:
        folder: of the checkpoint.
        networks: of a stage.

    Returns:
        The safetensors files.

    Raises:
        TrainingError: a weight does not fit into float16.
        OutputError: a file cannot be written.
    """
    written = []
    for exported in networks:
        path = folder / "ckpts" / f"{exported.key}.safetensors"
        state = {name: value.detach().cpu() for name, value in exported.network.state_dict().items()}
        half = {name: _half(value, name, exported.key).contiguous() for name, value in state.items()}
        description = {"name": exported.class_name, "args": dict(exported.arguments)}
        # The json first: a safetensors file that is there has its description beside it.
        write_text(path.with_suffix(".json"), json.dumps(description, indent=1) + "\n")
        with atomic_write(path, also=(SafetensorError,)) as temporary:
            save_file(half, temporary)
        written.append(path)
    return written


def read_network(
    folder: Path, key: str, kind: type[NetworkT] | tuple[type[NetworkT], ...], device: torch.device
) -> NetworkT:
    """A network that an earlier stage exported: frozen, float32, in evaluation mode.

    Args:
        folder: as given to `write_networks`.
        key: its name.
        kind: the class, or the classes, that it may have.
        device: where it goes.

    Raises:
        TrainingError: it is not there, or of another class.
    """
    return read_export(folder, key, kind, device)[0]


def read_export(
    folder: Path, key: str, kind: type[NetworkT] | tuple[type[NetworkT], ...], device: torch.device
) -> tuple[NetworkT, ExportedNetwork]:
    """`read_network`, and the network as it is written again, under the same key.

    Raises:
        TrainingError: it is not there, or of another class.
    """
    description = folder / "ckpts" / f"{key}.json"
    hint = "Train the earlier stages first, with the same --out."
    try:
        named = json.loads(description.read_text(encoding="utf-8"))
        files = NetworkFiles(key, named["name"], named["args"], description.with_suffix(".safetensors"))
        network = load_network(files, device=device)
    except (OSError, ValueError, KeyError, TypeError, CheckpointError) as error:
        raise TrainingError(f"'{key}' cannot be read from {folder}: {error}", hint=hint) from error
    if not isinstance(network, kind):
        raise TrainingError(f"'{key}' in {folder} is a {type(network).__name__}.", hint=hint)
    return network, ExportedNetwork(key, named["name"], named["args"], network)


def network_hash(folder: Path, key: str) -> str:
    """Content hash of an exported network; networks trained on its output fit no other weights."""
    return sha256(folder / "ckpts" / f"{key}.safetensors")


def _half(value: torch.Tensor, name: str, key: str) -> torch.Tensor:
    if not value.is_floating_point():
        return value
    half = value.to(torch.float16)
    if not bool(half.isfinite().all()):
        raise TrainingError(
            f"'{name}' of '{key}' has values up to {float(value.abs().max()):.3g}, float16 ends at 65504.",
            hint="Check the loss curve: a weight of this size means that the run diverged.",
        )
    return half
