"""Reads checkpoints and builds their networks.

The published layout is the only layout: a folder with `pipeline.json`, and for every network named there a
`<path>.json` (class name and constructor arguments) beside a `<path>.safetensors`. Loading is strict: what
does not fit exactly is one `CheckpointError` that lists it all, never a half-loaded network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # the type only: nothing here unpickles
from typing import Any, Literal

import safetensors
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors.torch import load_file
from torch import Tensor, nn

from cupid_core.errors import CheckpointError
from cupid_core.models.locate import LAYOUT, find_beside
from cupid_core.models.registry import network_class

PIPELINE = "pipeline.json"
SLAT_ENCODER = "slat_encoder"
# The encoder that stage 2 is conditioned through is not part of the published pipeline: it is TRELLIS's own.
PUBLISHED_SLAT_ENCODER = "microsoft/TRELLIS-image-large/ckpts/slat_enc_swin8_B_64l8_fp16"


class _Published(BaseModel):
    """Part of a json file: values are checked, keys this package has no use for are let through."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SamplerParameters(_Published):
    """Parameters that a published sampler was tuned with; overrides the settings' defaults where present."""

    steps: int = Field(25, ge=1)
    cfg_strength: float = Field(7.5, ge=0.0)
    cfg_interval: tuple[float, float] = (0.0, 1.0)
    rescale_t: float = Field(1.0, gt=0.0)


class SamplerEntry(_Published):
    """A sampler of pipeline.json: class name, constructor arguments, call parameters."""

    name: str
    args: dict[str, Any] = {}
    params: SamplerParameters = SamplerParameters()


class Normalization(_Published):
    """Channel mean and standard deviation of the structured latent (stage 2 samples in normalized units)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class CalibrationEntry(_Published):
    """How certain results of a checkpoint are, measured on objects with truth (`scene.certainty.Calibration`)."""

    objects: int = Field(ge=1)
    features: tuple[str, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]
    deviations: dict[str, tuple[float, ...]]
    lost_deviations: dict[str, tuple[float, ...]]
    lost: tuple[float, ...]
    lost_from: float
    good: tuple[float, ...]
    good_from: float
    failed_below: float

    @model_validator(mode="after")
    def _lengths_agree(self) -> CalibrationEntry:
        count = len(self.features)
        rows = (self.good, self.lost, *self.deviations.values(), *self.lost_deviations.values())
        if len(self.means) != count or len(self.stds) != count or any(len(row) != count + 1 for row in rows):
            raise ValueError(f"{count} features need as many means and deviations, and one weight more")
        return self


class PipelineArguments(_Published):
    """The entry "args" of pipeline.json; published checkpoints have no `color` and no `calibration`."""

    models: dict[str, str]
    sparse_structure_sampler: SamplerEntry
    slat_sampler: SamplerEntry
    slat_normalization: Normalization
    image_cond_model: str = ""
    color: Literal["photo", "generated"] = "generated"
    calibration: CalibrationEntry | None = None


class _PipelineFile(_Published):
    args: PipelineArguments


class _NetworkFile(_Published):
    name: str
    args: dict[str, Any]


@dataclass(frozen=True)
class NetworkFiles:
    """One network of a checkpoint, still on disk.

    Attributes:
        key: its name in pipeline.json, e.g. "slat_flow_model".
        class_name: the published class name.
        arguments: constructor arguments.
        weights: the safetensors file.
    """

    key: str
    class_name: str
    arguments: Mapping[str, Any]
    weights: Path


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder whose json files have been read; no weights are in memory yet.

    Attributes:
        folder: where pipeline.json lies.
        arguments: samplers, latent normalization, image encoder name.
    """

    folder: Path
    arguments: PipelineArguments

    @property
    def networks(self) -> tuple[str, ...]:
        """Keys of the networks, stage 2's encoder included even where pipeline.json leaves it out."""
        keys = tuple(self.arguments.models)
        wants_encoder = "slat_flow_model" in keys and SLAT_ENCODER not in keys
        return (*keys, SLAT_ENCODER) if wants_encoder else keys

    def files(self, key: str, *, download: bool = False) -> NetworkFiles:
        """Find the files of one network and read its json.

        Args:
            key: one of `networks`.
            download: fetch files that lie in another hub repository and are not on this machine.

        Raises:
            CheckpointError: unknown key, missing file, or a json that does not describe a network.
        """
        path = self.arguments.models.get(key, PUBLISHED_SLAT_ENCODER if key == SLAT_ENCODER else "")
        if not path:
            known = ", ".join(self.networks)
            raise CheckpointError(f"{self.folder} has no network '{key}'.", hint=f"It has: {known}.")
        description = find_beside(self.folder, f"{path}.json", download=download)
        weights = find_beside(self.folder, f"{path}.safetensors", download=download)
        network = _parse(_NetworkFile, description)
        return NetworkFiles(key, network.name, network.args, weights)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read pipeline.json of a checkpoint folder.

    Raises:
        CheckpointError: no such file, or it is not a pipeline description.
    """
    path = folder / PIPELINE
    if not path.is_file():
        raise CheckpointError(f"{folder} is not a checkpoint: it has no {PIPELINE}.", hint=LAYOUT)
    return Checkpoint(folder, _parse(_PipelineFile, path).args)


def load_network(
    files: NetworkFiles, *, device: torch.device | str = "cpu", torso: torch.dtype = torch.float32
) -> nn.Module:
    """Build one network and fill it, strictly.

    Args:
        files: from `Checkpoint.files`.
        device: where the parameters go.
        torso: precision of the deep stack of blocks (float32, float16, bfloat16); the rest stays float32.

    Returns:
        The network in evaluation mode, its parameters frozen.

    Raises:
        CheckpointError: unknown class, arguments it does not take, missing, unexpected or misshapen tensors, a
            truncated or corrupt file, a pickle in place of safetensors.
    """
    network = build_network(files)
    state = read_tensors(files.weights)
    check_fit(network, state, origin=str(files.weights))
    expected = network.state_dict()
    # Always a copy: the file is memory-mapped, and a file replaced under a running network would end the process.
    cast = {
        name: tensor.to(
            device, expected[name].dtype if not tensor.is_floating_point() else torch.float32, copy=True
        )
        for name, tensor in state.items()
    }
    network.load_state_dict(cast, strict=True, assign=True)
    network.to_precision(torso)  # type: ignore[operator]  # every network of the registry has it
    network.requires_grad_(False)
    network.eval()
    return network


def build_network(files: NetworkFiles) -> nn.Module:
    """The network on the meta device: all names and shapes, no memory.

    Raises:
        CheckpointError: unknown class, or arguments it does not take.
    """
    kind = network_class(files.class_name, origin=files.key)
    # The stored precision need not be the requested one; the torso is cast after the weights are loaded.
    arguments = {name: False if name == "use_fp16" else value for name, value in files.arguments.items()}
    try:
        with torch.device("meta"):
            return kind(**arguments)
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"'{files.key}': {files.class_name} cannot be built from its json: {error}.",
            hint="The arguments must be those of the published class; compare with a published checkpoint.",
        ) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: missing, truncated, corrupt, or a pickle.
    """
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing.", hint=LAYOUT) from error
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {_diagnosis(path, error)}.", hint=_HINT_FILE) from error


