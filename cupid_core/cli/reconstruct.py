"""`cupid reconstruct`: from an image and what is known about it to meshes, poses, pictures and a report."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cupid_core import __version__
from cupid_core import config as settings_of
from cupid_core.cli.arguments import Assignments, OptionalFile, Switch, preset_with
from cupid_core.cli.inputs import InputArgs, Inputs, read_inputs, sample_inputs
from cupid_core.cli.progress import StageBars
from cupid_core.config import CupidConfig, PresetName, Refine, RuntimeName
from cupid_core.image.orientation import Orientation
from cupid_core.models.locate import checkpoint_hash, locate
from cupid_core.reconstruct.inputs import Frame
from cupid_core.reconstruct.pipeline import Cupid, Request
from cupid_core.reconstruct.progress import Progress, Run
from cupid_core.reconstruct.results import Scene, SceneObject
from cupid_core.report.objects_json import RunRecord
from cupid_core.report.save import has_urdf, save_results
from cupid_core.report.write import check_output
from cupid_core.runtime.device import choose_device, inference_dtype
from cupid_core.types import CameraSource, ScaleSource

NOTHING_RECONSTRUCTED = 3
_VERDICT_COLORS = {"good": "green", "doubtful": "yellow", "failed": "red"}


@dataclass(frozen=True)
class ReconstructOptions:
    """How to reconstruct.

    Attributes:
        checkpoint: embedded name, folder or hub id.
        samples: hypotheses per object.
        refine: what fits the placed objects to mask and depth.
        seed: of the noise.
        device: where the networks run; "auto" takes cuda where there is a GPU.
        urdf: also write models for simulators.
        gaussians: also write Gaussian splats.
        runtime: what runs the networks; None takes that of the settings.
    """

    checkpoint: str = "tabletop"
    samples: int = 1
    refine: Refine = "none"
    seed: int = 0
    device: str = "auto"
    urdf: bool = False
    gaussians: bool = False
    runtime: RuntimeName | None = None


def reconstruct(
    image: tyro.conf.Positional[Path],
    *,
    out: Path,
    mask: OptionalFile = None,
    labels: OptionalFile = None,
    box: str = "",
    camera: str = "",
    camera_info: OptionalFile = None,
    depth: OptionalFile = None,
    depth_unit_m: float | None = None,
    names: OptionalFile = None,
    known_size: str = "",
    up: str = "",
    orientation: Orientation = "auto",
    checkpoint: str = "tabletop",
    preset: PresetName = "normal",
    samples: int = 0,
    refine: Refine | None = None,
    urdf: Switch = False,
    gaussians: Switch = False,
    seed: int = 0,
    device: str = "auto",
    runtime: RuntimeName | None = None,
    config: OptionalFile = None,
    assignments: Assignments = (),
) -> int:
    """Reconstruct the objects of an image: meshes in their own frames, poses, a scene and a report.

    Where the object is comes from --mask, --labels, --box or the image's alpha channel. Depth or --known-size
    gives meters; without, poses are up to scale and say so.

    Args:
        image: PNG, JPEG, TIFF, WebP, BMP or .npy; or the word sample: the RGB-D frame that ships with the package.
        out: folder for objects.json, meshes, overlay.png and report.html; earlier results in it are replaced.
        mask: mask image of one object, bright or opaque where the object is.
        labels: label image: the id of the object at every pixel, 0 for none.
        box: x0,y0,x1,y1 in pixels around one object; its mask is found inside.
        camera: fx,fy,cx,cy in pixels, or exif: the focal length that the photo itself states.
        camera_info: YAML or JSON with a sensor_msgs/CameraInfo or a calibration, lens distortion included.
        depth: depth image aligned to the image: whole numbers of 16 bits or more in millimeters, or floating in
            meters.
        depth_unit_m: meters per count of the depth image; not given, 0.001 for whole numbers and 1 for floating.
        names: YAML or JSON with the names of the objects by id.
        known_size: longest side in meters, e.g. 0.19, or for several objects 1=0.19,3=0.08.
        up: x,y,z against gravity in the camera frame (x right, y down, z forward), from an IMU or how a camera is
            mounted: --up=0,-1,0 for a level one. A camera may hang sideways or upside down.
        orientation: which pixels of a photo that is stored turned (EXIF) mask, labels and depth belong to: upright
            or stored; auto tells by their size.
        checkpoint: "tabletop", a folder in the published layout, or a hub id.
        preset: fast: one hypothesis per object; normal: one, fitted to depth and mask; best: four, fitted.
        samples: hypotheses per object, of which the best one is placed; 0 takes those of the preset.
        refine: what of the placed objects is fitted to depth and mask: none, pose or shape; else by the preset.
        urdf: also write a model for simulators of each object: visual and convex collision meshes, mass, inertia.
        gaussians: also write Gaussian splats, where the checkpoint has their decoder.
        seed: the same seed gives the same result.
        device: auto, cpu, cuda or cuda:1; auto takes cuda where there is a GPU.
        runtime: what runs the networks: auto, torch, onnx or tensorrt; `cupid export` and `cupid build` prepare
            the last two, and auto takes what is prepared and faster. Not given, the setting reconstruct.runtime.
        config: settings file; `cupid config write FILE` makes one with all defaults.
        assignments: change a setting, e.g. refine.iterations=5; `cupid config describe` lists them all.

    Returns:
        0, or 3 when not one object could be reconstructed.
    """
    inputs = InputArgs(
        image, mask, labels, box, camera, camera_info, depth, depth_unit_m, names, known_size, up, orientation
    )
    if image == Path("sample") and not image.exists():
        inputs = sample_inputs()
    settings = settings_of.load(CupidConfig, config, assignments)
    effort = preset_with(preset, samples=samples, refine=refine)
    options = ReconstructOptions(checkpoint, effort.samples, effort.refine, seed, device, urdf, gaussians, runtime)
    scene = run_reconstruction(inputs, options, settings, out, Console(stderr=True))
    show_summary(scene, out, Console(), urdf=urdf)
    return 0 if scene.objects else NOTHING_RECONSTRUCTED


def run_reconstruction(
    args: InputArgs, options: ReconstructOptions, settings: CupidConfig, out: Path, console: Console
) -> Scene:
    """Read, reconstruct, write; shows its progress.

    Args:
        args: names of the inputs.
        options: how to reconstruct.
        settings: of every step.
        out: folder of the results.
        console: of the progress.

    Raises:
        CupidError: an input cannot be used, the checkpoint is missing, or the folder cannot be written to. Nothing
            is written then.
    """
    check_output(out)
    device = choose_device(options.device)
    inputs = read_inputs(args, settings, device=str(device))
    for note in inputs.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    folder = locate(options.checkpoint)
    with StageBars(console) as bars:
        cupid = Cupid.from_pretrained(
            folder, device=device, dtype=inference_dtype(device), config=settings, runtime=options.runtime
        )
        frame = Frame.of(
            inputs.image,
            inputs.masks,
            camera=inputs.camera,
            camera_source=CameraSource.EXIF if args.camera == "exif" else None,
            depth=inputs.depth,
            names=inputs.names,
            sizes_m=inputs.sizes_m,
            up=inputs.up,
        )
        request = Request(options.seed, options.samples, options.refine)
        scene = cupid.reconstruct(frame, request, Run(bars))
        bars(Progress("write", 0.0))
        record = _record(args, inputs, replace(options, device=str(device)), settings, folder)
        save_results(
            scene, record, out, settings, names=inputs.names, urdf=options.urdf, gaussians=options.gaussians
        )
        bars(Progress("write", 1.0))
    return scene


def show_summary(scene: Scene, out: Path, console: Console, *, urdf: bool = False) -> None:
    """Print a row per object, why others are missing, and where the report is."""
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "object", "verdict", "right", "IoU", "depth", "size", "deviation"):
        justify: Literal["left", "right"] = "left" if heading in ("object", "verdict") else "right"
        table.add_column(heading, justify=justify, no_wrap=heading != "object")
    for item in scene.objects:
        table.add_row(*_row(item))
    if scene.objects:
        console.print(table)
        sources = sorted({item.model.scale_source.value.replace("_", " ") for item in scene.objects})
        console.print(f"scale from: {', '.join(sources)}; deviation of size, position, rotation", highlight=False)
    for item in scene.objects:
        for reason in item.quality.reasons:
            console.print(f"{item.id} {escape(item.label)}: {escape(reason)}", highlight=False, soft_wrap=True)
    for id_, error in sorted(scene.failures.items()):
        text = escape(f"{id_}: error [{error.code}]: {error}")
        console.print(f"[red]{text}[/red]", highlight=False, soft_wrap=True)
    for item in scene.objects if urdf else ():
        if not has_urdf(item):
            reason = "its mesh is not closed" if not item.model.watertight else "its scale is unknown"
            console.print(f"{item.id} {escape(item.label)}: no URDF, because {reason}", highlight=False)
    total = sum(scene.timings_s.values())
    console.print(f"{total:.1f} s; report: {out / 'report.html'}", markup=False, highlight=False, soft_wrap=True)


def _percent(item: SceneObject) -> str:
    return f"{100 * item.model.scale_std / item.model.scale:.0f} %"


def _row(item: SceneObject) -> tuple[str, ...]:
    quality, metric = item.quality, item.model.scale_source is not ScaleSource.UNKNOWN
    extent = (item.mesh.vertices.amax(dim=0) - item.mesh.vertices.amin(dim=0)).tolist()
    size = "x".join(f"{value * 1000:.0f}" for value in extent)
    turn = f"{math.degrees(item.state.rotation_std(item.model.symmetry)):.0f}°"
    color = _VERDICT_COLORS[quality.verdict.value]
    return (
        str(item.id),
        escape(item.label),
        f"[{color}]{quality.verdict.value}[/]",
        "-" if quality.p_good is None else f"{100 * quality.p_good:.0f} %",
        f"{quality.silhouette_iou:.3f}",
        "-" if quality.depth_residual_m is None else f"{quality.depth_residual_m * 1000:.1f} mm",
        f"{size} mm" if metric else "unknown",
        f"{_percent(item)} {1000 * item.state.position_std():.0f} mm {turn}" if metric else turn,
    )


def _record(
    args: InputArgs, inputs: Inputs, options: ReconstructOptions, settings: CupidConfig, folder: Path
) -> RunRecord:
    given = args.given()
    if inputs.depth is not None and args.depth is None:
        given["depth"] = inputs.depth.source.value
    return RunRecord(
        image=args.image.name,
        version=__version__,
        checkpoint=options.checkpoint,
        checkpoint_sha256=checkpoint_hash(folder),
        seed=options.seed,
        samples=options.samples,
        settings=settings.model_dump(mode="json"),
        inputs=given,
        device=options.device,
    )
