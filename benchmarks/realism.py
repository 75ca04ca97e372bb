"""The effect of realistic training views on the result for a real photograph.

    python benchmarks/realism.py --config config/train/tabletop.yaml --root DIR --encoder-steps 1200 --steps 300
        --image color.png --labels labels.png --camera fx,fy,cx,cy

Trains image encoder and structure twice from fresh weights, for the same steps: "plain" on views as the generator
renders them, "realistic" on views with all effects of photographs that can be switched off: photographic and mask
errors, occluders, cut objects, rolled and shifted crops, changed exposure and color. Printed labels, gloss, lights
and shadows belong to the objects and are in both. DIR holds the autoencoders of `cupid train`, and any stage 2.
Then every object of the photograph goes through stage 1 and the pose solver, the camera known. With --start-from
CHECKPOINT the structure continues from trained weights, image encoder included, which shows within a few hundred
steps what plain views cost.

Results are in DIR/realism (DIR/realism-continued with --start-from): realism.csv, realism.md, one picture and
one training folder per variant. A run that was stopped continues when the same command is given again.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from compared_training import FRESH, link_stages, train_stage
from PIL import Image

from cupid_core import Cupid
from cupid_core import config as settings_of
from cupid_core.cli.inputs import InputArgs, Inputs, read_inputs
from cupid_core.config import CupidConfig
from cupid_core.data.tabletop import TabletopSettings
from cupid_core.errors import CupidError
from cupid_core.mesh.voxel_boxes import voxel_boxes
from cupid_core.reconstruct.results import SceneObject
from cupid_core.render.raycast import render_mesh
from cupid_core.report.pictures import object_color
from cupid_core.training.checkpoint import write_checkpoint
from cupid_core.training.settings import TrainConfig
from cupid_core.training.tabletop_source import TabletopSourceSettings
from cupid_core.training.view_change import ViewChangeSettings

VARIANTS = ("plain", "realistic")
# Stage 2 is not used, but a checkpoint is only read as a whole.
SHARED = ("shards", "occupancy-vae", "uv-vae", "appearance-vae", "appearance")


@dataclass(frozen=True)
class Plan:
    """Settings and folder of the training, steps of both stages, hypotheses, time to stop, start."""

    config: TrainConfig
    root: Path
    encoder_steps: int
    steps: int
    samples: int
    device: str = "cpu"
    time_limit_s: float | None = None
    start_from: str = ""

    @property
    def folder(self) -> Path:
        """Folder of the results."""
        return self.root / ("realism-continued" if self.start_from else "realism")

    @property
    def stages(self) -> dict[str, int]:
        """Steps of every stage that is trained."""
        encoder = {} if self.start_from else {"image-encoder": self.encoder_steps}
        return encoder | {"structure": self.steps}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="settings of the training")
    parser.add_argument("--root", type=Path, required=True, help="folder of the training, --out of `cupid train`")
    parser.add_argument("--encoder-steps", type=int, default=1200, help="of the stage image-encoder")
    parser.add_argument("--steps", type=int, default=300, help="of the stage structure")
    parser.add_argument("--start-from", default="", help="checkpoint the structure continues from")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True, help="number of the object at every pixel")
    parser.add_argument("--camera", required=True, help="fx,fy,cx,cy in pixels")
    parser.add_argument("--names", type=Path, help="names of the objects")
    parser.add_argument("--samples", type=int, default=4, help="hypotheses, of which the best is taken")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, help="stop a training after so long; run again to go on")
    options = parser.parse_args(arguments)
    config = settings_of.load(TrainConfig, options.config)
    limit = None if options.minutes is None else 60 * options.minutes
    plan = Plan(
        config,
        options.root,
        options.encoder_steps,
        options.steps,
        options.samples,
        options.device,
        limit,
        options.start_from,
    )
    if config.threads:
        torch.set_num_threads(config.threads)
    args = InputArgs(options.image, labels=options.labels, camera=options.camera, names=options.names)
    photo = read_inputs(args, CupidConfig())
    for variant in options.variants:
        if not trained(plan, variant):
            print(f"{variant}: stopped; give the command again")
            return 1
        measure(plan, variant, photo)
    print((plan.folder / "realism.md").read_text(encoding="utf-8"))
    return 0


def variant_config(plan: Plan, variant: str) -> TrainConfig:
    """The settings of a variant: the views differ, nothing else."""
    config = plan.config
    changed = {
        "image_encoder": config.image_encoder.model_copy(
            update={
                "views": _views(config.image_encoder.views, variant),
                "run": config.image_encoder.run.model_copy(update={"steps": plan.encoder_steps, **FRESH}),
            }
        ),
        "structure": config.structure.model_copy(
            update={
                "trained_encoder": not plan.start_from,
                "run": config.structure.run.model_copy(
                    update={"steps": plan.steps, **FRESH, "start_from": plan.start_from}
                ),
            }
        ),
        "tabletop": _views(config.tabletop, variant),
    }
    return config.model_copy(update=changed)


def trained(plan: Plan, variant: str) -> bool:
    """Train the stages until finished or out of time, continuing earlier runs; returns whether finished."""
    home, config = plan.folder / variant, variant_config(plan, variant)
    link_stages(home, plan.root, SHARED)
    for stage, steps in plan.stages.items():
        run = train_stage(
            stage, config, home, device=plan.device, time_limit_s=plan.time_limit_s, title=f"{variant} {stage}"
        )
        if run.step < steps:
            return False
    return True


def measure(plan: Plan, variant: str, photo: Inputs) -> None:
    """Stage 1 and pose of every object of the photograph: one line of realism.csv, one picture."""
    samplers = plan.config.samplers
    checkpoint = plan.folder / variant / "checkpoint"
    write_checkpoint(plan.folder / variant, checkpoint, (samplers.structure, samplers.appearance))
    cupid = Cupid.from_pretrained(str(checkpoint), device=plan.device)
    scene = cupid(photo.image, masks=photo.masks, camera=photo.camera, samples=plan.samples)
    found = dict(scene.failures) | {item.id: item for item in scene}
    Image.fromarray(outlined(photo, found)).save(plan.folder / f"{variant}.png")
    row = {photo.names.get(id_, str(id_)): f"{_iou(result):.3f}" for id_, result in found.items()}
    write_row(plan, variant, row)


def outlined(photo: Inputs, found: dict[int, SceneObject | CupidError]) -> np.ndarray:
    """The photograph (H, W, 3) with the outline of the voxels of every best hypothesis."""
    picture = photo.image.copy()
    for id_, result in found.items():
        if isinstance(result, SceneObject):
            best = result.best
            shape = voxel_boxes(best.structure.coords, best.structure.resolution)
            mask = render_mesh(shape, best.pose.T_camera_object, best.pose.camera).mask
            edges, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, edges, -1, object_color(id_), 2, cv2.LINE_AA)
    return picture


def write_row(plan: Plan, variant: str, row: dict[str, str]) -> None:
    """Write realism.csv and realism.md with the line of a variant, in place of an older one."""
    path, first = plan.folder / "realism.csv", {"views": variant}
    steps = {"encoder_steps": str(plan.stages.get("image-encoder", 0)), "steps": str(plan.steps)}
    lines: list[dict[str, str]] = []
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as stream:
            lines = [line for line in csv.DictReader(stream) if line["views"] != variant]
    lines = sorted([*lines, first | steps | row], key=lambda line: VARIANTS.index(line["views"]))
    names = list(lines[0])
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(lines)
    table = [" | ".join(names), " | ".join("---" for _ in names)]
    table += [" | ".join(line[name] for name in names) for line in lines]
    (plan.folder / "realism.md").write_text("".join(f"| {line} |\n" for line in table), encoding="utf-8")


def _views(views: TabletopSourceSettings, variant: str) -> TabletopSourceSettings:
    if variant == "realistic":
        return views
    objects: TabletopSettings = views.objects.model_copy(
        update={"degradation": 0.0, "occluded": 0.0, "truncated": 0.0, "roll_deg": 0.0}
    )
    change = ViewChangeSettings(
        mirrored=views.change.mirrored,
        moved=0.0,
        exposure_std=0.0,
        tint_std=0.0,
        gamma_std=0.0,
        noise_up_to=0.0,
    )
    return views.model_copy(update={"objects": objects, "change": change})


def _iou(result: SceneObject | CupidError) -> float:
    return result.best.quality.silhouette_iou if isinstance(result, SceneObject) else 0.0


if __name__ == "__main__":
    raise SystemExit(main())
