"""`cupid export` and `cupid build`: the networks of a checkpoint for runtimes other than torch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.table import Table

from cupid_core.cli.arguments import OptionalFile, Switch
from cupid_core.models.bundle import NetworkBundle
from cupid_core.models.locate import checkpoint_hash, locate
from cupid_core.runtime.catalogue import stages
from cupid_core.runtime.check import check_stages, with_times
from cupid_core.runtime.export import ExportedStage, Manifest, export_stages
from cupid_core.runtime.select import cache_folder, find_stages
from cupid_core.runtime.tensorrt_build import build_engines, tensorrt_package, voxel_range

DIFFERENT = 1


def export(*, checkpoint: str = "tabletop", to: OptionalFile = None, check: Switch = False) -> int:
    """Write the networks of a checkpoint as ONNX files, one per stage, for `--runtime onnx` and `cupid build`.

    Takes a few minutes. `cupid reconstruct` then uses those that are faster than torch on this machine by itself.
    (`cupid checkpoint export` is something else: it makes a checkpoint of a training.)

    Args:
        checkpoint: embedded name, a folder in the published layout, or a hub id.
        to: folder; not given, the user's cache, where a reconstruction finds them.
        check: compare every stage with torch at several sizes, and print the largest differences.

    Returns:
        0, or 1 when a stage differs from torch by more than the tolerance.
    """
    console = Console()
    source = locate(checkpoint)
    networks, folder, manifest = _export(source, "float32", to, console)
    manifest = with_times(networks, folder, manifest)
    manifest.save(folder)
    console.print(_times(manifest))
    console.print(f"{folder}", markup=False, highlight=False, soft_wrap=True)
    return _check(networks, folder, manifest, console) if check else 0


def build(*, checkpoint: str = "tabletop", precision: Literal["fp16", "fp32"] = "fp16", profile: str = "") -> int:
    """Build TensorRT engines of the networks of a checkpoint, for `--runtime tensorrt`.

    Exports the networks first where that was not done. Engines that fit this GPU, this TensorRT and this
    checkpoint are kept, others are built again. TensorRT for RTX builds without a GPU.

    Args:
        checkpoint: embedded name, a folder in the published layout, or a hub id.
        precision: of the deep stacks; norms and the outer layers stay in float32.
        profile: least, usual and most voxels of all objects of a call, e.g. 10,2000,8192; not given, those that
            the checkpoint's grid suggests. Calls with more run in torch.
    """
    console = Console()
    voxels, source = voxel_range(profile), locate(checkpoint)
    tensorrt_package()  # missing, it should be said before minutes of export
    kind = {"fp16": "float16", "fp32": "float32"}[precision]
    found = find_stages(source, precisions=(kind,))
    folder, manifest = found if found is not None else _export(source, kind, None, console)[1:]

    def show(name: str, reason: str) -> None:
        console.print(f"{name}: building its engine, because {reason}", highlight=False, soft_wrap=True)

    start = time.perf_counter()
    for name, path in build_engines(folder, manifest, voxels=voxels, on_stage=show):
        seconds, start = time.perf_counter() - start, time.perf_counter()
        console.print(f"{name}: {path.stat().st_size / 1e6:.1f} MB, {seconds:.1f} s", highlight=False)
    console.print(f"{folder / 'engines'}", markup=False, highlight=False, soft_wrap=True)
    return 0


def _export(
    source: Path, precision: str, to: Path | None, console: Console
) -> tuple[NetworkBundle, Path, Manifest]:
    """Export a checkpoint, a line per stage."""
    digest = checkpoint_hash(source)
    networks = NetworkBundle.from_pretrained(source, torso=getattr(torch, precision))
    folder = to or cache_folder(digest, precision)

    def show(name: str, made: ExportedStage) -> None:
        text = f"{name:<24} {made.nodes:>6} nodes  {made.size_mb:>8.1f} MB  {made.seconds:>6.1f} s"
        console.print(text, highlight=False)

    prepared = stages(networks, for_export=True)
    manifest = export_stages(prepared, folder, checkpoint_sha256=digest, precision=precision, on_stage=show)
    return networks, folder, manifest


def _times(manifest: Manifest) -> Table:
    table = Table("stage", "torch ms", "ONNX Runtime ms", "ratio", box=None, pad_edge=False)
    for name, stage in manifest.stages.items():
        if stage.torch_ms is not None and stage.onnx_ms is not None:
            ratio = f"{stage.torch_ms / stage.onnx_ms:.2f}"
            table.add_row(name, f"{stage.torch_ms:.1f}", f"{stage.onnx_ms:.1f}", ratio)
    return table


def _check(networks: NetworkBundle, folder: Path, manifest: Manifest, console: Console) -> int:
    table = Table("stage", "inputs", "largest difference", "of", "verdict", box=None, pad_edge=False)
    equal = True
    for found in check_stages(networks, folder, manifest):
        verdict = "[green]equal[/]" if found.equal else f"[red]above {found.tolerance:g} of the largest value[/]"
        table.add_row(found.stage, found.sizes, f"{found.difference:.1e}", f"{found.largest:.3g}", verdict)
        equal = equal and found.equal
    console.print(table)
    return 0 if equal else DIFFERENT
