"""One request of the server: which objects of which frame, how far it is, and its result under their ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from cupid_core.config.presets import PRESETS
from cupid_core.config.ros import RosConfig
from cupid_core.errors import CupidError
from cupid_core.image.masks import Box
from cupid_core.reconstruct.progress import ObjectPose, OnProgress, Progress
from cupid_core.serving.engine import Ticket
from cupid_core.serving.frames import CameraFrame, Stamped
from cupid_core.serving.records import CameraValues, ObjectRecord, Observation, SceneRecord, SceneRequest
from cupid_core.serving.tracking import Target


def scene_request(
    frame: CameraFrame,
    targets: Iterable[Target],
    others: Iterable[Target],
    config: RosConfig,
    *,
    preset: str = "",
    early_poses: bool = False,
) -> SceneRequest:
    """What the worker is asked for.

    Args:
        frame: the image and what belongs to it.
        targets: objects to reconstruct.
        others: the other objects of the frame, which may occlude the targets.
        config: seed, preset and output.
        preset: in place of the settings' where it is not empty.
        early_poses: report poses before the meshes are decoded.
    """
    targets, others = list(targets), list(others)
    effort = PRESETS[preset or config.preset]
    return SceneRequest(
        camera=None if frame.camera is None else CameraValues.of(frame.camera),
        depth_scale_std=0.0 if frame.depth is None else frame.depth.scale_std,
        numbers=tuple(target.number for target in targets if target.box is None),
        boxes={target.number: target.box for target in targets if target.box is not None},
        names={target.number: target.class_id for target in targets if target.class_id},
        occluder_numbers=tuple(target.number for target in others if target.box is None),
        occluder_boxes={
            target.number: target.box
            for target in others
            # A box that overlaps no target occludes none of them, and need not be segmented.
            if target.box is not None and _overlaps_any(target.box, targets)
        },
        seed=config.seed,
        samples=effort.samples,
        refine=effort.refine,
        overlay=config.output.overlay,
        early_poses=early_poses,
        up=frame.up,
    )


def _overlaps_any(box: Box, targets: Iterable[Target]) -> bool:
    """Whether a box overlaps the box of any target; a target without a box may be anywhere."""
    return any(
        other.box is None
        or (box[0] < other.box[2] and other.box[0] < box[2] and box[1] < other.box[3] and other.box[1] < box[3])
        for other in targets
    )


@dataclass(frozen=True, eq=False)
class PendingRequest:
    """A request that was handed to the engine.

    Attributes:
        ticket: of the engine.
        stamped: of the image.
        targets: the objects that are reconstructed, by number.
        refused: why other detections are not, by id.
        explicit: a caller asked for it and waits; later frames do not supersede it.
    """

    ticket: Ticket
    stamped: Stamped
    targets: Mapping[int, Target]
    refused: Mapping[str, CupidError] = field(default_factory=dict)
    explicit: bool = False

    def outcome(self) -> Observation | CupidError:
        """Its result, with the ids of the detections, or its error; the ticket is done."""
        result = self.ticket.outcome()
        if isinstance(result, CupidError):
            return result
        assert isinstance(result, SceneRecord)
        return Observation(
            stamp_ns=self.stamped.stamp_ns,
            frame_id=self.stamped.frame_id,
            objects=tuple(_named(item, self.targets[item.number]) for item in result.objects),
            failures={
                **self.refused,
                **{self.targets[number].id: error for number, error in result.failures.items()},
            },
            overlay=result.overlay,
            timings_s=result.timings_s,
            gpu_memory_mb=result.gpu_memory_mb,
            camera_source=result.camera_source,
        )


def _named(item: ObjectRecord, target: Target) -> ObjectRecord:
    return replace(item, id=target.id, class_id=target.class_id, score=target.score)


@dataclass(frozen=True, eq=False)
class FailedRequest:
    """A request without a result.

    Attributes:
        request: what was asked for.
        error: why there is no result.
    """

    request: PendingRequest
    error: CupidError


@dataclass(frozen=True)
class Feedback:
    """Progress of a request, with ids in the place of numbers.

    Attributes:
        stamped: of the image; the poses are in its optical frame.
        stage: one of `cupid_core.reconstruct.progress.STAGES`.
        fraction: finished share of the stage, 0 to 1.
        poses: of all objects whose pose is known so far, by id; from voxels, before there is a mesh.
    """

    stamped: Stamped
    stage: str
    fraction: float
    poses: Mapping[str, ObjectPose] = field(default_factory=dict)


OnFeedback = Callable[[Feedback], None]
"""Called from another thread; must return at once."""


def report_feedback(
    on_feedback: OnFeedback, stamped: Stamped, ids: Mapping[int, str], on_progress: OnProgress | None = None
) -> OnProgress:
    """An `OnProgress` that reports feedback, and collects the poses known so far.

    Args:
        on_feedback: called with every progress.
        stamped: of the image.
        ids: of the objects, by number.
        on_progress: called first, with the progress as it is.
    """
    poses: dict[str, ObjectPose] = {}

    def report(progress: Progress) -> None:
        if on_progress is not None:
            on_progress(progress)
        poses.update({ids[pose.id]: pose for pose in progress.poses if pose.id in ids})
        on_feedback(Feedback(stamped, progress.stage, progress.fraction, dict(poses)))

    return report
