"""The method, one call per step: image and mask in, hypotheses of the object out.

Knows the order of the steps, not their insides.

Source: CUPID (arXiv 2510.20776), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from cupid_core.config import CupidConfig
from cupid_core.errors import CupidError, InputError
from cupid_core.models.bundle import NetworkBundle
from cupid_core.reconstruct.early import PoseOf, first_draws
from cupid_core.reconstruct.judge import judge
from cupid_core.reconstruct.progress import Run
from cupid_core.reconstruct.results import Hypothesis, Reconstruction
from cupid_core.reconstruct.steps import (
    Draw,
    Item,
    draw_structures,
    paint,
    samplers_of,
    see,
    shape_of,
    solve_cameras,
)
from cupid_core.reconstruct.view import ObjectView
from cupid_core.types import TriangleMesh


@dataclass(frozen=True)
class Request:
    """What to draw.

    Attributes:
        seed: the same seed gives the same result for the same view, whatever else is in the batch.
        samples: hypotheses for each view.
        pose_only: stop when the pose is known; no mesh.
        early_poses: of a scene: progress tells where each object stands before there are meshes.
    """

    seed: int = 0
    samples: int = 1
    pose_only: bool = False
    early_poses: bool = False

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError(f"{self.samples} samples.", hint="Draw at least one hypothesis.")

    def seeds(self) -> list[int]:
        """One for each draw; the first draws of a longer request are those of a shorter one."""
        return [self.seed * 10_007 + number for number in range(self.samples)]


@torch.inference_mode()
def reconstruct_views(
    networks: NetworkBundle,
    views: Sequence[ObjectView],
    config: CupidConfig,
    request: Request,
    run: Run,
    *,
    pose_of: PoseOf | None = None,
) -> list[Reconstruction | CupidError]:
    """Objects from their views, all through the networks together.

    Args:
        networks: of a checkpoint.
        views: one for each object.
        config: of all steps.
        request: seed, number of hypotheses, how far to go.
        run: told about progress; collects timings.
        pose_of: makes what progress tells of the poses before there are meshes; None tells none.

    Returns:
        For each view its hypotheses, best first, or the error of its first draw where no draw gave any.

    Raises:
        CancelledError: the caller wanted to stop.
    """
    structure_sampler, appearance_sampler = samplers_of(networks, config)
    seeds = request.seeds()
    with run.stage("encode"):
        condition = see(networks, views)
    with run.stage("structure") as on_step:
        items = draw_structures(networks, condition, structure_sampler, seeds, on_step)
    with run.stage("pose"):
        items = solve_cameras(items, views, config)
        if pose_of is not None and run.on_progress is not None:
            run.report("pose", 1.0, tuple(pose_of(draw) for draw in first_draws(items, views, config)))
    meshes: list[TriangleMesh | CupidError | None] = [None] * len(items)
    posed = [item for item in items if isinstance(item, Draw)]
    if posed and not request.pose_only:
        with run.stage("appearance") as on_step:
            appearances = paint(networks, condition, posed, appearance_sampler, seeds, on_step)
        with run.stage("decode"):
            decoded = []
            for number, appearance in enumerate(appearances):
                run.report("decode", number / len(appearances))
                decoded.append(shape_of(networks, appearance))
        meshes = _spread(items, decoded)
    with run.stage("measure"):
        results = _collected(items, meshes, views, config, run)
    timings_s = dict(run.timings_s)
    return [
        result if isinstance(result, CupidError) else replace(result, timings_s=timings_s) for result in results
    ]


def _spread(
    items: Sequence[Item], decoded: Sequence[TriangleMesh | CupidError]
) -> list[TriangleMesh | CupidError | None]:
    """Meshes to the items they belong to."""
    following = iter(decoded)
    return [next(following) if isinstance(item, Draw) else None for item in items]


def _collected(
    items: Sequence[Item],
    meshes: Sequence[TriangleMesh | CupidError | None],
    views: Sequence[ObjectView],
    config: CupidConfig,
    run: Run,
) -> list[Reconstruction | CupidError]:
    """Items by view, judged and ranked; without timings."""
    each = len(items) // len(views)
    results: list[Reconstruction | CupidError] = []
    for row, view in enumerate(views):
        found: list[Hypothesis] = []
        lost: dict[int, CupidError] = {}
        for number in range(each):
            item, mesh = items[row * each + number], meshes[row * each + number]
            run.report("measure", (row * each + number) / len(items))
            outcome = mesh if isinstance(mesh, CupidError) else item
            if isinstance(outcome, Draw):
                assert not isinstance(mesh, CupidError)
                found.append(judge(outcome, mesh, view, config))
            else:
                lost[number] = outcome
        found.sort(key=lambda hypothesis: -hypothesis.score)
        if found:
            results.append(Reconstruction(tuple(found), view.crop.truncated, lost, {}))
        else:
            results.append(lost[0])
    return results
