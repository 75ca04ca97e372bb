"""`cupid demo`: a generated RGB-D frame, reconstructed as a user would, and compared with its truth."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from cupid_core import config as settings_of
from cupid_core.cli.arguments import Assignments, OptionalFile, preset_with
from cupid_core.cli.inputs import InputArgs
from cupid_core.cli.reconstruct import NOTHING_RECONSTRUCTED, ReconstructOptions, run_reconstruction
from cupid_core.config import CupidConfig, PresetName, Refine
from cupid_core.data.tabletop.frame_files import write_frame
from cupid_core.data.tabletop.scene import SceneSettings, TabletopScene, draw_scene
from cupid_core.evaluation.scenes import scene_figures, scene_truth
from cupid_core.evaluation.tabletop_cases import UNSEEN_SEED
from cupid_core.models.locate import locate
from cupid_core.reconstruct.results import Scene
from cupid_core.report.write import check_output

FRAME = "frame"
RESULT = "result"
_FIGURES = {
    "iou": ("IoU", "{:.3f}"),
    "metric_rotation_deg": ("rotation", "{:.1f} deg"),
    "translation_mm": ("translation", "{:.1f} mm"),
    "scale_percent": ("scale", "{:.1f} %"),
    "chamfer_whole_mm": ("surface", "{:.1f} mm"),
}


def demo(
    *,
    out: Path = Path("demo"),
    scene: int = 0,
    seed: int = UNSEEN_SEED,
    families: str = "",
    width: int = 640,
    height: int = 480,
    checkpoint: str = "tabletop",
    preset: PresetName = "normal",
    samples: int = 0,
    refine: Refine | None = None,
    device: str = "auto",
    config: OptionalFile = None,
    assignments: Assignments = (),
) -> int:
    """Generate a tabletop RGB-D frame, reconstruct its objects, and compare them with the truth.

    Args:
        out: folder; the frame goes to frame/ in it, the results to result/.
        scene: which scene of the seed.
        seed: of the generator; the default is one that no training uses.
        families: exactly these kinds of objects, with commas between, instead of random ones.
        width: of the image, pixels, a multiple of 16.
        height: of the image, pixels, a multiple of 16.
        checkpoint: "tabletop", a folder in the published layout, or a hub id.
        preset: fast: one hypothesis per object; normal: one, fitted to depth and mask; best: four, fitted.
        samples: hypotheses per object, of which the best one is placed; 0 takes those of the preset.
        refine: what of the placed objects is fitted to depth and mask: none, pose or shape; else by the preset.
        device: auto, cpu, cuda or cuda:1; auto takes cuda where there is a GPU.
        config: settings file; `cupid config write FILE` makes one with all defaults.
        assignments: change a setting, e.g. refine.iterations=5.

    Returns:
        0, or 3 when not one object could be reconstructed.
    """
    console = Console()
    check_output(out / RESULT)
    locate(checkpoint)
    effort = preset_with(preset, samples=samples, refine=refine)
    options = ReconstructOptions(checkpoint, effort.samples, effort.refine, device=device)
    settings = settings_of.load(CupidConfig, config, assignments)
    scenes = SceneSettings(width=width, height=height, least=3, most=5)
    console.print("generate a frame", highlight=False)
    with torch.no_grad():
        kinds = [name.strip() for name in families.split(",") if name.strip()] or None
        generated = draw_scene(scene, scenes, seed=seed, families=kinds)
    files = write_frame(generated, out / FRAME)
    args = InputArgs(files.color, labels=files.labels, camera_info=files.info, depth=files.depth, names=files.info)
    result = run_reconstruction(args, options, settings, out / RESULT, Console(stderr=True))
    console.print(truth_table(generated, result))
    for id_, error in sorted(result.failures.items()):
        console.print(f"{id_}: error [{error.code}]: {error}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{sum(result.timings_s.values()):.1f} s to reconstruct", highlight=False)
    console.print(f"report: {out / RESULT / 'report.html'}", highlight=False, soft_wrap=True)
    return 0 if result.objects else NOTHING_RECONSTRUCTED


def truth_table(generated: TabletopScene, result: Scene) -> Table:
    """A row per true object: silhouette IoU, errors of rotation (up to symmetry), place, scale and surface."""
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "object", "verdict", "visible", *(words for words, _ in _FIGURES.values())):
        table.add_column(heading, justify="left" if heading in ("object", "verdict") else "right")
    found = {item.id: item for item in result.objects}
    for item in generated.objects:
        placed, figures = found.get(item.label), {}
        if placed is not None:
            figures = scene_figures(
                scene_truth(generated, item, result.camera), placed, generated.labels == item.label
            )
        table.add_row(
            str(item.label),
            item.family,
            "missing" if placed is None else placed.quality.verdict.value,
            f"{100 * item.visible:.0f} %",
            *(form.format(figures[name]) if name in figures else "-" for name, (_, form) in _FIGURES.items()),
        )
    return table
