"""How far a reconstruction is, how long its steps take, and how it is stopped; knows no step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cupid_core.errors import CancelledError

if TYPE_CHECKING:  # this module is also read by processes that do without torch
    from cupid_core.sampling.solver import OnStep, Step
    from cupid_core.types import ScaleSource

STAGES = ("crop", "encode", "structure", "pose", "appearance", "decode", "measure", "place")


@dataclass(frozen=True)
class ObjectPose:
    """Where an object stands, told before its mesh is there; plain numbers, which cross the border of a process.

    It comes from the voxels of stage 1: the final pose, measured with the mesh and perhaps refined, differs
    from it, and with several hypotheses may be that of another one.

    Attributes:
        id: of the object in the request; the row of the view where objects have no ids.
        quat_xyzw: rotation of T_camera_object.
        translation: of T_camera_object; metres, or canonical units where the source is UNKNOWN.
        covariance: 36 numbers, row by row, of x, y, z, rx, ry, rz in the camera frame, in that unit and radians.
        scale: metres per canonical unit; 1 where the source is UNKNOWN.
        scale_source: where the scale comes from.
        scale_std: its standard deviation, same unit; NaN where the source is UNKNOWN.
    """

    id: int
    quat_xyzw: tuple[float, ...]
    translation: tuple[float, ...]
    covariance: tuple[float, ...]
    scale: float
    scale_source: ScaleSource
    scale_std: float


@dataclass(frozen=True)
class Progress:
    """What is being done.

    Attributes:
        stage: one of `STAGES`.
        fraction: finished share of the stage, 0 to 1.
        poses: of the objects whose pose has become known with this report; each is told once.
    """

    stage: str
    fraction: float
    poses: tuple[ObjectPose, ...] = ()


OnShare = Callable[[float], None]
"""Called with the finished share, 0 to 1, of one piece of work; raising stops it."""
OnProgress = Callable[[Progress], None]
"""Called often; raising stops the reconstruction, and the error reaches the caller as it is."""
Cancelled = Callable[[], bool]
"""Asked often; True stops the reconstruction with a CancelledError."""


@dataclass
class Run:
    """One reconstruction in progress.

    Attributes:
        on_progress: told about every step.
        cancelled: asked at every step.
        timings_s: seconds of the finished stages.
    """

    on_progress: OnProgress | None = None
    cancelled: Cancelled | None = None
    timings_s: dict[str, float] = field(default_factory=dict)

    def report(self, stage: str, fraction: float, poses: tuple[ObjectPose, ...] = ()) -> None:
        """Tell how far a stage is, and which poses are known by it.

        Raises:
            CancelledError: the caller wants to stop.
        """
        if self.cancelled is not None and self.cancelled():
            raise CancelledError(f"Stopped during '{stage}' as asked.", hint="Start again.")
        if self.on_progress is not None:
            self.on_progress(Progress(stage, fraction, poses))

    @contextmanager
    def stage(self, name: str) -> Iterator[OnStep]:
        """Time a stage; what it yields reports the steps of a sampler.

        Raises:
            CancelledError: the caller wants to stop.
        """

        def on_step(step: Step) -> None:
            self.report(name, step.fraction)

        self.report(name, 0.0)
        start = time.perf_counter()
        yield on_step
        self.timings_s[name] = self.timings_s.get(name, 0.0) + time.perf_counter() - start
        self.report(name, 1.0)
