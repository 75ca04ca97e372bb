"""The benchmark: unseen objects through the whole pipeline from image and mask, measured against truth.

`run_benchmark` makes objects, reconstructs and measures each. Objects depend on the seed and their
number alone, and every hypothesis on its own seed: the same options give the same figures, also in a run that was
stopped and continued.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cupid_core.config import Refine
from cupid_core.data.tabletop import HELD_OUT, TabletopSettings
from cupid_core.errors import CupidError, InputError
from cupid_core.evaluation.certainty_figures import certainty_figures
from cupid_core.evaluation.image_metrics import silhouette_iou
from cupid_core.evaluation.measure import (
    FAILURE_FIGURES,
    Figures,
    failure_figures,
    metric_figures,
    metric_truth,
    picture_figures,
    placed_figures,
    random_figures,
    ranking_figures,
    render_in_view,
    structure_figures,
    surface_figures,
)
from cupid_core.evaluation.pose_metrics import rotation_error_deg
from cupid_core.evaluation.records import CaseRecord, RecordJournal
from cupid_core.evaluation.sheet import pictures_of
from cupid_core.evaluation.tabletop_cases import UNSEEN_SEED, TabletopCase, tabletop_cases
from cupid_core.evaluation.true_structure import GivenStructure, sample_appearance_on, true_structure_figures
from cupid_core.geometry.sim3 import Sim3
from cupid_core.mesh.finish import finish_mesh
from cupid_core.reconstruct.inputs import Frame, ObjectCrop, crop_object
from cupid_core.reconstruct.pipeline import Cupid, Request, reconstruct_frame
from cupid_core.reconstruct.placement import scaled
from cupid_core.reconstruct.progress import Run
from cupid_core.reconstruct.results import Hypothesis, SceneObject
from cupid_core.reconstruct.stages import Structure, solve_poses
from cupid_core.render.raycast import MeshCaster
from cupid_core.types import ScaleSource


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of the benchmark.

    Attributes:
        objects: unseen objects in all.
        held_out: how many of them are of families that no training uses; None for a fifth. The others are of
            trained families. Ignored where `family` is given.
        samples: hypotheses per object; the best by agreement with the image counts.
        seed: of the objects, of the noise of the sampling, of the sensor.
        given_structure: also run stage 2 on the true structure and pose.
        pictures: objects of each split whose pictures are kept.
        family: only this one; None for all, by weight.
        rank_by_voxels: rank hypotheses by the outline of their voxels and make a mesh of the best only; cheaper,
            but not the ranking of the pipeline.
        refine: what fits the placed objects to mask and depth.
        with_depth: the sensor depth is given.
    """

    objects: int = 250
    held_out: int | None = None
    samples: int = 4
    seed: int = UNSEEN_SEED
    given_structure: bool = True
    pictures: int = 8
    family: str | None = None
    rank_by_voxels: bool = False
    refine: Refine = "none"
    with_depth: bool = True

    def __post_init__(self) -> None:
        counts = (self.objects, self.held_out or 0, self.pictures, self.seed)
        if min(counts) < 0 or self.samples < 1:
            raise InputError(f"{self} is out of range.", hint="Use numbers >= 0, and at least one sample.")
        if (self.held_out or 0) > self.objects and self.family is None:
            raise InputError(
                f"{self.held_out} objects of held-out families are more than {self.objects} objects in all.",
                hint="The number of objects counts both kinds; raise it, or ask for fewer held-out ones.",
            )

    def splits(self) -> tuple[tuple[str, int], ...]:
        """Splits and how many objects of each; a family belongs to one of them."""
        if self.family is not None:
            return (("held_out" if self.family in HELD_OUT else "train", self.objects),)
        held_out = self.objects // 5 if self.held_out is None else self.held_out
        return ("train", self.objects - held_out), ("held_out", held_out)


OnRecord = Callable[[CaseRecord], None]


