"""Jobs for the tests of the worker; at the top of a module, because the worker's process imports them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from cupid_core.errors import CancelledError, CheckpointError, CupidError
from cupid_core.reconstruct.progress import Cancelled, ObjectPose, OnProgress, Progress
from cupid_core.serving.engine import Images, Job
from cupid_core.types import ScaleSource


class UnpicklableError(CupidError):
    """A CupidError whose class cannot be pickled."""

    code: ClassVar[str] = "unpicklable"

    def __init__(self) -> None:
        super().__init__("It is bad.", hint="Mend it.")
        self.handle = lambda: None

    def __reduce__(self) -> tuple[object, ...]:
        return (UnpicklableError, (self.handle,))


def play(request: dict[str, Any], pixels: Images, on_progress: OnProgress, cancelled: Cancelled) -> Any:
    """Do what the request says."""
    word = request["do"]
    on_progress(Progress("structure", 0.0))
    if word == "poses":  # many in a row: every pose is reported, however fast
        for number in range(20):
            pose = ObjectPose(
                number, (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 1.0), (0.0,) * 36, 1.0, ScaleSource.SENSOR, 0.1
            )
            on_progress(Progress("pose", 0.5, (pose,)))
        return word
    if word == "sum":
        return {
            name: (int(np.asarray(image).astype(np.int64).sum()), image.shape) for name, image in pixels.items()
        }
    if word == "pid":
        return os.getpid()
    if word == "hang":  # ignores cancellation
        time.sleep(600)
    if word == "sleep":
        end = time.monotonic() + request["s"]
        while time.monotonic() < end:
            time.sleep(0.005)
            if cancelled():
                raise CancelledError("Stopped as asked.", hint="Start again.")
        return "slept"
    if word == "die":
        os._exit(3)
    if word == "ours":
        raise CheckpointError("No such thing.", hint="Find it.")
    if word == "theirs":
        raise ZeroDivisionError("one by none")
    if word == "unpicklable":
        raise UnpicklableError
    if word == "memory":
        raise MemoryError("all gone")
    if word == "write":
        pixels["image"][0] = 1  # the images are read-only
    return word


def make_player() -> Job:
    """Ready at once."""
    return play


@dataclass(frozen=True)
class MakeBroken:
    """Fails to load until a file is there."""

    path: Path

    def __call__(self) -> Job:
        if not self.path.exists():
            raise CheckpointError("The checkpoint is missing.", hint="Put it there.")
        return play


@dataclass(frozen=True)
class MakeSlow:
    """Takes its time to load."""

    seconds: float

    def __call__(self) -> Job:
        time.sleep(self.seconds)
        return play
