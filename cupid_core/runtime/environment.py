"""What this machine offers: versions, devices, optional packages, checkpoints. Reads; changes nothing.

Optional packages are looked up without importing them where possible, because importing some of them takes
seconds or claims GPU memory.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from cupid_core.errors import CupidError, MissingPackageError
from cupid_core.models.locate import PUBLISHED, embedded
from cupid_core.runtime.device import choose_device
from cupid_core.runtime.select import find_stages, is_faster
from cupid_core.runtime.tensorrt_build import tensorrt_package, version_of

Level = Literal["ok", "missing", "problem"]

# open3d's wheels link with these, and a server or container image often lacks them.
GRAPHICS_LIBRARIES = ("libGL.so.1", "libEGL.so.1", "libX11.so.6")
GRAPHICS_PACKAGES = "libgl1 libegl1 libx11-6"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked for.
        level: "ok" found, "missing" an optional part is not there, "problem" something the package needs.
        found: version, device or path as found; empty when there is nothing.
        meaning: what that means for the user, with the hint where something is missing.
    """

    name: str
    level: Level
    found: str
    meaning: str


def inspect_environment() -> tuple[Finding, ...]:
    """Look at everything the package can make use of, in the order a user would ask for it."""
    return (
        _python(),
        _torch(),
        _cuda(),
        graphics_libraries(),
        *_accelerated_runtimes(),
        _ros(),
        *_perception(),
        *_checkpoints(),
    )


def readiness(findings: Sequence[Finding]) -> tuple[bool, str]:
    """Whether objects can be reconstructed on this machine, and one sentence that says so.

    Args:
        findings: of `inspect_environment`.
    """
    problems = [finding for finding in findings if finding.level == "problem"]
    if problems:
        return False, "Not ready: " + "; ".join(f"{item.name}: {item.meaning}" for item in problems) + "."
    device = choose_device()
    place = "the CPU" if device.type == "cpu" else f"the GPU ({torch.cuda.get_device_name(device)})"
    found = [finding.name for finding in findings if finding.level == "ok" and "checkpoint" in finding.name]
    return True, f"Ready: `cupid reconstruct` runs on {place} with the {' or the '.join(found)}."


def _python() -> Finding:
    version = platform.python_version()
    good = tuple(int(part) for part in version.split(".")[:2]) >= (3, 10)
    meaning = "supported" if good else "too old: Python 3.10 or newer is needed"
    return Finding("Python", "ok" if good else "problem", f"{version} {platform.machine()}", meaning)


def _torch() -> Finding:
    return Finding("torch", "ok", torch.__version__, f"{torch.get_num_threads()} CPU threads")


def _cuda() -> Finding:
    if not torch.cuda.is_available():
        built = torch.version.cuda
        cause = f"torch is built for CUDA {built} but sees no GPU" if built else "this torch is a CPU build"
        return Finding("CUDA", "missing", "", f"{cause}: networks run on the CPU")
    device = torch.cuda.get_device_properties(0)
    memory_gib = device.total_memory / 2**30
    found = f"{torch.version.cuda}, {device.name}, {memory_gib:.0f} GiB, capability {device.major}.{device.minor}"
    return Finding("CUDA", "ok", found, "networks run on this GPU (device='cuda')")


def graphics_libraries(names: Sequence[str] = GRAPHICS_LIBRARIES) -> Finding:
    """Whether the system libraries of OpenGL that open3d links with can be loaded.

    Args:
        names: file names for the dynamic loader.
    """
    if sys.platform != "linux":
        return Finding("OpenGL libraries", "ok", sys.platform, "part of the system")
    absent = [name for name in names if not _can_be_loaded(name)]
    if absent:
        meaning = f"{', '.join(absent)} cannot be loaded, so open3d cannot: `apt install {GRAPHICS_PACKAGES}`"
        return Finding("OpenGL libraries", "problem", "", meaning)
    return Finding("OpenGL libraries", "ok", ", ".join(names), "open3d can be loaded")


