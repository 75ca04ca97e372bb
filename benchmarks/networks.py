"""Speed-up by caching and batching, memory of mesh extraction, and cost of the full-size networks.

    python benchmarks/networks.py [--quick] [--json FILE] [--device cuda]

Every comparison interleaves its two sides in one run and quotes the ratio of their medians, because absolute times
on shared machines are noise. Mid-size networks: width 256, 8 blocks, 16^3 tokens, 8,000 voxels at 64^3.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cupid_core.config import SamplerConfig
from cupid_core.mesh.extract import extract_mesh
from cupid_core.models.appearance_vae import SLatEncoder
from cupid_core.models.appearance_variants import VisualLatentConditioningSLatFlowModel
from cupid_core.models.layers.embeddings import model_times
from cupid_core.models.pose_aligned import VoxelView
from cupid_core.models.structure_flow import SparseStructureFlowModel
from cupid_core.models.topology import VoxelTopology
from cupid_core.sampling.sample import sample, sampling_times
from cupid_core.sampling.solver import Velocity

MID_FLOW = {"model_channels": 256, "cond_channels": 256, "num_blocks": 8, "num_heads": 8, "qk_rms_norm": True}
FULL_FLOW = {"model_channels": 1024, "cond_channels": 1024, "num_blocks": 24, "num_heads": 16, "qk_rms_norm": True}
# The published encoder is 0.75 of its flow's width and half as deep; the mid-size one keeps that.
MID_ENCODER = {"model_channels": 192, "num_blocks": 4, "num_heads": 4, "in_channels": 256}
FULL_ENCODER = {"model_channels": 768, "num_blocks": 12, "num_heads": 12, "in_channels": 1024}
TOKENS = 5 + 37 * 37


def structure_flow(sizes: dict[str, Any], **more: Any) -> SparseStructureFlowModel:
    """Stage 1 at 16^3 tokens."""
    return SparseStructureFlowModel(resolution=16, in_channels=16, out_channels=16, patch_size=1, **sizes, **more)


def appearance_flow(sizes: dict[str, Any], **more: Any) -> VisualLatentConditioningSLatFlowModel:
    """Stage 2 at 64^3 voxels."""
    return VisualLatentConditioningSLatFlowModel(
        resolution=64,
        in_channels=8,
        out_channels=8,
        cond_latent_channels=8,
        patch_size=2,
        num_io_res_blocks=2,
        io_block_channels=[sizes["model_channels"] // 8],
        visual_feat_channels=[4, 4, 4, 4],
        visual_feat_resolution=256,
        visual_conv_kernel_size=3,
        **sizes,
        **more,
    )


def slat_encoder(sizes: dict[str, Any], **more: Any) -> SLatEncoder:
    """The encoder behind the conditioning latent."""
    return SLatEncoder(resolution=64, latent_channels=8, attn_mode="swin", window_size=8, **sizes, **more)


def fill(module: torch.nn.Module) -> None:
    """Random values everywhere, also where training starts at zero, so that nothing is skipped."""
    generator = torch.Generator(device=next(module.parameters()).device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "norm" not in name:
                parameter.normal_(0, max(parameter[0].numel(), 1) ** -0.5, generator=generator)


def shell(count: int, resolution: int = 64) -> Tensor:
    """About `count` voxels (item 0, x, y, z) of a spherical shell two voxels thick."""
    center = torch.arange(resolution).float() + 0.5 - resolution / 2
    radius = (center[:, None, None] ** 2 + center[:, None] ** 2 + center**2).sqrt()
    flat = (radius - (count / (8 * torch.pi)) ** 0.5).abs().flatten()
    rows = flat.topk(count, largest=False).indices.sort().values
    x, y, z = rows // resolution**2, rows // resolution % resolution, rows % resolution
    return torch.stack([torch.zeros_like(x), x, y, z], dim=1)


def compare(sides: Mapping[str, Callable[[], Tensor]], rounds: int, sync: Callable[[], None]) -> dict[str, float]:
    """Median seconds of two sides, run in turn after a warm-up, first over second, and how far results differ."""
    results = {name: side() for name, side in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            sync()
            start = time.perf_counter()
            side()
            sync()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    first, second = sides
    difference = float((results[first] - results[second]).abs().max())
    return {**medians, "ratio": medians[first] / medians[second], "largest difference": difference}


def structure_sides(config: SamplerConfig, device: str) -> dict[str, Callable[[], Tensor]]:
    """Whole stage-1 runs: everything recomputed in two calls per step, against cached and batched."""
    flow = structure_flow(MID_FLOW).to(device).eval()
    fill(flow)
    tokens = torch.randn(1, TOKENS, 256, device=device)
    noise = torch.randn(1, 16, 16, 16, 16, device=device)

    def plain_velocity(context: Tensor) -> Velocity:
        return lambda x, time_: flow(x, model_times([time_], x.device), context)

    def plain() -> Tensor:
        under, free = plain_velocity(tokens), plain_velocity(torch.zeros_like(tokens))
        return sample(under, two_calls(under, free), noise, config)

    def cached() -> Tensor:
        prepared = flow.condition(tokens, sampling_times(config))
        return sample(flow.velocity(prepared), flow.velocity(prepared, null_half=True), noise, config)

    return {"plain": plain, "cached": cached}


def appearance_sides(
    config: SamplerConfig, voxels: int, device: str, torso: torch.dtype = torch.float32
) -> dict[str, Callable[[], Tensor]]:
    """Whole stage-2 runs; the plain side recomputes the pose-aligned features in every call."""
    flow = appearance_flow(MID_FLOW).to(device).eval()
    encoder = slat_encoder(MID_ENCODER).to(device).eval()
    fill(flow)
    fill(encoder)
    flow.to_precision(torso)
    encoder.to_precision(torso)
    torch.manual_seed(0)  # the same inputs for every precision
    topology = VoxelTopology.build(shell(voxels).to(device), 64, window_size=8, levels=flow.levels)
    view = VoxelView(
        uv=torch.rand(voxels, 2, device=device),
        tokens=torch.randn(1, TOKENS, 256, device=device),
        image=torch.rand(1, 3, 256, 256, device=device),
    )
    noise = torch.randn(voxels, 8, device=device)

    def plain_velocity(side: VoxelView) -> Velocity:
        def velocity(x: Tensor, time_: float) -> Tensor:
            pose = flow.pose_features(side.with_latent(encoder, topology), topology)
            out: Tensor = flow(x, model_times([time_], x.device), side.tokens, topology, pose=pose)
            return out

        return velocity

    def plain() -> Tensor:
        under, free = plain_velocity(view), plain_velocity(view.null())
        return sample(under, two_calls(under, free), noise, config)

    def cached() -> Tensor:
        ready = view.with_latent(encoder, topology)
        prepared = flow.condition(view.tokens, sampling_times(config), topology, view=ready)
        return sample(flow.velocity(prepared), flow.velocity(prepared, null_half=True), noise, config)

    return {"plain": plain, "cached": cached}


def torso_sides(config: SamplerConfig, voxels: int, device: str) -> dict[str, Callable[[], Tensor]]:
    """Whole cached stage-2 runs with the torso in single and in half precision."""
    single = appearance_sides(config, voxels, device)["cached"]
    half = appearance_sides(config, voxels, device, torch.bfloat16)["cached"]
    return {"float32": single, "bfloat16": half}


def two_calls(under: Velocity, free: Velocity) -> Velocity:
    """The stacked velocity of guidance as two calls, one after the other."""

    def velocity(x: Tensor, time_: float) -> Tensor:
        first, second = x.chunk(2)
        return torch.cat([under(first, time_), free(second, time_)])

    return velocity


def extraction_peak_mb() -> dict[str, float]:
    """Peak memory of extracting a sphere at 256^3 in a fresh process, beyond its imports, input counted in."""
    command = [sys.executable, __file__, "--extract-only"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def extract_only(resolution: int = 256, radius: float = 0.33) -> None:
    """Body of the fresh process: a shell of 64^3 voxels, subdivided twice as the mesh decoder does it."""
    torch.set_num_threads(1)
    baseline = peak_mb()
    axis = torch.arange(65) / 64 - 0.5
    inside = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt() < radius
    share = torch.nn.functional.avg_pool3d(inside[None, None].float(), 2, 1)[0, 0]
    voxels = ((share > 0) & (share < 1)).nonzero()
    coords = (voxels[:, None] * 4 + torch.cartesian_prod(*[torch.arange(4)] * 3)).reshape(-1, 3).int()
    features = torch.empty(len(coords), 101).normal_(std=0.3)
    for start in range(0, len(coords), 1 << 16):  # in parts: the input's own temporaries are not its size
        chunk = slice(start, start + (1 << 16))
        for k in range(8):
            corner = coords[chunk] + torch.tensor([k & 1, k >> 1 & 1, k >> 2 & 1])
            features[chunk, k] = (corner / resolution - 0.5).norm(dim=1) - radius + 1 / resolution
    before = peak_mb()
    mesh = extract_mesh(coords, features, resolution)
    figures = {
        "cubes": len(coords),
        "triangles": len(mesh.faces),
        "input MB": before - baseline,
        "peak MB": peak_mb() - baseline,
    }
    print(json.dumps(figures))


def peak_mb() -> float:
    """Highest resident memory of this program so far (Linux); that of getrusage would be its parent's at first."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def full_size_flops(voxels: int) -> dict[str, float]:
    """TFLOP of one conditional call at full size; stage 1 is counted on the meta device, without arithmetic."""
    counts: dict[str, float] = {}
    with torch.device("meta"):
        structure = structure_flow(FULL_FLOW)
        tokens = torch.empty(1, TOKENS, 1024)
        with FlopCounterMode(display=False) as counter:
            structure(torch.empty(1, 16, 16, 16, 16), torch.empty(1), tokens)
        counts["stage 1, one call"] = counter.get_total_flops() / 1e12
    # The sparse networks read index tables, which hold real numbers: they run for real, once.
    counts |= _appearance_flops(voxels)
    return counts


