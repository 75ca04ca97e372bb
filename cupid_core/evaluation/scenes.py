"""The benchmark on whole generated scenes with sensor depth; every object is measured in metres."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupid_core.config import Refine
from cupid_core.data.tabletop.scene import SceneObject, TabletopScene, draw_scene
from cupid_core.evaluation.benchmark import BenchmarkOptions
from cupid_core.evaluation.image_metrics import silhouette_iou
from cupid_core.evaluation.measure import FAILURE_FIGURES, Figures, MetricTruth, metric_figures
from cupid_core.evaluation.records import CaseRecord, RecordJournal
from cupid_core.evaluation.surface_truth import surface_points
from cupid_core.geometry import SE3, Camera, Sim3, depth_to_metres, unproject_depth
from cupid_core.reconstruct.pipeline import Cupid
from cupid_core.reconstruct.results import SceneObject as ReconstructedObject
from cupid_core.render.raycast import render_mesh
from cupid_core.types import DepthMap, ScaleSource

# Objects with a smaller visible share, or fewer pixels, are not counted.
_MIN_VISIBLE = 0.3
_MIN_PIXELS = 200
_FAILURE_FIGURES: Figures = {"iou": FAILURE_FIGURES["iou"], "metric_rotation_deg": FAILURE_FIGURES["rotation_deg"]}


def run_scenes(
    cupid: Cupid,
    count: int,
    options: BenchmarkOptions,
    *,
    refine: Refine = "none",
    on_record: Callable[[CaseRecord], None] | None = None,
    journal: RecordJournal | None = None,
) -> list[CaseRecord]:
    """Measure whole scenes: K known, depth of a noisy sensor, true label image as masks.

    Args:
        cupid: checkpoint and settings to measure.
        count: number of scenes.
        options: hypotheses per object; seed of the scenes and of the noise of the sampling.
        refine: what fits the placed objects to mask and depth.
        on_record: called with every object that is finished, also in an earlier run.
        journal: keeps finished scenes, and has those of an earlier run that was stopped.

    Returns:
        A record for every object of which enough is visible.
    """
    records = []
    for index in range(count):
        found = journal.finished.get(("scene", index), []) if journal is not None else []
        if not found:
            scene = draw_scene(index, seed=options.seed)
            found = measured_scene(cupid, scene, index, samples=options.samples, seed=options.seed, refine=refine)
            if journal is not None:
                journal.append(found)
        for record in found:
            records.append(record)
            if on_record is not None:
                on_record(record)
    return records


def measured_scene(
    cupid: Cupid, scene: TabletopScene, index: int, *, samples: int, seed: int, refine: Refine = "none"
) -> list[CaseRecord]:
    """One scene through the pipeline; see `run_scenes`."""
    labels = scene.labels.numpy()
    counted = [item for item in scene.objects if is_counted(item, labels)]
    if not counted:
        return []
    depth_m, _ = depth_to_metres(scene.depth)
    camera = Camera(scene.K.double(), labels.shape[1], labels.shape[0])
    found = cupid(
        scene.color.numpy(),
        masks=labels.astype(np.int32),
        names={item.label: item.family for item in scene.objects},
        camera=camera,
        depth=DepthMap(depth_m.float(), ScaleSource.SENSOR),
        seed=seed,
        samples=samples,
        refine=refine,
    )
    placed = {item.id: item for item in found.objects}
    shares = {name: seconds / len(scene.objects) for name, seconds in found.timings_s.items()}
    records = []
    for item in counted:
        result, failure = placed.get(item.label), found.failures.get(item.label)
        figures, code = dict(_FAILURE_FIGURES), "" if failure is None else failure.code
        if result is not None:
            figures = scene_figures(scene_truth(scene, item, camera), result, scene.labels == item.label)
        elif failure is None:
            code = "missing"
        records.append(
            CaseRecord(
                "scene", index, item.family, figures, failure=code, occluded=item.visible < 1, timings_s=shares
            )
        )
    return records


def is_counted(item: SceneObject, labels: NDArray[np.uint8]) -> bool:
    """Whether enough of an object is visible for it to be counted."""
    return item.visible >= _MIN_VISIBLE and int((labels == item.label).sum()) >= _MIN_PIXELS


def scene_truth(scene: TabletopScene, item: SceneObject, camera: Camera) -> MetricTruth:
    """The truth of one object of a scene, in metres in the camera frame."""
    T = item.T_camera_object.double()
    to_camera = Sim3.from_se3(SE3.from_matrix(T), torch.tensor(item.scale_m, dtype=T.dtype))
    own = scene.labels == item.label
    surface = surface_points(item.program, item.shell, seed=item.label)
    return MetricTruth(
        T_camera_object=T,
        scale_m=item.scale_m,
        symmetry=torch.tensor(item.symmetry.as_tuple()),
        surface=to_camera.apply(surface.double()),
        visible=unproject_depth(scene.depth_true.double(), camera)[own],
        camera=camera,
        unoccluded=own | (scene.labels == 0),
    )


def scene_figures(truth: MetricTruth, placed: ReconstructedObject, mask: Tensor) -> Figures:
    """Figures of a placed object: `iou` of its unoccluded part with the true mask (H, W), and `metric_figures`."""
    rendering = render_mesh(placed.mesh, placed.pose, truth.camera)
    visible_mask = torch.as_tensor(rendering.mask) & truth.unoccluded
    return {"iou": silhouette_iou(visible_mask, mask), **metric_figures(truth, placed)}