_HINT_FILE = "Copy or pull the file again; `cupid checkpoint verify` checks a whole checkpoint."


def _diagnosis(path: Path, error: Exception) -> str:
    try:
        start = path.open("rb").read(8) if path.is_file() else b""
    except OSError:
        start = b""
    # A zip archive (torch.save) or a bare pickle: both run code when loaded, so neither is read.
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x04"):
        return "it is a pickle (torch.save), and only safetensors are read, because a pickle runs code"
    return f"truncated or corrupt ({error})"


def check_fit(network: nn.Module, state: Mapping[str, Tensor], *, origin: str) -> None:
    """Compare names and shapes, and list everything that differs in one error.

    Raises:
        CheckpointError: anything is missing, unexpected or misshapen.
    """
    expected = network.state_dict()
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    misshapen = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    parts = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    wrong = "; ".join(f"{len(names)} {kind}: {', '.join(names)}" for kind, names in parts.items() if names)
    if wrong:
        raise CheckpointError(
            f"{origin} does not fit {type(network).__name__}: {wrong}.",
            hint="The json beside it must describe the same network; pull both again, or correct its arguments.",
        )


def load_official_vit(path: Path) -> dict[str, Tensor]:
    """Read the official DINOv2 state dict (`.pth`, weights only, or `.safetensors`).

    Raises:
        CheckpointError: missing, corrupt, or holding anything but tensors.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path)
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing.", hint="Download the official DINOv2 checkpoint with registers."
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, UnpicklingError) as error:
        raise CheckpointError(
            f"{path} is not a plain state dict: {error}.", hint="Use the official file, unchanged."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds more than tensors.", hint="Use the official file, unchanged.")
    return state


def _parse(kind: type[Any], path: Path) -> Any:
    try:
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}.", hint=_HINT_FILE) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "its top level"
        raise CheckpointError(f"{path}: {where}: {first['msg']}.", hint=LAYOUT) from error
