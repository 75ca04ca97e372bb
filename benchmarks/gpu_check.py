"""Everything that needs a GPU, once, in about ten minutes: one table of what works, how fast, and how exact.

    python benchmarks/gpu_check.py [--checkpoint tabletop] [--device cuda] [--skip full-size]

Sections: tests marked `gpu`; every stage in torch float32 and bfloat16, and as a TensorRT engine where TensorRT is
installed (`cupid build` first); the pose solver; networks of the published size with random weights, 25 steps; a
whole reconstruction of the frame that ships. A section that fails says why and the others go on. With
`--device cpu --small` the same code runs without a GPU, to test it.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from networks import FULL_FLOW, appearance_flow, fill, shell, structure_flow
from pose_methods import rotation_angle_deg
from pose_problems import Case, Problem, generate
from rich.console import Console
from rich.table import Table

from cupid_core.cli.inputs import read_inputs, sample_inputs
from cupid_core.config import CupidConfig, RuntimeName, SamplerConfig
from cupid_core.errors import CupidError, PoseError
from cupid_core.models.bundle import NetworkBundle
from cupid_core.models.locate import locate
from cupid_core.models.pose_aligned import VoxelView
from cupid_core.models.topology import VoxelTopology
from cupid_core.pose import PoseEstimate, solve_poses
from cupid_core.pose.warp_solve import solve_poses as solve_poses_by_kernel
from cupid_core.reconstruct.inputs import Frame
from cupid_core.reconstruct.pipeline import Cupid
from cupid_core.runtime.catalogue import ExampleSizes, stages
from cupid_core.runtime.check import largest_difference
from cupid_core.runtime.select import find_stages
from cupid_core.runtime.stage import Runner, Stage, TorchRunner
from cupid_core.runtime.tensorrt_stage import engine_runners
from cupid_core.sampling.sample import sample, sampling_times

ROOT = Path(__file__).resolve().parents[1]
# One object of the usual size.
SIZES = ExampleSizes(crops=1, samples=1, radius=0.3, seed=1)
SMALL_FLOW = {"model_channels": 64, "cond_channels": 64, "num_blocks": 2, "num_heads": 2, "qk_rms_norm": True}


@dataclass(frozen=True)
class Options:
    """What to check, and where.

    Attributes:
        checkpoint: name, folder or hub id.
        device: of the networks.
        small: tiny networks in place of those of the published size, few repeats.
    """

    checkpoint: str
    device: torch.device
    small: bool

    @property
    def repeats(self) -> int:
        """Timed calls of each side."""
        return 2 if self.small else 10

    @property
    def torso(self) -> torch.dtype:
        """Precision of the deep stacks at full size."""
        return torch.float32 if self.device.type == "cpu" else torch.bfloat16


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        section: name of the section.
        what: was measured.
        milliseconds: of one call, median; None where nothing was timed.
        remark: difference, memory or reason.
    """

    section: str
    what: str
    milliseconds: float | None
    remark: str = ""


Section = Callable[[Options], Iterator[Row]]


def main() -> None:
    """Run the sections, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="tabletop")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--skip", action="append", default=[], choices=list(SECTIONS))
    given = parser.parse_args()
    console, start = Console(width=None if Console().is_terminal else 150), time.perf_counter()
    options = Options(given.checkpoint, torch.device(given.device), given.small)
    chosen = {name: section for name, section in SECTIONS.items() if name not in given.skip}
    rows = run_sections(chosen, options, console)
    console.print(table_of(rows, machine(options.device)))
    console.print(f"{time.perf_counter() - start:.0f} s", highlight=False)


def run_sections(sections: dict[str, Section], options: Options, console: Console) -> list[Row]:
    """The rows of all sections; one that fails becomes a row that says why."""
    rows = []
    for name, section in sections.items():
        console.print(name, highlight=False)
        try:
            rows += list(section(options))
        except (CupidError, RuntimeError, OSError) as error:  # also out of memory
            rows.append(Row(name, "failed", None, f"{type(error).__name__}: {str(error).splitlines()[0]}"))
    return rows


def table_of(rows: list[Row], title: str) -> Table:
    """All rows under the name of the machine."""
    table = Table("section", "what", "ms", "remark", title=title, box=None, pad_edge=False)
    for row in rows:
        milliseconds = "" if row.milliseconds is None else f"{row.milliseconds:.2f}"
        table.add_row(row.section, row.what, milliseconds, row.remark)
    return table


def machine(device: torch.device) -> str:
    """Name of the device and version of torch."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"{name}, torch {torch.__version__}"


