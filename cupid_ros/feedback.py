"""How far a request is, in the words of its caller: ids in the place of numbers, all poses known by now.

Knows progress and targets, no message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cupid_core.reconstruct.progress import ObjectPose, OnProgress, Progress
from cupid_ros.convert.header import Stamped


@dataclass(frozen=True)
class Feedback:
    """What the action tells while it works.

    Attributes:
        stamped: of the image; the poses are in its optical frame.
        stage: one of `cupid_core.reconstruct.progress.STAGES`.
        fraction: finished share of the stage, 0 to 1.
        poses: of all objects whose pose is known by now, by id; from voxels, before there is a mesh.
    """

    stamped: Stamped
    stage: str
    fraction: float
    poses: Mapping[str, ObjectPose] = field(default_factory=dict)


OnFeedback = Callable[[Feedback], None]
"""Called from another thread; must return at once."""


def tells_feedback(
    on_feedback: OnFeedback, stamped: Stamped, ids: Mapping[int, str], also: OnProgress | None = None
) -> OnProgress:
    """An `on_progress` that tells feedback.

    Args:
        on_feedback: whom to tell.
        stamped: of the image.
        ids: of the objects, by number.
        also: told the progress as it is.
    """
    poses: dict[str, ObjectPose] = {}

    def on_progress(progress: Progress) -> None:
        if also is not None:
            also(progress)
        poses.update({ids[pose.id]: pose for pose in progress.poses if pose.id in ids})
        on_feedback(Feedback(stamped, progress.stage, progress.fraction, dict(poses)))

    return on_progress