def run_benchmark(
    cupid: Cupid,
    options: BenchmarkOptions,
    *,
    without: Cupid | None = None,
    on_record: OnRecord | None = None,
    journal: RecordJournal | None = None,
) -> list[CaseRecord]:
    """Measure a checkpoint on generated objects.

    Args:
        cupid: checkpoint and settings to measure.
        options: number of objects, and what to measure.
        without: a checkpoint whose stage 2 is not conditioned on the image positions of the voxels; it is run on
            the same structures, poses and noise.
        on_record: called with every object that is finished, also in an earlier run.
        journal: keeps finished objects, and has those of an earlier run that was stopped (`open_journal`).

    Returns:
        One record per object, those of trained families first.

    Raises:
        InputError: the voxels of the two checkpoints differ in size.
    """
    _check_sizes(cupid, without)
    records: list[CaseRecord] = []
    for split, count in options.splits():
        for index in range(count):
            record = _finished(journal, split, index, options)
            if record is None:
                record = _measured(cupid, without, options, split, index)
                if journal is not None:
                    journal.append([record])
            records.append(record)
            if on_record is not None:
                on_record(record)
    return records


def open_journal(
    path: Path, cupid: Cupid, options: BenchmarkOptions, *, without: Cupid | None = None
) -> RecordJournal:
    """The journal of a benchmark, and of scenes under the same settings; one that exists is continued.

    A run may be continued with more or fewer objects, because an object does not depend on how many there are.

    Args:
        path: of the file.
        cupid: what is measured.
        options: of `run_benchmark`.
        without: as in `run_benchmark`.

    Raises:
        InputError: the file is of other weights or settings, or cannot be used.
    """
    header: dict[str, Any] = {
        "weights": [_weights_hash(one) for one in (cupid, without) if one is not None],
        "settings": cupid.config.model_dump(mode="json"),
        "samples": options.samples,
        "seed": options.seed,
        "family": options.family,
        "given_structure": options.given_structure,
        "rank_by_voxels": options.rank_by_voxels,
        "refine": options.refine,
        "with_depth": options.with_depth,
    }
    return RecordJournal(path, header)


def _finished(
    journal: RecordJournal | None, split: str, index: int, options: BenchmarkOptions
) -> CaseRecord | None:
    """Record of an earlier run for this object; None where it has still to be measured.

    A journal has no pictures: objects whose pictures are wanted are measured again.
    """
    if journal is None or index < options.pictures:
        return None
    found = journal.finished.get((split, index), [])
    return found[-1] if found else None


def _weights_hash(cupid: Cupid) -> str:
    """Hash of all weights that affect the result."""
    digest = hashlib.sha256()
    completion = {} if cupid.networks.completion is None else vars(cupid.networks.completion)
    for name, value in {
        **vars(cupid.networks),
        **{f"completion.{key}": net for key, net in completion.items()},
    }.items():
        tensors = value.state_dict() if isinstance(value, nn.Module) else {}
        for key, tensor in {**tensors, **({"": value} if isinstance(value, Tensor) else {})}.items():
            digest.update(f"{name}.{key} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _measured(
    cupid: Cupid, without: Cupid | None, options: BenchmarkOptions, split: str, index: int
) -> CaseRecord:
    """Generate one object, reconstruct it, measure it."""
    settings = TabletopSettings(resolution=cupid.networks.appearance_flow.resolution)
    (case,) = tabletop_cases(
        range(index, index + 1), settings, seed=options.seed, split=split, family=options.family
    )
    config = cupid.config
    if options.rank_by_voxels:
        by_voxels = config.reconstruct.model_copy(update={"rank_by": "voxels"})
        config = config.model_copy(update={"reconstruct": by_voxels})
    occlusion = case.occlusion & ~case.mask
    frame = Frame.of(
        case.image,
        {1: case.mask},
        camera=case.camera,
        depth=case.depth if options.with_depth else None,
        occlusion_masks={1: occlusion},
    )
    request = Request(seed=options.seed, samples=options.samples, refine=options.refine)
    scene = reconstruct_frame(cupid.networks, frame, config, request, Run())
    crop = crop_object(case.image, case.mask, config, camera=case.camera, occlusion=occlusion)
    extra = _conditioning(cupid, without, options, case, crop, scene.objects[0].best if scene.objects else None)
    record = CaseRecord(
        split=case.split,
        index=case.index,
        family=case.family,
        figures={**failure_figures(case), **extra},
        occluded=bool((case.silhouette & ~case.visible).any()),
        truncated=case.truncated,
    )
    if not scene.objects:
        return replace(record, failure=scene.failures[1].code)
    return replace(
        record,
        figures=_figures(cupid, case, scene.objects[0]) | extra,
        timings_s=dict(scene.timings_s),
        pictures=pictures_of(case, scene.objects[0].best) if case.index < options.pictures else (),
    )


