"""The whole method: `Cupid` is the front door, `reconstruct_frame` the method from a frame to placed objects.

Source: CUPID (arXiv 2510.20776), section 3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from cupid_core.config import CupidConfig, Refine, RuntimeName
from cupid_core.errors import CupidError, EmptyMeshError, InputError
from cupid_core.geometry.camera import Camera
from cupid_core.image.any_input import CameraInput, DepthInput, ImageInput, MasksInput
from cupid_core.image.orientation import Orientation
from cupid_core.models.bundle import NetworkBundle
from cupid_core.models.locate import locate
from cupid_core.reconstruct.completion import complete_again, complete_structures
from cupid_core.reconstruct.inputs import Frame, Mask, ObjectCrop, crop_objects, guessed_camera
from cupid_core.reconstruct.placement import PlacedHypothesis, early_pose, finish_object, score_hypothesis
from cupid_core.reconstruct.progress import Cancelled, OnProgress, Run
from cupid_core.reconstruct.results import Provenance, Scene, SceneObject
from cupid_core.reconstruct.stages import (
    Appearance,
    ImageCondition,
    Structure,
    StructureOrError,
    decode_mesh,
    encode_images,
    sample_appearances,
    sample_structures,
    samplers_of,
    solve_poses,
)
from cupid_core.runtime.device import choose_device, inference_dtype
from cupid_core.runtime.select import in_runtime
from cupid_core.sampling.solver import OnStep
from cupid_core.scene.occlusion import occlusion_masks
from cupid_core.types import CameraSource, TriangleMesh

Decoded = tuple[NetworkBundle, Appearance, TriangleMesh]


@dataclass(frozen=True)
class Request:
    """What to sample.

    Attributes:
        seed: the same seed gives the same result for the same object, whatever else is in the frame.
        samples: hypotheses for each object; the best is placed.
        refine: what fits the placed objects to mask and depth: nothing, their place, or place and shape.
        early_poses: progress reports the pose of each object before there are meshes.
    """

    seed: int = 0
    samples: int = 1
    refine: Refine = "none"
    early_poses: bool = False

    def __post_init__(self) -> None:
        for name, value in (("samples", self.samples), ("seed", self.seed)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise InputError(f"{name} is {value!r}.", hint="Give a whole number.")
        if self.samples < 1:
            raise InputError(f"{self.samples} samples.", hint="Sample at least one hypothesis.")
        if self.refine not in get_args(Refine):
            raise InputError(f"refine is {self.refine!r}.", hint="Choose 'none', 'pose' or 'shape'.")

    def seeds(self) -> list[int]:
        """One for each hypothesis; the first ones of a longer request are those of a shorter one."""
        return [self.seed * 10_007 + number for number in range(self.samples)]


@torch.no_grad()
def reconstruct_frame(
    networks: NetworkBundle, frame: Frame, config: CupidConfig, request: Request, run: Run
) -> Scene:
    """All objects of a frame: the method, one call per step.

    Args:
        networks: of a checkpoint.
        frame: image, labels and what else is known.
        config: of all steps.
        request: seed, number of hypotheses, refinement.
        run: is told about progress, and collects timings.

    Raises:
        CancelledError: the caller wanted to stop.
    """
    occlusion = frame.occlusion_masks or occlusion_masks(frame.labels, frame.depth, config.placement)
    crops = crop_objects(frame, occlusion, config)
    with run.stage("encode"):
        condition = encode_images(networks, crops)
    structures = _structures(networks, condition, crops, config, request, frame.up, run)
    with run.stage("pose"):
        posed = solve_poses(structures, crops, config)
        if frame.camera is None:
            frame = frame.with_camera(agreed_camera(posed, crops, frame, config), CameraSource.ESTIMATED)
            crops = crop_objects(frame, occlusion, config)  # the same pixels, and now one camera
            if networks.completion is not None:
                structures = complete_again(networks.completion, structures, crops, config, frame.up)
            posed = solve_poses(structures, crops, config)
        if request.early_poses:
            _report_early_poses(posed, crops, frame, config, networks, run)
    if config.reconstruct.rank_by == "voxels":
        posed = _best_by_voxels(posed, crops, frame, config)
    decoded = _decode(networks, condition, posed, config, request, run)
    ranked = _rank(posed, decoded, crops, frame, config, run)
    objects, failures = _place(ranked, crops, frame, occlusion, config, request.refine, run)
    assert frame.camera is not None
    return Scene(
        objects, failures, frame.camera, frame.camera_source, frame.image, frame.labels, dict(run.timings_s)
    )


def agreed_camera(
    structures: Sequence[StructureOrError], crops: Sequence[ObjectCrop], frame: Frame, config: CupidConfig
) -> Camera:
    """One camera for all objects of a frame without one.

    Every sampled hypothesis estimates the focal length by itself; the median of their logarithms is taken, each
    weighted by its share of inliers. Where none has an estimate, it is the most likely camera.
    """
    height, width = frame.labels.shape
    sampled = [item for item in structures if isinstance(item, Structure) and not item.completed]
    posed = [item for item in sampled if item.pose is not None]
    if not posed:
        return guessed_camera(width, height, config.pose)
    logs, weights = [], []
    for item in posed:
        assert item.pose is not None
        logs.append(float(crops[item.crop].crop.uncrop_camera(item.pose.camera).K[0, 0].log()))
        weights.append(item.pose.inlier_ratio + 1e-6)
    order = np.argsort(logs)
    share = np.cumsum(np.asarray(weights)[order]) / np.sum(weights)
    return Camera.from_focal(float(np.exp(np.asarray(logs)[order][np.searchsorted(share, 0.5)])), width, height)


def _structures(
    networks: NetworkBundle,
    condition: ImageCondition,
    crops: Sequence[ObjectCrop],
    config: CupidConfig,
    request: Request,
    up: Tensor | None,
    run: Run,
) -> list[StructureOrError]:
    """Stage 1 for all objects; those of one object adjacent.

    Where the checkpoint completes shapes, the first hypothesis of an object is its completed shape, unless that
    failed.
    """
    seeds = request.seeds()
    completed: dict[int, StructureOrError] = {}
    with run.stage("structure") as on_step:
        if networks.completion is not None and config.reconstruct.complete_shapes:
            found = complete_structures(networks.completion, crops, config, up)
            completed = {row: item for row, item in enumerate(found) if isinstance(item, Structure)}
        if not completed:
            return _sampled(networks, condition, seeds, config, on_step)
        incomplete = [row for row in range(len(crops)) if row not in completed]
        first = _sampled(networks, condition.rows(incomplete), seeds[:1], config, on_step) if incomplete else []
        others = _sampled(networks, condition, seeds[1:], config, on_step) if len(seeds) > 1 else []
    firsts = completed | dict(zip(incomplete, first, strict=True))
    structures: list[StructureOrError] = []
    for row in range(len(crops)):
        more = others[row * (len(seeds) - 1) : (row + 1) * (len(seeds) - 1)]
        for number, item in enumerate([firsts[row], *more]):
            structures.append(replace(item, crop=row, number=number) if isinstance(item, Structure) else item)
    return structures


def _sampled(
    networks: NetworkBundle,
    condition: ImageCondition,
    seeds: Sequence[int],
    config: CupidConfig,
    on_step: OnStep | None,
) -> list[StructureOrError]:
    """One sample of stage 1 per crop and seed, as many at once as the settings allow."""
    sampler, _ = samplers_of(networks, config)
    structures: list[StructureOrError] = []
    for rows in _batches(len(condition.tokens), max(1, config.reconstruct.batch // len(seeds))):
        for item in sample_structures(networks, condition.rows(list(rows)), sampler, seeds, on_step):
            moved = replace(item, crop=item.crop + rows.start) if isinstance(item, Structure) else item
            structures.append(moved)
    return structures


def _decode(
    networks: NetworkBundle,
    condition: ImageCondition,
    structures: Sequence[StructureOrError],
    config: CupidConfig,
    request: Request,
    run: Run,
) -> dict[int, Decoded | CupidError]:
    """Stage 2 and the mesh of every structure that has a pose, by row."""
    _, sampler = samplers_of(networks, config)
    posed = {row: item for row, item in enumerate(structures) if isinstance(item, Structure) and item.pose}
    rows = list(posed)
    appearances: list[Appearance] = []
    with run.stage("appearance") as on_step:
        for batch in _batches(len(rows), config.reconstruct.batch):
            some = [posed[row] for row in rows[batch.start : batch.stop]]
            appearances += sample_appearances(networks, condition, some, sampler, request.seeds(), on_step)
    decoded: dict[int, Decoded | CupidError] = {}
    with run.stage("decode"):
        for number, (row, appearance) in enumerate(zip(rows, appearances, strict=True)):
            run.report("decode", number / len(rows))
            share = partial(_report_share, run, "decode", number, len(rows))
            try:
                decoded[row] = networks, appearance, decode_mesh(networks, appearance, share)
            except _StoppedError as stopped:
                assert stopped.__cause__ is not None
                raise stopped.__cause__  # noqa: B904  # it is the cause
            except CupidError as error:
                decoded[row] = error
    return decoded


class _StoppedError(Exception):
    """Carries the error of a caller who stops past those who take errors for failures of their object."""


def _report_share(run: Run, stage: str, number: int, count: int, share: float) -> None:
    """Report the finished share of one of several pieces of work of a stage."""
    try:
        run.report(stage, (number + share) / count)
    except CupidError as error:
        raise _StoppedError from error


def _rank(
    structures: Sequence[StructureOrError],
    decoded: Mapping[int, Decoded | CupidError],
    crops: Sequence[ObjectCrop],
    frame: Frame,
    config: CupidConfig,
    run: Run,
) -> list[tuple[list[PlacedHypothesis], dict[int, CupidError]]]:
    """Of each object its placed hypotheses, best first, and why others gave nothing, by number."""
    per_object = len(structures) // len(crops)
    ranked = []
    with run.stage("measure"):
        for row, id_ in enumerate(frame.ids()):
            found: list[PlacedHypothesis] = []
            failures: dict[int, CupidError] = {}
            for number in range(per_object):
                place = row * per_object + number
                run.report("measure", place / len(structures))
                structure, mesh = structures[place], decoded.get(place)
                try:
                    for outcome in (structure, mesh):
                        if isinstance(outcome, CupidError):
                            raise outcome
                    if isinstance(structure, Structure) and isinstance(mesh, tuple):
                        found.append(score_hypothesis(structure, crops[row], frame, id_, config, decoded=mesh))
                except CupidError as error:
                    failures[number] = error
            found.sort(key=lambda placed: -placed.hypothesis.score)
            ranked.append((found, failures))
    return ranked


def _place(
    ranked: Sequence[tuple[list[PlacedHypothesis], dict[int, CupidError]]],
    crops: Sequence[ObjectCrop],
    frame: Frame,
    occlusion: Mapping[int, Mask],
    config: CupidConfig,
    refine: Refine,
    run: Run,
) -> tuple[tuple[SceneObject, ...], dict[int, CupidError]]:
    """The best hypothesis of each object in its place, and why other objects have none, by id."""
    objects: list[SceneObject] = []
    failures: dict[int, CupidError] = {}
    nothing = np.zeros(frame.labels.shape, dtype=np.bool_)
    with run.stage("place"):
        for row, (id_, (found, failed)) in enumerate(zip(frame.ids(), ranked, strict=True)):
            run.report("place", row / len(ranked))
            if not found:
                failures[id_] = next(iter(failed.values()), EmptyMeshError("No mesh.", hint="Try another seed."))
                continue
            try:
                made = finish_object(frame, id_, found, occlusion.get(id_, nothing), config, refine=refine)
            except CupidError as error:
                failures[id_] = error
                continue
            objects.append(replace(made, failures=failed, truncated=crops[row].crop.truncated))
    return tuple(objects), failures


def _best_by_voxels(
    structures: Sequence[StructureOrError], crops: Sequence[ObjectCrop], frame: Frame, config: CupidConfig
) -> list[StructureOrError]:
    """Only the structure of each object whose voxels agree best with the image keeps its pose."""
    best = _best_structures(structures, crops, frame, config)
    return [
        item if isinstance(item, CupidError) or row in best else replace(item, pose=None)
        for row, item in enumerate(structures)
    ]


def _best_structures(
    structures: Sequence[StructureOrError], crops: Sequence[ObjectCrop], frame: Frame, config: CupidConfig
) -> dict[int, Structure]:
    """Of each object the posed structure whose voxels agree best with the image, by row."""
    ids, best = frame.ids(), dict[int, tuple[float, int]]()
    posed = {row: item for row, item in enumerate(structures) if isinstance(item, Structure) and item.pose}
    for row, item in posed.items():
        alone = sum(other.crop == item.crop for other in posed.values()) == 1
        crop, id_ = crops[item.crop], ids[item.crop]
        score = 0.0 if alone else score_hypothesis(item, crop, frame, id_, config).hypothesis.score
        if item.crop not in best or score > best[item.crop][0]:
            best[item.crop] = score, row
    return {row: posed[row] for _, row in best.values()}


def _report_early_poses(
    structures: Sequence[StructureOrError],
    crops: Sequence[ObjectCrop],
    frame: Frame,
    config: CupidConfig,
    networks: NetworkBundle,
    run: Run,
) -> None:
    if run.on_progress is None:
        return
    ids, poses = frame.ids(), []
    for item in _best_structures(structures, crops, frame, config).values():
        assert item.pose is not None
        camera = crops[item.crop].crop.uncrop_camera(item.pose.camera)
        whole = replace(item, pose=replace(item.pose, camera=camera))
        poses.append(early_pose(whole, frame, ids[item.crop], config, networks))
    run.report("pose", 1.0, tuple(poses))


def _batches(count: int, size: int) -> Iterator[range]:
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


@dataclass(frozen=True)
class Cupid:
    """Objects from images.

        scene = Cupid.from_pretrained()("frame.png", masks="labels.png", camera=K, depth="depth.png")
        scene["mug"].mesh.export("mug.glb")

    Attributes:
        networks: of a checkpoint.
        config: of every step.
        checkpoint: where the networks come from, for the record.
    """

    networks: NetworkBundle
    config: CupidConfig = field(default_factory=CupidConfig)
    checkpoint: str = ""

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "tabletop",
        *,
        device: torch.device | str = "auto",
        dtype: torch.dtype | None = None,
        config: CupidConfig | None = None,
        download: bool = True,
        runtime: RuntimeName | None = None,
    ) -> Cupid:
        """Load a checkpoint.

        Args:
            source: "tabletop" (ships inside), a folder in the published layout, or a hub id.
            device: where the networks run; "auto" takes a GPU where there is one.
            dtype: precision of the deep stacks; None takes float32 on a CPU and bfloat16 on a GPU.
            config: settings; defaults where None.
            download: allow asking the hub for what is not on this machine.
            runtime: "auto", "torch", "onnx" or "tensorrt"; None takes `reconstruct.runtime` of the settings.

        Raises:
            CheckpointError: nothing of that name, it is damaged, or it was not prepared for the runtime.
            ConfigError: no such device, or the runtime does not run there.
        """
        place = choose_device(str(device))
        torso = inference_dtype(place) if dtype is None else dtype
        settings = config or CupidConfig()
        networks = NetworkBundle.from_pretrained(source, device=place, torso=torso, download=download)
        networks = in_runtime(
            networks,
            locate(source, download=download),
            runtime or settings.reconstruct.runtime,
            stages_folder=settings.reconstruct.stages_folder,
        )
        return cls(networks, settings, str(source))

    def __call__(
        self,
        image: ImageInput,
        *,
        masks: MasksInput | None = None,
        camera: CameraInput | None = None,
        depth: DepthInput | None = None,
        names: Mapping[int, str] | Sequence[str] | None = None,
        sizes_m: Mapping[int, float] | None = None,
        only: Collection[int] | None = None,
        orientation: Orientation = "auto",
        up: Sequence[float] | None = None,
        seed: int = 0,
        samples: int = 1,
        refine: Refine = "none",
        early_poses: bool = False,
        on_progress: OnProgress | None = None,
        cancelled: Cancelled | None = None,
    ) -> Scene:
        """Reconstruct the objects of an image, one or many.

        Args:
            image: path, PIL image, array (H, W, 3) or (H, W, 4), or tensor.
            masks: label image, one mask, or masks by id or name, in any of these forms; None takes the alpha
                channel.
            camera: Camera, K (3, 3), (fx, fy, cx, cy), path of a CameraInfo file, or "exif". None takes that of
                the depth model, or estimates the focal length.
            depth: aligned depth: path, array or tensor in metres or uint16 millimetres, or DepthMap. None leaves
                objects without a known size up to scale, and they say so.
            names: of objects, by id, or in a list those of 1, 2, ...
            sizes_m: longest side of objects of known size, by id, metres; depth comes first.
            only: ids to reconstruct; the masks of the others say what hides them. None takes all.
            orientation: of a photo that is stored turned, by its EXIF data: "upright" or "stored", as masks and
                depth are; "auto" tells by their size.
            up: direction against gravity in the camera frame, from an IMU, the mounting of the camera or TF; a
                camera may hang sideways or upside down. None where it is not known.
            seed: the same seed gives the same result.
            samples: hypotheses for each object; the best is placed.
            refine: "pose" moves the placed objects so that they meet depth and mask better; "shape" also fits the
                lengths of their axes and smooth offsets of their surface.
            early_poses: report through `on_progress` where each object stands, long before there is a mesh.
            on_progress: called with stage and fraction.
            cancelled: asked often; True stops.

        Returns:
            The objects, and for each one that could not be reconstructed its error.

        Raises:
            InputError: image, masks, camera or depth cannot be used (see its kinds).
            CancelledError: the caller wanted to stop.
        """
        run = Run(on_progress, cancelled)
        with run.stage("crop"):
            frame = Frame.of(
                image,
                masks,
                camera=camera,
                depth=depth,
                depth_scale_std=self.config.perception.depth.sensor_scale_std,
                names=names,
                sizes_m=sizes_m,
                only=only,
                orientation=orientation,
                up=up,
            )
        request = Request(seed=seed, samples=samples, refine=refine, early_poses=early_poses)
        return self.reconstruct(frame, request, run)

    def reconstruct(self, frame: Frame, request: Request | None = None, run: Run | None = None) -> Scene:
        """The same for a frame that is put together already.

        Raises:
            CancelledError: the caller wanted to stop.
        """
        request = request or Request()
        scene = reconstruct_frame(self.networks, frame, self.config, request, run or Run())
        device, settings = str(self.networks.device), self.config.model_dump(mode="json")
        made_with = Provenance(
            self.checkpoint, device, request.seed, request.samples, settings, self.networks.runtimes
        )
        return replace(scene, provenance=made_with)
