"""Which runtime runs each stage of a checkpoint, and where exported stages are found.

Exported stages lie in the folder that the caller names, in `stages/` of the checkpoint's folder, or in the user's
cache under the checkpoint's content hash; stages of another checkpoint are never used.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cupid_core.config import RuntimeName
from cupid_core.errors import CheckpointError, ConfigError, CupidError
from cupid_core.models.bundle import NetworkBundle
from cupid_core.models.locate import checkpoint_hash
from cupid_core.runtime.export import MANIFEST, ExportedStage, Manifest
from cupid_core.runtime.networks import with_runners
from cupid_core.runtime.onnx_stage import onnx_runner
from cupid_core.runtime.stage import Runner

_log = logging.getLogger(__name__)
_INSIDE = "stages"


def in_runtime(
    networks: NetworkBundle, checkpoint: Path, runtime: RuntimeName, *, stages_folder: str = ""
) -> NetworkBundle:
    """The networks of a checkpoint with their stages in a runtime.

    Args:
        networks: as loaded; returned as they are where torch is to run them.
        checkpoint: folder they were loaded from.
        runtime: "torch"; "onnx" (CPU) or "tensorrt" (GPU), which must be prepared; "auto" takes on a CPU the
            stages that were exported and measured faster in ONNX Runtime, and torch on a GPU.
        stages_folder: where exported stages are; empty looks in the usual places.

    Raises:
        ConfigError: the runtime does not run on the device of the networks.
        CheckpointError: the runtime was asked for and nothing is prepared.
    """
    device = networks.device.type
    if runtime == "torch" or (runtime == "auto" and device != "cpu"):
        return networks
    wanted = "onnx" if runtime == "auto" else runtime
    if (wanted == "onnx") != (device == "cpu"):
        place = "the CPU" if wanted == "onnx" else "a GPU"
        raise ConfigError(
            f"The runtime '{wanted}' runs on {place}, the networks are on '{device}'.",
            hint="Choose the device that fits, or --runtime torch.",
        )
    found = find_stages(
        checkpoint, stages_folder, ("float16", "float32") if wanted == "tensorrt" else ("float32",)
    )
    if found is None:
        if runtime == "auto":
            return networks
        raise CheckpointError(
            f"{checkpoint} is not prepared for the runtime '{runtime}'.",
            hint=f"Run `cupid {'build' if wanted == 'tensorrt' else 'export'} --checkpoint {checkpoint}`.",
        )
    folder, manifest = found
    if wanted == "tensorrt":
        from cupid_core.runtime.tensorrt_stage import engine_runners  # imports a package few have

        runners = engine_runners(folder, manifest, networks.device)
    else:
        runners = _onnx_runners(folder, manifest, only_faster=runtime == "auto")
    return replace(with_runners(networks, runners), runtimes=dict.fromkeys(runners, wanted))


def find_stages(
    checkpoint: Path, stages_folder: str = "", precisions: Sequence[str] = ("float32",)
) -> tuple[Path, Manifest] | None:
    """The folder with the exported stages of a checkpoint, and its manifest; None where there is none.

    Args:
        checkpoint: folder of the checkpoint.
        stages_folder: to look in; empty looks in the checkpoint's folder and in the cache.
        precisions: of the export, in the order they are looked for in the cache.

    Raises:
        CheckpointError: the named folder holds none, or those of another checkpoint.
    """
    places = [Path(stages_folder)] if stages_folder else [checkpoint / _INSIDE, *_cached(precisions)]
    places = [place for place in places if stages_folder or (place / MANIFEST).is_file()]
    if not places:
        return None
    digest = checkpoint_hash(checkpoint)
    for place in places:
        try:
            manifest = Manifest.load(place)
        except CheckpointError as error:
            if stages_folder:
                raise
            _log.warning("%s", error)
            continue
        if manifest.checkpoint_sha256 == digest:
            return place, manifest
        if stages_folder:
            raise CheckpointError(
                f"{place} holds the stages of another checkpoint than {checkpoint}.",
                hint="Export this checkpoint, or leave reconstruct.stages_folder empty.",
            )
    return None


def cache_folder(digest: str, precision: str = "float32") -> Path:
    """Where the exported stages of a checkpoint of this content hash are kept."""
    return cache_root() / f"{digest[:16]}-{precision}"


def cache_root() -> Path:
    """The user's cache of exported stages and engines."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cupid_ros" / _INSIDE


def _cached(precisions: Sequence[str]) -> Iterator[Path]:
    for precision in precisions:
        yield from (path.parent for path in sorted(cache_root().glob(f"*-{precision}/{MANIFEST}")))


def _onnx_runners(folder: Path, manifest: Manifest, *, only_faster: bool) -> dict[str, Runner]:
    runners: dict[str, Runner] = {}
    for name, stage in manifest.stages.items():
        if only_faster and not is_faster(stage):
            continue
        try:
            runners[name] = onnx_runner(folder, stage)
        except CupidError as error:
            if not only_faster:
                raise
            _log.warning("%s runs in torch: %s", name, error.problem)
    return runners


def is_faster(stage: ExportedStage) -> bool:
    """Whether ONNX Runtime was faster when the stage was exported; not measured counts as faster."""
    return stage.torch_ms is None or stage.onnx_ms is None or stage.onnx_ms < stage.torch_ms