def _appearance_flops(voxels: int) -> dict[str, float]:
    torch.manual_seed(0)
    flow = appearance_flow(FULL_FLOW).eval()
    encoder = slat_encoder(FULL_ENCODER).eval()
    topology = VoxelTopology.build(shell(voxels), 64, window_size=8, levels=flow.levels)
    view = VoxelView(
        uv=torch.rand(voxels, 2), tokens=torch.randn(1, TOKENS, 1024), image=torch.rand(1, 3, 256, 256)
    )
    with FlopCounterMode(display=False) as counter:
        ready = view.with_latent(encoder, topology)
    counts = {"pose-aligned latent, once": counter.get_total_flops() / 1e12}
    pose = flow.pose_features(ready, topology)
    with FlopCounterMode(display=False) as counter:
        flow(torch.randn(voxels, 8), torch.tensor([500.0]), view.tokens, topology, pose=pose)
    counts["stage 2, one call"] = counter.get_total_flops() / 1e12
    return counts


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps, few voxels: does it run")
    parser.add_argument("--steps", type=int, default=8, help="solver steps of every run")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--extract-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.extract_only:
        extract_only()
        return
    torch.set_num_threads(arguments.threads)
    figures = run(arguments.quick, 2 if arguments.quick else arguments.steps, arguments.device)
    show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