def _can_be_loaded(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _accelerated_runtimes() -> Iterator[Finding]:
    yield _package(
        "ONNX Runtime",
        ("onnxruntime", "onnxruntime-gpu"),
        module="onnxruntime",
        use="exported networks run faster on the CPU (`cupid export`)",
        lack="networks run through torch; `pip install onnxruntime` to run exported ones",
    )
    yield _tensorrt()
    for name, folder in embedded().items():
        yield _exported_stages(name, folder)


def _tensorrt() -> Finding:
    try:
        found = version_of(tensorrt_package())
    except MissingPackageError as error:
        return Finding("TensorRT", "missing", "", f"networks run without it. {error.hint}")
    return Finding("TensorRT", "ok", found, "`cupid build` compiles networks to engines for --runtime tensorrt")


def _exported_stages(name: str, folder: Path) -> Finding:
    title, command = f"exported {name}", f"`cupid export --checkpoint {name}`"
    try:
        found = find_stages(folder)
    except CupidError as error:
        return Finding(title, "missing", "", f"{error.problem} {command} makes it again")
    if found is None:
        return Finding(title, "missing", "", f"its networks run in torch; {command} makes them faster on a CPU")
    place, manifest = found
    faster = [stage for stage, item in manifest.stages.items() if is_faster(item)]
    meaning = f"ONNX Runtime runs {len(faster)} of {len(manifest.stages)} stages, the others are faster in torch"
    return Finding(title, "ok", str(place), meaning)


def _ros() -> Finding:
    distribution = os.environ.get("ROS_DISTRO", "")
    if importlib.util.find_spec("rclpy") is not None:
        return Finding("ROS 2", "ok", distribution or "rclpy found", "the node can run")
    meaning = (
        "the library and the `cupid` command work without it; source /opt/ros/<distro>/setup.bash for the node"
    )
    return Finding("ROS 2", "missing", distribution, meaning)


def _perception() -> Iterator[Finding]:
    yield _package(
        "SAM 2",
        ("sam2", "SAM-2"),
        module="sam2",
        use="masks from boxes and points (weights given by path or hub name)",
        lack="masks are given or come from GrabCut; `pip install 'cupid_ros[sam2]'` for better ones",
    )
    yield _package(
        "MoGe",
        ("moge",),
        module="moge",
        use="monocular depth where no sensor gives any (weights of MoGe-2 by path or hub name)",
        lack="metric scale needs a depth sensor or a known size; or `pip install 'cupid_ros[moge]'` for a model's",
    )


def _package(name: str, distributions: tuple[str, ...], *, module: str, use: str, lack: str) -> Finding:
    if importlib.util.find_spec(module) is None:
        return Finding(name, "missing", "", lack)
    for distribution in distributions:
        try:
            return Finding(name, "ok", importlib.metadata.version(distribution), use)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Finding(name, "ok", "version unknown", use)


def _checkpoints() -> Iterator[Finding]:
    inside, cached = embedded(), _hub_cache_folder(PUBLISHED)
    for name, folder in inside.items():
        yield Finding(f"checkpoint {name}", "ok", str(folder), "ships inside; runs on a bare CPU")
    if not inside:
        meaning = "this version ships no checkpoint: give the folder of one, or pull the published one"
        yield Finding("embedded checkpoint", "missing" if cached else "problem", "", meaning)
    if cached is None:
        command = f"cupid checkpoint pull {PUBLISHED}@<commit>"
        meaning = f"full-size networks are not on this machine; `{command}` fetches them"
        yield Finding(f"checkpoint {PUBLISHED}", "missing", "", meaning)
    else:
        yield Finding(f"checkpoint {PUBLISHED}", "ok", str(cached), "full-size networks, usable offline")


def _hub_cache_folder(repository: str) -> Path | None:
    """Where a hub repository with a pipeline.json lies in the local cache, if it does."""
    from huggingface_hub import constants  # the import takes a second; only the report needs it

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    return folder if any(folder.glob("snapshots/*/pipeline.json")) else None
