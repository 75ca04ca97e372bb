"""A job that does what the classes of the detections say, for tests of a running node; else it makes boxes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from stub_job import boxes

from cupid_core.errors import CancelledError, CheckpointError
from cupid_core.reconstruct.progress import Cancelled, OnProgress, Progress
from cupid_ros.job import SceneRequest
from cupid_ros.results import SceneRecord
from cupid_ros.tickets import Job, Pixels

_SECONDS = {"slow": 30.0, "busy": 300.0}


def act(request: SceneRequest, pixels: Pixels, on_progress: OnProgress, cancelled: Cancelled) -> SceneRecord:
    """Boxes, after what the names of the objects say: "hang" is deaf, "slow" and "busy" stop when asked."""
    words = set(request.names.values())
    on_progress(Progress("encode", 0.5))
    if "hang" in words:
        time.sleep(600)
    if "die" in words:
        os._exit(3)
    end = time.monotonic() + max((_SECONDS.get(word, 0.0) for word in words), default=0.0)
    while time.monotonic() < end:
        time.sleep(0.005)
        if cancelled():
            raise CancelledError("Stopped as asked.", hint="Start again.")
    return boxes(request, pixels, on_progress, cancelled)


def make_actor() -> Job:
    """Ready at once."""
    return act


@dataclass(frozen=True)
class MakeActorLate:
    """Takes its time to load.

    Attributes:
        seconds: of it.
    """

    seconds: float

    def __call__(self) -> Job:
        time.sleep(self.seconds)
        return act


@dataclass(frozen=True)
class MakeActorWhenThere:
    """Fails to load until a file is there.

    Attributes:
        path: of the file.
    """

    path: Path

    def __call__(self) -> Job:
        if not self.path.exists():
            raise CheckpointError("The checkpoint is missing.", hint="Put it there.")
        return act
