"""What the color of the photograph is worth: re-rendered input views, hidden sides beside the truth, seconds.

    python benchmarks/photo_color.py [--views 20] [--samples 1] [--seed 902] [--frame DIR] --out DIR

Every object is reconstructed once with generated color and then colored from its photograph at its place. Rows:

* `generated`: as decoded.
* `photo, gray`: what color from the photograph makes of a gray mesh, so without any network for color.
* `photo`: as it is handed out.

Figures, PSNR in dB: `photo`, the re-rendered input view inside mask and outline beside the photograph; on
generated views also `unlit`, the same beside the true colors without light, and `hidden`, colors of the true
surface that no pixel shows, each taken from the nearest place of the reconstruction. `seconds` is CPU time of
coloring.

The frame that ships, generated views, and with --frame a frame on disk (frame.json, color.png, depth.png,
labels.png). DIR gets photo_color.json and a picture of every object from six sides: generated above, photo below.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from cupid_core import Cupid, sample_frame
from cupid_core.config import CupidConfig, ReconstructConfig
from cupid_core.data.tabletop import TabletopSettings
from cupid_core.data.tabletop.objects import build_objects
from cupid_core.data.tabletop.splits import draw_shape
from cupid_core.errors import CupidError
from cupid_core.evaluation.image_metrics import psnr
from cupid_core.evaluation.shape_metrics import nearest_points
from cupid_core.evaluation.surface_truth import surface_appearance
from cupid_core.evaluation.tabletop_cases import TabletopCase, tabletop_cases
from cupid_core.geometry import SE3, Camera, Sim3, unproject_depth
from cupid_core.image.files import read_depth, read_labels
from cupid_core.reconstruct.inputs import Frame
from cupid_core.reconstruct.pipeline import Request
from cupid_core.reconstruct.results import Scene, SceneObject
from cupid_core.render.cameras import turntable
from cupid_core.render.raycast import MeshCaster
from cupid_core.report.pictures import shaded
from cupid_core.scene.photo_color import color_from_photo
from cupid_core.types import TriangleMesh

Figures = dict[str, float]
ROWS = ("generated", "photo, gray", "photo")
SIZE_PX = 256
# A true point is hidden if no visible one is nearer, in edges of the canonical cube.
HIDDEN = 1 / 32


@dataclass(frozen=True, eq=False)
class Case:
    """A reconstructed object with its photograph, and the truth and the seed of a generated one."""

    name: str
    item: SceneObject
    scene: Scene
    truth: TabletopCase | None = None
    seed: int = 0


def generated_cases(cupid: Cupid, count: int, samples: int, seed: int) -> Iterator[Case]:
    """Views of objects that were never trained on, with depth; those without a result are left out."""
    for index in track(range(count), description="reconstruct"):
        (case,) = tabletop_cases([index], TabletopSettings(), seed=seed)
        try:
            frame = Frame.of(
                case.image,
                {1: case.mask},
                camera=case.camera,
                depth=case.depth,
                occlusion_masks={1: case.occlusion & ~case.mask},
            )
            scene = cupid.reconstruct(frame, Request(samples=samples, refine="shape"))
            yield Case(f"{index:02d} {case.family}", scene[0], scene, case, seed)
        except CupidError as error:
            print(f"view {index} ({case.family}): [{error.code}] {error.problem}")


def sample_cases(cupid: Cupid, samples: int) -> list[Case]:
    """The objects of the frame that ships."""
    files = sample_frame()
    scene = cupid(
        files.color, masks=files.labels, camera=files.camera, depth=files.depth, samples=samples, refine="shape"
    )
    return [Case(f"sample {item.id}", item, scene) for item in scene]


def frame_cases(cupid: Cupid, samples: int, folder: Path) -> list[Case]:
    """The objects of a frame on disk."""
    about = json.loads((folder / "frame.json").read_text(encoding="utf-8"))
    camera = Camera(torch.tensor(about["K"], dtype=torch.float64), about["width"], about["height"])
    depth = read_depth(folder / "depth.png", metres_per_count=about["depth_scale"])
    labels = read_labels(folder / "labels.png")
    scene = cupid(folder / "color.png", masks=labels, camera=camera, depth=depth, samples=samples, refine="shape")
    names = {entry["label"]: entry["name"] for entry in about["objects"]}
    return [Case(f"{folder.name} {names[item.id]}", item, scene) for item in scene]


def colored(case: Case) -> tuple[dict[str, TriangleMesh], float]:
    """The mesh of an object with each kind of color, and the CPU seconds that `photo` took."""
    item, scene = case.item, case.scene
    S, mask = Sim3.from_se3(item.pose.to(dtype=torch.float64)), scene.labels == item.id
    start = time.process_time()
    photo = color_from_photo(item.mesh, S, scene.camera, scene.image, mask)
    seconds = time.process_time() - start
    gray = color_from_photo(replace(item.mesh, colors=None), S, scene.camera, scene.image, mask)
    return dict(zip(ROWS, (item.mesh, gray, photo), strict=True)), seconds


def figures_of(case: Case, mesh: TriangleMesh) -> Figures:
    """PSNR of one mesh; see the top of the file."""
    caster = MeshCaster(mesh)
    rendering = caster.render(case.item.pose, case.scene.camera)
    inside = rendering.mask & (case.scene.labels == case.item.id)
    if rendering.colors is None or not inside.any():
        return {"photo": math.nan}
    found = {"photo": _psnr(rendering.colors[inside], case.scene.image[inside] / 255)}
    if case.truth is None:
        return found
    truth = case.truth
    true = np.zeros(case.scene.image.shape)
    rows, columns = slice(truth.top, truth.top + truth.size), slice(truth.left, truth.left + truth.size)
    true[rows, columns] = truth.colors.numpy()
    outline = np.zeros(inside.shape, bool)
    outline[rows, columns] = truth.silhouette.numpy()
    both = rendering.mask & outline
    return {
        **found,
        "unlit": _psnr(rendering.colors[both], true[both]),
        "hidden": hidden_psnr(truth, case.seed, case.item.pose, mesh),
    }


def hidden_psnr(truth: TabletopCase, seed: int, pose: SE3, mesh: TriangleMesh) -> float:
    """Colors of the true surface that no pixel shows; NaN where all of it is seen, or the scale is unknown."""
    shape = draw_shape(seed, truth.index, split=truth.split)
    objects = build_objects([shape], 32, "cpu")
    (_, program) = objects.programs[0]
    camera = truth.view_camera(truth.camera)
    T = SE3.from_matrix(truth.T_camera_object)
    seen = T.inverse().apply(unproject_depth(truth.depth_true.double(), camera)[truth.visible])
    points = truth.surface.double()
    hidden = points[nearest_points(points, seen)[0] > HIDDEN].float()
    if len(hidden) < 50:
        return math.nan
    _, normal = program.distance_and_normal(hidden.T[:, None], 0.004)
    colors, _ = surface_appearance(objects, hidden, normal[:, 0].T)
    metres = Sim3.from_se3(SE3(T.quat_xyzw, T.translation * truth.scale_m), torch.tensor(truth.scale_m).double())
    at = pose.to(dtype=torch.float64).inverse().apply(metres.apply(hidden.double()))
    _, corners, shares = MeshCaster(mesh).closest(at.float().numpy())
    assert mesh.colors is not None
    nearest = (mesh.colors.float().numpy()[corners] * shares[..., None]).sum(axis=1)
    return _psnr(nearest, colors.numpy())


def _psnr(found: np.ndarray, true: np.ndarray) -> float:
    return psnr(float(np.square(found.astype(np.float64) - true).mean()))


def six_sides(mesh: TriangleMesh) -> np.ndarray:
    """Pictures (256, 1536, 3) of a mesh from four sides, from above and from below."""
    vertices = mesh.vertices.double()
    center = (vertices.amin(dim=0) + vertices.amax(dim=0)) / 2
    radius = float((vertices - center).norm(dim=1).max())
    caster = MeshCaster(replace(mesh, vertices=((vertices - center) / radius).float()))
    views = []
    for count, elevation in ((4, 0.25), (1, 1.45), (1, -1.45)):
        ring = turntable(count, elevation, 1.02 / math.sin(math.radians(15)), math.radians(30))
        camera = Camera.from_normalized(ring.K_normalized, SIZE_PX, SIZE_PX)
        views += [shaded(caster.render(ring.T_camera_object[i], camera)) for i in range(count)]
    return np.concatenate(views, axis=1)


def picture(case: Case, meshes: dict[str, TriangleMesh]) -> Image.Image:
    """An object from six sides, generated above, photo below; left of them its photograph."""
    labels = case.scene.labels == case.item.id
    y, x = np.nonzero(labels)
    edge = max(np.ptp(x), np.ptp(y)) + 20
    left, top = (x.min() + x.max() - edge) // 2, (y.min() + y.max() - edge) // 2
    photo = Image.fromarray(case.scene.image).crop((left, top, left + edge, top + edge)).resize((2 * SIZE_PX,) * 2)
    sides = np.concatenate([six_sides(meshes["generated"]), six_sides(meshes["photo"])])
    return Image.fromarray(np.concatenate([np.asarray(photo), sides], axis=1))


def summary(figures: Sequence[Figures]) -> Figures:
    """Medians over objects."""
    names = {name for item in figures for name in item}
    values = {name: [item[name] for item in figures if not math.isnan(item.get(name, math.nan))] for name in names}
    return {name: statistics.median(found) for name, found in sorted(values.items()) if found}


def main() -> None:
    """Reconstruct, color, measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="tabletop")
    parser.add_argument("--views", type=int, default=20)
    parser.add_argument("--samples", type=int, default=1, help="hypotheses per object")
    parser.add_argument("--seed", type=int, default=902, help="of the views; none that was trained on")
    parser.add_argument("--frame", type=Path, help="folder of a real frame")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    config = CupidConfig(reconstruct=ReconstructConfig(color="generated"))
    cupid = Cupid.from_pretrained(given.checkpoint, config=config)
    sets = {
        "sample": sample_cases(cupid, given.samples),
        "generated views": list(generated_cases(cupid, given.views, given.samples, given.seed)),
    }
    if given.frame is not None:
        sets[given.frame.name] = frame_cases(cupid, given.samples, given.frame)
    report: dict[str, dict[str, list[Figures]]] = {}
    for label, cases in sets.items():
        report[label] = {row: [] for row in ROWS}
        for case in cases:
            meshes, seconds = colored(case)
            for row, mesh in meshes.items():
                timed = {"seconds": seconds} if row == "photo" else {}
                report[label][row].append(figures_of(case, mesh) | timed)
            picture(case, meshes).save(given.out / f"{case.name.replace(' ', '_')}.png")
            print(case.name, {row: {k: round(v, 2) for k, v in report[label][row][-1].items()} for row in ROWS})
    for label, rows in report.items():
        print(f"\n{label}: medians of {len(rows['photo'])} objects")
        for row, figures in rows.items():
            print(f"  {row:12s}", {name: round(value, 2) for name, value in summary(figures).items()})
    (given.out / "photo_color.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