def run(quick: bool, steps: int, device: str) -> dict[str, Any]:
    """All figures."""
    config = SamplerConfig(steps=steps, guidance_strength=3.0)
    voxels, rounds = (1000, 1) if quick else (8000, 3)
    sync = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    figures: dict[str, Any] = {"steps": config.steps, "voxels": voxels, "threads": torch.get_num_threads()}
    with Progress(console=Console(stderr=True)) as progress, torch.inference_mode():
        task = progress.add_task("networks", total=5)
        for stage, sides in (
            ("stage 1", structure_sides(config, device)),
            ("stage 2", appearance_sides(config, voxels, device)),
        ):
            figures[stage] = compare(sides, rounds, sync)
            progress.advance(task)
        figures["torso"] = compare(torso_sides(config, voxels, device), rounds, sync)
        progress.advance(task)
        figures["extraction"] = extraction_peak_mb()
        progress.advance(task)
        figures["full-size TFLOP"] = full_size_flops(voxels)
        progress.advance(task)
    return figures


def show(figures: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console()
    title = f"Whole runs, {figures['steps']} steps, {figures['voxels']} voxels, {figures['threads']} threads"
    table = Table("", "plain s", "cached s", "plain / cached", "largest difference", title=title)
    for stage in ("stage 1", "stage 2"):
        row = figures[stage]
        table.add_row(
            stage,
            f"{row['plain']:.2f}",
            f"{row['cached']:.2f}",
            f"{row['ratio']:.2f}",
            f"{row['largest difference']:.1e}",
        )
    console.print(table)
    torso = figures["torso"]
    console.print(
        f"Stage 2, cached: torso in float32 {torso['float32']:.2f} s, in bfloat16 {torso['bfloat16']:.2f} s, "
        f"ratio {torso['ratio']:.2f}, largest difference {torso['largest difference']:.1e}"
    )
    console.print(
        "Mesh extraction at 256^3, sphere shell: {cubes} cubes, {triangles} triangles, "
        "peak {peak MB:.0f} MB beyond imports, of which input {input MB:.0f} MB".format(**figures["extraction"])
    )
    for name, tera in figures["full-size TFLOP"].items():
        console.print(f"Full size, {name}: {tera:.2f} TFLOP")


if __name__ == "__main__":
    main()
