"""What the fit of shape to mask and depth is worth, beside the truth of generated views and on a real frame.

    python benchmarks/shape_fit.py [--views 16] [--samples 2] [--seed 901] [--held-out] [--frame DIR] --out DIR

Generated views have sensor depth and the errors of a segmentation; what is scored against the mask that was fitted
would prove little, so silhouettes, whole surfaces and the side that is not seen are compared with the truth. Rows:
first sample, refined (the place alone), nine parameters, offsets; and as baselines an ellipsoid of the
predicted box with nine parameters and with offsets. Reconstructions are made once and kept in memory.

With --frame (frame.json, color.png, depth.png, labels.png) also outline and depth of every object of a real frame,
which are measured with the mask and the depth that were fitted. Results go to DIR/shape_fit.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import trimesh
from rich.progress import track

from cupid_core import Cupid
from cupid_core.config import PlacementConfig, ShapeFitConfig
from cupid_core.data.tabletop import TabletopSettings
from cupid_core.errors import CupidError
from cupid_core.evaluation.measure import placed_figures
from cupid_core.evaluation.tabletop_cases import TabletopCase, tabletop_cases
from cupid_core.geometry import Camera, Sim3
from cupid_core.image.files import read_depth, read_labels
from cupid_core.mesh.finish import finish_mesh
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.reconstruct.inputs import Frame
from cupid_core.reconstruct.pipeline import Request
from cupid_core.render.raycast import render_mesh
from cupid_core.scene.agreement import depth_residual_m, depths_of, silhouette_iou
from cupid_core.scene.observation import Observation
from cupid_core.scene.occlusion import occlusion_masks
from cupid_core.scene.place import place_with_depth
from cupid_core.scene.refine import refine_placement
from cupid_core.scene.shape_fit import ShapeFit, fit_shapes
from cupid_core.types import TriangleMesh

Placed = tuple[TriangleMesh, Sim3]
Method = Callable[[Sequence[Placed], Observation], Placed]
Figures = dict[str, float]

ELLIPSOID_SUBDIVISIONS = 3


@dataclass(frozen=True, eq=False)
class View:
    """One object to fit: its hypotheses at their places in metres, best first, and what was observed."""

    name: str
    hypotheses: list[Placed]
    observation: Observation
    case: TabletopCase | None = None


def fitted(hypotheses: Sequence[Placed], observation: Observation, config: ShapeFitConfig) -> Placed:
    """All hypotheses fitted, the best of them by the pixels that were not."""
    best: ShapeFit = max(fit_shapes(hypotheses, observation, config), key=lambda fit: fit.score)
    return best.mesh, best.S_camera_object


def refined(hypotheses: Sequence[Placed], observation: Observation) -> Placed:
    """The best hypothesis, its place alone refined."""
    mesh, S = hypotheses[0]
    done = refine_placement(
        mesh, S, observation.mask, observation.depth, observation.camera, hidden=observation.occlusion
    )
    return mesh, done.S_camera_object


def ellipsoid(hypotheses: Sequence[Placed]) -> list[Placed]:
    """The ellipsoid in the box of the best hypothesis: what a fit makes of a shape that knows nothing."""
    mesh, S = hypotheses[0]
    low, high = mesh.vertices.amin(dim=0), mesh.vertices.amax(dim=0)
    ball = trimesh.creation.icosphere(subdivisions=ELLIPSOID_SUBDIVISIONS)
    vertices = torch.from_numpy(np.asarray(ball.vertices)).to(low) * (high - low) / 2 + (high + low) / 2
    return [(TriangleMesh(vertices, torch.from_numpy(np.asarray(ball.faces)).long()), S)]


NINE, OFFSETS = ShapeFitConfig(offset_steps=0), ShapeFitConfig()
METHODS: dict[str, Method] = {
    "first sample": lambda hypotheses, _: hypotheses[0],
    "refined place": refined,
    "nine parameters": lambda hypotheses, seen: fitted(hypotheses, seen, NINE),
    "offsets": lambda hypotheses, seen: fitted(hypotheses, seen, OFFSETS),
    "ellipsoid, nine parameters": lambda hypotheses, seen: fitted(ellipsoid(hypotheses), seen, NINE),
    "ellipsoid, offsets": lambda hypotheses, seen: fitted(ellipsoid(hypotheses), seen, OFFSETS),
}


def generated_views(cupid: Cupid, count: int, samples: int, seed: int, split: str) -> Iterator[View | None]:
    """Views of unseen objects with their hypotheses; None where there is none."""
    for index in range(count):
        (case,) = tabletop_cases([index], TabletopSettings(), seed=seed, split=split)
        if case.depth is None:
            yield None
            continue
        observation = Observation(case.mask, case.camera, case.occlusion, case.depth)
        try:
            frame = Frame.of(
                case.image,
                {1: case.mask},
                camera=case.camera,
                depth=case.depth,
                occlusion_masks={1: case.occlusion & ~case.mask},
            )
            found = cupid.reconstruct(frame, Request(samples=samples))[0]
            pairs = [(item.mesh(), item.pose) for item in found.hypotheses]
            yield View(case.family, placed(pairs, observation), observation, case)
        except CupidError as error:
            print(f"view {index} ({case.family}): [{error.code}] {error.problem}")
            yield None


def placed(hypotheses: Sequence[tuple[TriangleMesh, PoseEstimate]], observation: Observation) -> list[Placed]:
    """Cleaned meshes at their places in metres, in their order.

    Raises:
        CupidError: none of them has a place.
    """
    found, failure = [], None
    assert observation.depth is not None
    for mesh, pose in hypotheses:
        try:
            clean = finish_mesh(mesh).mesh
            place = place_with_depth(
                clean, pose, observation.depth, observation.mask, camera_known=True, config=PlacementConfig()
            )
            found.append((clean, place.S_camera_object))
        except CupidError as error:
            failure = error
    if not found and failure is not None:
        raise failure
    return found


def observed_figures(observation: Observation, mesh: TriangleMesh, S: Sim3) -> Figures:
    """A placed mesh beside the mask and the depth it was fitted to."""
    rendering = render_mesh(replace(mesh, normals=None, colors=None), S, observation.camera)
    assert observation.depth is not None
    residual = depth_residual_m(rendering, depths_of(observation.depth), observation.mask)
    return {
        "placed_iou": silhouette_iou(rendering, observation.mask, observation.occlusion),
        "residual_mm": float("nan") if residual is None else 1000 * residual,
    }


def frame_views(cupid: Cupid, folder: Path, samples: int) -> list[View]:
    """The objects of a frame on disk with their hypotheses."""
    about = json.loads((folder / "frame.json").read_text(encoding="utf-8"))
    labels = read_labels(folder / "labels.png")
    camera = Camera(torch.tensor(about["K"], dtype=torch.float64), about["width"], about["height"])
    depth = read_depth(folder / "depth.png", metres_per_count=about["depth_scale"])
    hidden = occlusion_masks(labels, depth)
    scene = cupid(folder / "color.png", masks=labels, camera=camera, depth=depth, samples=samples)
    names = {item["label"]: item["name"] for item in about["objects"]}
    views = []
    for item in scene.objects:
        observation = Observation(labels == item.id, camera, hidden[item.id], depth)
        pairs = [(h.mesh(), h.pose) for h in item.hypotheses]
        views.append(View(names[item.id], placed(pairs, observation), observation))
    return views


def measured(views: Sequence[View], methods: dict[str, Method]) -> dict[str, list[Figures]]:
    """Figures and seconds of every method on every view."""
    figures: dict[str, list[Figures]] = {name: [] for name in methods}
    for view in track(views, description="fit"):
        for name, method in methods.items():
            start, used = time.perf_counter(), time.process_time()
            mesh, S = method(view.hypotheses, view.observation)
            seconds = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - used}
            case = view.case
            if case is None:
                found = observed_figures(view.observation, mesh, S)
            else:
                found = placed_figures(case, mesh, S, metric=True)
            figures[name].append({**found, **seconds})
    return figures


def summary(figures: Sequence[Figures]) -> Figures:
    """Means over views, medians of seconds, and the share of silhouettes of at least .90."""
    row = {}
    for name in figures[0]:
        values = [item[name] for item in figures if not np.isnan(item[name])]
        row[name] = statistics.median(values) if "seconds" in name else statistics.fmean(values)
    row["good"] = statistics.fmean(item["placed_iou"] >= 0.9 for item in figures)
    return row


def print_table(rows: dict[str, Figures]) -> None:
    """One line per method."""
    names = list(next(iter(rows.values())))
    print(f"{'':28s}" + "".join(f"{name:>15s}" for name in names))
    for label, row in rows.items():
        print(f"{label:28s}" + "".join(f"{row[name]:15.3f}" for name in names))


def main() -> None:
    """Reconstruct, fit, measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="tabletop")
    parser.add_argument("--views", type=int, default=16)
    parser.add_argument("--samples", type=int, default=2, help="hypotheses per object")
    parser.add_argument("--seed", type=int, default=901, help="of the views; none that was trained on")
    parser.add_argument("--held-out", action="store_true", help="families that were never trained")
    parser.add_argument("--frame", type=Path, help="folder of a real frame")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    cupid = Cupid.from_pretrained(given.checkpoint)
    split = "held_out" if given.held_out else "train"
    stream = generated_views(cupid, given.views, given.samples, given.seed, split)
    views = [view for view in track(stream, description="reconstruct", total=given.views) if view is not None]
    result: dict[str, object] = {"views": len(views), "of": given.views, "families": [v.name for v in views]}
    if views:
        figures = measured(views, METHODS)
        print_table({name: summary(rows) for name, rows in figures.items()})
        result["generated"] = figures
    if given.frame is not None:
        real = frame_views(cupid, given.frame, given.samples)
        figures = measured(real, METHODS)
        for number, view in enumerate(real):
            print_table({f"{view.name}, {name}": rows[number] for name, rows in figures.items()})
        print_table({name: summary(rows) for name, rows in figures.items()})
        result["frame"] = {"objects": [view.name for view in real], "figures": figures}
    (given.out / "shape_fit.json").write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