def marked_tests(options: Options) -> Iterator[Row]:
    """The tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/core/runtime"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()]
    yield Row("tests", "pytest -m gpu", None, lines[-1])


def stage_parity(options: Options) -> Iterator[Row]:
    """Every stage in torch float32, against it bfloat16 and the engines."""
    wide = NetworkBundle.from_pretrained(options.checkpoint, device=options.device)
    half = NetworkBundle.from_pretrained(options.checkpoint, device=options.device, torso=torch.bfloat16)
    engines: dict[str, Runner] = {}
    problem = ""
    try:
        found = find_stages(locate(options.checkpoint), precisions=("float16", "float32"))
        if found is not None and options.device.type == "cuda":
            engines = engine_runners(*found, options.device)
    except CupidError as error:
        problem = error.problem
    for stage, other in zip(stages(wide, SIZES), stages(half, SIZES), strict=True):
        yield from _parity_rows(stage, other, engines.get(stage.name), options)
    if not engines:
        yield Row("stages", "TensorRT", None, problem or "no engine: run `cupid build` first")


def _parity_rows(stage: Stage, half: Stage, engine: Runner | None, options: Options) -> Iterator[Row]:
    inputs, reference = stage.examples(), TorchRunner(stage)
    expected = reference(inputs)
    sides: dict[str, tuple[Runner, dict[str, torch.Tensor]]] = {
        "float32": (reference, inputs),
        "bfloat16": (TorchRunner(half), half.examples()),
    }
    if engine is not None:
        sides["TensorRT"] = engine, inputs
    for name, (runner, given) in sides.items():
        difference, largest = largest_difference(runner(given), expected)
        taken = milliseconds_of(partial(runner, given), options)
        yield Row("stages", f"{stage.name}, {name}", taken, f"differs by {difference:.1e} of {largest:.3g}")


def pose_solver(options: Options) -> Iterator[Row]:
    """One object of 20,000 pairs and a batch, with points on the device, in torch and by the Warp kernel."""
    count = 500 if options.small else 20_000
    problems = [generate(Case(1.0, 35.0, 0.003, 0.0, count), seed) for seed in range(8)]
    points = [item.points.to(options.device) for item in problems]
    uv = [item.uv.to(options.device) for item in problems]
    solvers = {"torch": solve_poses} | ({"Warp": solve_poses_by_kernel} if find_spec("warp") else {})
    for (name, solver), size, known in itertools.product(solvers.items(), (1, 8), (True, False)):
        cameras = [item.camera for item in problems[:size]] if known else None
        call = partial(solver, points[:size], uv[:size], cameras=cameras)
        errors = [_turn_deg(found, item) for found, item in zip(call(), problems, strict=False)]
        what = f"{name}, N {count}, batch {size}, K {'known' if known else 'unknown'}"
        remark = f"per object; {statistics.median(errors):.3f} degrees off"
        yield Row("pose", what, milliseconds_of(call, options) / size, remark)


def _turn_deg(found: PoseEstimate | PoseError, problem: Problem) -> float:
    if isinstance(found, PoseError):
        raise found
    return rotation_angle_deg(found.T_camera_object.rotation().double().cpu().numpy(), problem.rotation)


@torch.inference_mode()
def full_size(options: Options) -> Iterator[Row]:
    """Both flows at the published size with random weights, 25 steps, guidance in half of the times."""
    steps = 2 if options.small else 25
    config = SamplerConfig(steps=steps, guidance_strength=7.5, guidance_from_t=0.5)
    yield _sampled("stage 1", full_structure(options, config), options)
    yield _sampled("stage 2", full_appearance(options, config), options)


def full_structure(options: Options, config: SamplerConfig) -> Callable[[], torch.Tensor]:
    """A sampling run of stage 1."""
    sizes = SMALL_FLOW if options.small else FULL_FLOW
    with torch.device(options.device):
        flow = structure_flow(sizes).to_precision(options.torso).eval()
    fill(flow)
    volume = torch.randn(1, 16, 16, 16, 16, device=options.device)
    prepared = flow.condition(_context(options, sizes), sampling_times(config))
    return lambda: sample(flow.velocity(prepared), flow.velocity(prepared, null_half=True), volume, config)


def full_appearance(options: Options, config: SamplerConfig) -> Callable[[], torch.Tensor]:
    """A sampling run of stage 2 on 8,000 voxels."""
    sizes = SMALL_FLOW if options.small else FULL_FLOW
    with torch.device(options.device):
        flow = appearance_flow(sizes).to_precision(options.torso).eval()
    fill(flow)
    coords = shell(500 if options.small else 8_000).to(options.device)
    topology = VoxelTopology.build(coords, 64, levels=flow.levels)
    view = VoxelView(
        uv=torch.rand(len(coords), 2, device=options.device),
        tokens=_context(options, sizes),
        image=torch.rand(1, 3, 256, 256, device=options.device),
        latent=torch.randn(len(coords), 8, device=options.device),
    )
    prepared = flow.condition(view.tokens, sampling_times(config), topology, view=view)
    rows = torch.randn(len(coords), 8, device=options.device)
    return lambda: sample(flow.velocity(prepared), flow.velocity(prepared, null_half=True), rows, config)


def _context(options: Options, sizes: dict[str, Any]) -> torch.Tensor:
    tokens = 5 + (16 if options.small else 37 * 37)
    return torch.randn(1, tokens, sizes["cond_channels"], device=options.device)


def _sampled(what: str, call: Callable[[], torch.Tensor], options: Options) -> Row:
    if options.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(options.device)
    taken = milliseconds_of(call, replace(options, small=True))
    finite = bool(call().isfinite().all())
    memory = torch.cuda.max_memory_allocated(options.device) / 2**30 if options.device.type == "cuda" else 0.0
    return Row("full size", what, taken, f"{memory:.1f} GiB at most, {'finite' if finite else 'NOT FINITE'}")


def reconstruction(options: Options) -> Iterator[Row]:
    """The frame that ships, end to end, in torch and with engines."""
    settings = CupidConfig()
    inputs = read_inputs(sample_inputs(), settings)
    frame = Frame.of(inputs.image, inputs.masks, camera=inputs.camera, depth=inputs.depth, names=inputs.names)
    runtimes: list[RuntimeName] = ["torch", "tensorrt"] if options.device.type == "cuda" else ["torch", "auto"]
    for runtime in runtimes:
        try:
            cupid = Cupid.from_pretrained(options.checkpoint, device=options.device, runtime=runtime)
        except CupidError as error:
            yield Row("reconstruction", runtime, None, error.problem)
            continue
        cupid.reconstruct(frame)  # the first one prepares kernels
        start = time.perf_counter()
        scene = cupid.reconstruct(frame)
        taken = 1000 * (time.perf_counter() - start)
        steps = ", ".join(f"{name} {1000 * seconds:.0f}" for name, seconds in scene.timings_s.items())
        yield Row("reconstruction", f"{runtime}, {len(scene.objects)} objects", taken, steps)


def milliseconds_of(call: Callable[[], object], options: Options) -> float:
    """Median wall time of a call in milliseconds, the device's work included, after one call that is not timed."""
    call()
    seconds = []
    for _ in range(options.repeats):
        _wait(options.device)
        start = time.perf_counter()
        call()
        _wait(options.device)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


SECTIONS: dict[str, Section] = {
    "tests": marked_tests,
    "stages": stage_parity,
    "pose": pose_solver,
    "full-size": full_size,
    "reconstruction": reconstruction,
}

if __name__ == "__main__":
    main()