def _figures(cupid: Cupid, case: TabletopCase, placed: SceneObject) -> Figures:
    """All figures of an object: of its best hypothesis up to scale, and with depth in metres."""
    best = placed.best
    caster = MeshCaster(best.mesh())
    rendering = render_in_view(case, caster, best.pose.T_camera_object, best.pose.camera)
    figures = structure_figures(case, best)
    figures["iou"] = silhouette_iou(torch.as_tensor(rendering.mask), case.silhouette)
    figures["iou_stated"] = best.quality.silhouette_iou
    figures["rotation_free_deg"] = _rotation_without_camera(cupid, case, best)
    figures |= picture_figures(case, rendering)
    figures |= surface_figures(case, best.mesh())
    figures |= random_figures(case, caster)
    scale = torch.tensor(placed.model.scale, dtype=torch.float64)
    shape = placed.mesh if placed.model.scale == 1 else scaled(placed.mesh, 1 / placed.model.scale)
    known = placed.model.scale_source is not ScaleSource.UNKNOWN
    place = Sim3.from_se3(placed.pose.to(dtype=torch.float64), scale)
    figures |= placed_figures(case, shape, place, metric=known)
    truth = metric_truth(case)
    figures |= certainty_figures(truth, placed, figures["placed_chamfer_percent"])
    figures |= ranking_figures(case, placed.hypotheses)
    return figures | metric_figures(truth, placed)


def _rotation_without_camera(cupid: Cupid, case: TabletopCase, best: Hypothesis) -> float:
    """Rotation error of the same structure when K is not given; 180 where there is no pose."""
    crop = crop_object(case.image, case.mask, cupid.config, occlusion=case.occlusion)
    structure = replace(best.structure, crop=0, pose=None)
    (solved,) = solve_poses([structure], [crop], cupid.config)
    if not isinstance(solved, Structure) or solved.pose is None:
        return FAILURE_FIGURES["rotation_free_deg"]
    estimated = solved.pose.T_camera_object.matrix().double()
    return rotation_error_deg(case.T_camera_object, estimated, case.symmetry)


def _conditioning(
    cupid: Cupid,
    without: Cupid | None,
    options: BenchmarkOptions,
    case: TabletopCase,
    crop: ObjectCrop,
    best: Hypothesis | None,
) -> Figures:
    """PSNR of both checkpoints on the true structure, and of `without` on the reconstructed one."""
    figures = Figures()
    for suffix, one in (("_true", cupid), ("_true_without", without)):
        if one is not None and options.given_structure:
            (found,) = true_structure_figures(
                one.networks, [case], [crop], one.config, seed=options.seed, suffix=suffix
            )
            figures |= found
    if without is not None and best is not None:
        structure = best.structure
        given = GivenStructure(structure.coords, structure.resolution, best.pose.T_camera_object)
        # The seed of this very hypothesis, so that both checkpoints start from the same noise.
        seed = Request(seed=options.seed, samples=options.samples).seeds()[best.number]
        (mesh,) = sample_appearance_on(without.networks, [crop], [given], without.config, seed)
        if not isinstance(mesh, CupidError):
            try:
                # Cleaned as the mesh of the hypothesis is, so that only the conditioning differs.
                mesh = finish_mesh(mesh, without.config.mesh).mesh
            except CupidError:
                return figures
            rendering = render_in_view(case, MeshCaster(mesh), best.pose.T_camera_object, best.pose.camera)
            figures |= picture_figures(case, rendering, "_without")
    return figures


def _check_sizes(cupid: Cupid, without: Cupid | None) -> None:
    if without is None:
        return
    sizes = [one.networks.appearance_flow.resolution for one in (cupid, without)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"The checkpoints have {sizes[0]} and {sizes[1]} voxels per edge.",
            hint="Compare checkpoints that differ in stage 2 only.",
        )
