"""Combines the exports of all stages into one checkpoint of the published layout, and unpacks it again.

`write_checkpoint` is undone by `unpack_checkpoint`, so that a later training can continue from a checkpoint alone.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cupid_core.config import SamplerConfig
from cupid_core.errors import TrainingError
from cupid_core.files import write_text
from cupid_core.models.bundle import COMPLETION_ENCODER, COMPLETION_HEAD, SHAPE_COMPLETION
from cupid_core.models.locate import sha256
from cupid_core.models.weights import PIPELINE, read_checkpoint
from cupid_core.training.export import EXPORT

# Networks that inference needs, by stage.
SHIPPED: dict[str, tuple[str, ...]] = {
    "occupancy-vae": ("sparse_structure_decoder",),
    "uv-vae": ("sparse_structure_uv_decoder",),
    "structure": ("image_encoder", "sparse_structure_flow_model"),
    "shape-completion": (COMPLETION_ENCODER, COMPLETION_HEAD, SHAPE_COMPLETION),
    "appearance-vae": ("slat_decoder_mesh",),
    "appearance": ("slat_flow_model", "slat_encoder"),
}
# Networks that only a later training needs; in the same folder, but not named in pipeline.json.
TRAINING_ONLY: dict[str, tuple[str, ...]] = {
    "occupancy-vae": ("sparse_structure_encoder",),
    "uv-vae": ("sparse_structure_uv_encoder",),
    "structure": ("surface_head",),
    "shape-completion": (),
    "appearance-vae": ("appearance_encoder",),
    "appearance": (),
}
_SUFFIXES = (".json", ".safetensors")
_OPTIONAL = {"image_encoder", "slat_encoder", COMPLETION_ENCODER, COMPLETION_HEAD, SHAPE_COMPLETION}
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
    """Files of a written checkpoint.

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
    trainable: bool = True,
    limits: CheckpointLimits | None = None,
) -> WrittenCheckpoint:
    """Assemble a checkpoint.

    The latent of the appearance is normalized inside the networks, so its published mean is 0 and deviation 1.

    Args:
        root: folder of the training.
        folder: where the checkpoint goes; files of the same names are replaced.
        samplers: recommended settings of the samplers of structure and appearance.
        image_encoder: name of an official image encoder; empty where the checkpoint has its own.
        trainable: include the networks that only a later training needs.
        limits: None for none.

    Raises:
        TrainingError: no stage has an export, a file is larger than allowed, or cannot be written.
    """
    found = _exports(root, SHIPPED)
    present, more = _existing(found), _existing(_exports(root, TRAINING_ONLY)) if trainable else {}
    if not present:
        raise TrainingError(f"No stage in {root} has an export.", hint="Train the stages first, with this --out.")
    sizes = {
        f"ckpts/{key}.safetensors": path.with_suffix(".safetensors").stat().st_size
        for key, path in (present | more).items()
    }
    _check(sizes, limits)
    channels = _latent_channels(present)
    arguments: dict[str, Any] = {
        "models": {key: f"ckpts/{key}" for key in present},
        "sparse_structure_sampler": _sampler(samplers[0]),
        "slat_sampler": _sampler(samplers[1]),
        "slat_normalization": {"mean": [0.0] * channels, "std": [1.0] * channels},
        "image_cond_model": image_encoder,
        "color": "photo",  # small networks generate blotchy colors
    }
    try:
        (folder / "ckpts").mkdir(parents=True, exist_ok=True)
        for path in (present | more).values():
            for suffix in _SUFFIXES:
                shutil.copyfile(path.with_suffix(suffix), folder / "ckpts" / f"{path.name}{suffix}")
        text = json.dumps({"name": "CupidImageTo3DPipeline", "args": arguments}, indent=1) + "\n"
        write_text(folder / PIPELINE, text)
        sums = [f"{sha256(folder / name)}  {name}\n" for name in sorted(sizes)]
        write_text(folder / "SHA256SUMS", "".join(sums))
    except OSError as error:
        raise TrainingError(f"{folder} cannot be written: {error}.", hint="Choose a writable folder.") from error
    read_checkpoint(folder)
    return WrittenCheckpoint(sizes, tuple(key for key in found if key not in present and key not in _OPTIONAL))


def unpack_checkpoint(folder: Path, root: Path) -> tuple[str, ...]:
    """Copy the networks of a checkpoint to where the stages of a training expect those of earlier stages.

    Args:
        folder: of the checkpoint, as `write_checkpoint` makes it.
        root: folder of the new training.

    Returns:
        The stages that now have an export.

    Raises:
        TrainingError: a stage has an export already, the checkpoint has no network of any stage, or a file cannot
            be written.
    """
    named = read_checkpoint(folder).arguments.models
    copies: dict[str, list[tuple[Path, Path]]] = {}
    for stage in SHIPPED:
        for key in SHIPPED[stage] + TRAINING_ONLY[stage]:
            source = folder / named.get(key, f"ckpts/{key}")
            if source.with_suffix(".safetensors").is_file():
                copies.setdefault(stage, []).append((source, root / stage / EXPORT / "ckpts" / key))
    taken = [stage for stage in copies if (root / stage / EXPORT).exists()]
    if taken or not copies:
        what = f"{', '.join(taken)} in {root} has an export already" if taken else f"{folder} has no known network"
        raise TrainingError(f"{what}.", hint="Give a new --out, and a checkpoint of this package.")
    try:
        for source, target in (pair for pairs in copies.values() for pair in pairs):
            target.parent.mkdir(parents=True, exist_ok=True)
            for suffix in _SUFFIXES:
                shutil.copyfile(source.with_suffix(suffix), target.with_suffix(suffix))
    except OSError as error:
        raise TrainingError(f"{root} cannot be written: {error}.", hint="Choose a writable folder.") from error
    return tuple(copies)


def _exports(root: Path, keys_of: dict[str, tuple[str, ...]]) -> dict[str, Path]:
    """Where the stages of a training put their networks, by key; without suffix."""
    return {key: root / stage / EXPORT / "ckpts" / key for stage, keys in keys_of.items() for key in keys}


def _existing(found: dict[str, Path]) -> dict[str, Path]:
    return {key: path for key, path in found.items() if path.with_suffix(".safetensors").is_file()}


def _check(sizes: dict[str, int], limits: CheckpointLimits | None) -> None:
    if limits is None:
        return
    for name, size in sizes.items():
        if size > limits.file_bytes:
            raise TrainingError(
                f"{name} has {size / 2**20:.1f} MiB, allowed are {limits.file_bytes / 2**20:.0f}.",
                hint="Train a smaller network, or export without limits.",
            )
    if sum(sizes.values()) > limits.total_bytes:
        raise TrainingError(
            f"All files have {sum(sizes.values()) / 2**20:.1f} MiB, allowed are {limits.total_bytes / 2**20:.0f}.",
            hint="Train smaller networks, or export without limits.",
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
