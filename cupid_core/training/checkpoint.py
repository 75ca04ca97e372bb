"""Puts the exports of all stages together to one checkpoint in the published layout. Knows files, not networks."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cupid_core.config import SamplerConfig
from cupid_core.errors import TrainingError
from cupid_core.models.locate import sha256
from cupid_core.models.weights import PIPELINE, read_checkpoint
from cupid_core.training.export import EXPORT

# What inference needs; encoders of the autoencoders serve training alone.
SHIPPED: dict[str, tuple[str, ...]] = {
    "occupancy-vae": ("sparse_structure_decoder",),
    "uv-vae": ("sparse_structure_uv_decoder",),
    "structure": ("image_encoder", "sparse_structure_flow_model"),
    "appearance-vae": ("slat_decoder_mesh",),
    "appearance": ("slat_flow_model", "slat_encoder"),
}
_OPTIONAL = {"image_encoder", "slat_encoder"}
_SLAT_FLOW = "slat_flow_model"


@dataclass(frozen=True)
class CheckpointLimits:
    """How large a checkpoint may be.

    Attributes:
        file_bytes: of one file.
        total_bytes: of all files.
    """

    file_bytes: int = 16 * 2**20
    total_bytes: int = 48 * 2**20


@dataclass(frozen=True)
class WrittenCheckpoint:
    """What was written.

    Attributes:
        sizes: bytes of each file, by its path in the folder.
        missing: networks whose stage has no export yet.
    """

    sizes: dict[str, int]
    missing: tuple[str, ...]


def write_checkpoint(
    root: Path,
    folder: Path,
    samplers: tuple[SamplerConfig, SamplerConfig],
    *,
    image_encoder: str = "",
    limits: CheckpointLimits | None = None,
) -> WrittenCheckpoint:
    """Assemble a checkpoint.

    The latent of the appearance is normalised inside the networks, so its published mean is 0 and deviation 1.

    Args:
        root: folder of the training.
        folder: where the checkpoint goes; files of the same names are replaced.
        samplers: of structure and appearance, as the checkpoint is meant to be run.
        image_encoder: name of an official image encoder; empty where the checkpoint has its own.
        limits: None for none.

    Raises:
        TrainingError: no stage has an export, a file is larger than allowed, or cannot be written.
    """
    found = {key: root / stage / EXPORT / "ckpts" / key for stage, keys in SHIPPED.items() for key in keys}
    present = {key: path for key, path in found.items() if path.with_suffix(".safetensors").is_file()}
    if not present:
        raise TrainingError(f"No stage in {root} has an export.", cure="Train the stages first, with this --out.")
    sizes = {
        f"ckpts/{key}.safetensors": path.with_suffix(".safetensors").stat().st_size
        for key, path in present.items()
    }
    _check(sizes, limits)
    channels = _latent_channels(present)
    arguments: dict[str, Any] = {
        "models": {key: f"ckpts/{key}" for key in present},
        "sparse_structure_sampler": _sampler(samplers[0]),
        "slat_sampler": _sampler(samplers[1]),
        "slat_normalization": {"mean": [0.0] * channels, "std": [1.0] * channels},
        "image_cond_model": image_encoder,
    }
    try:
        (folder / "ckpts").mkdir(parents=True, exist_ok=True)
        for path in present.values():
            for suffix in (".json", ".safetensors"):
                shutil.copyfile(path.with_suffix(suffix), folder / "ckpts" / f"{path.name}{suffix}")
        text = json.dumps({"name": "CupidImageTo3DPipeline", "args": arguments}, indent=1) + "\n"
        (folder / PIPELINE).write_text(text, encoding="utf-8")
        sums = [f"{sha256(folder / name)}  {name}\n" for name in sorted(sizes)]
        (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{folder} cannot be written: {error}.", cure="Choose a writable folder.") from error
    read_checkpoint(folder)
    return WrittenCheckpoint(sizes, tuple(key for key in found if key not in present and key not in _OPTIONAL))


def _check(sizes: dict[str, int], limits: CheckpointLimits | None) -> None:
    if limits is None:
        return
    for name, size in sizes.items():
        if size > limits.file_bytes:
            raise TrainingError(
                f"{name} has {size / 2**20:.1f} MiB, allowed are {limits.file_bytes / 2**20:.0f}.",
                cure="Train a smaller network, or export without limits.",
            )
    if sum(sizes.values()) > limits.total_bytes:
        raise TrainingError(
            f"All files have {sum(sizes.values()) / 2**20:.1f} MiB, allowed are {limits.total_bytes / 2**20:.0f}.",
            cure="Train smaller networks, or export without limits.",
        )


def _latent_channels(present: dict[str, Path]) -> int:
    if _SLAT_FLOW not in present:
        return 8
    described = json.loads(present[_SLAT_FLOW].with_suffix(".json").read_text(encoding="utf-8"))
    return int(described["args"]["in_channels"])


def _sampler(config: SamplerConfig) -> dict[str, Any]:
    return {
        "name": "FlowEulerGuidanceIntervalSampler",
        "args": {"sigma_min": 1e-5},
        "params": {
            "steps": config.steps,
            "cfg_strength": config.guidance_strength,
            "cfg_interval": [config.guidance_from_t, config.guidance_to_t],
            "rescale_t": config.rescale_t,
        },
    }
