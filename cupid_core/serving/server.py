"""What the ROS node and the bag runner drive: frames in, observations and problems out.

    server.offer(frame)             # continuous: reconstructs what is new
    server.request(ids=["3"])       # on request: objects of the newest frame
    for result in server.collect(): ...

Nothing here waits: the engine does the work, and `collect` returns what is done.
"""

from __future__ import annotations

import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cupid_core.config.presets import PRESETS
from cupid_core.config.ros import RosConfig
from cupid_core.errors import CupidError
from cupid_core.reconstruct.progress import OnProgress
from cupid_core.serving.engine import Engine
from cupid_core.serving.errors import InvalidRequestError, NoObjectsError, WorkerDiedError
from cupid_core.serving.frames import CameraFrame, Detection, Stamped
from cupid_core.serving.records import CameraValues, ObjectRecord, Observation
from cupid_core.serving.requests import (
    FailedRequest,
    OnFeedback,
    PendingRequest,
    report_feedback,
    scene_request,
)
from cupid_core.serving.tracking import ObjectTracker, Target, check_labels


@dataclass
class ServerStats:
    """Counters since the start; they may outlive a server.

    Attributes:
        frames: offered.
        problems: errors of all kinds.
        camera_changes: how often the camera of a frame differed from that of the one before.
        last_error: code and text of the newest error; empty where there was none.
        codes: how often each code came.
        texts: newest text of each code.
    """

    frames: int = 0
    problems: int = 0
    camera_changes: int = 0
    last_error: str = ""
    codes: Counter[str] = field(default_factory=Counter)
    texts: dict[str, str] = field(default_factory=dict)

    def note(self, error: CupidError) -> None:
        """Count an error."""
        self.problems += 1
        self.codes[error.code] += 1
        self.texts[error.code] = str(error)
        self.last_error = f"[{error.code}] {error}"


class Server:
    """Decides what to reconstruct, and keeps the newest result of each object. Safe to call from several threads.

    Args:
        engine: does the work.
        config: mode, preset, how much is remembered; may be replaced at any time.
        stats: counters to continue; new ones where None.
    """

    def __init__(self, engine: Engine, config: RosConfig | None = None, stats: ServerStats | None = None) -> None:
        self.engine = engine
        self.config = config or RosConfig()
        self.stats = stats or ServerStats()
        self._tracker = ObjectTracker(self.config.tracking)
        self._records: OrderedDict[str, tuple[Stamped, ObjectRecord]] = OrderedDict()
        self._tried: OrderedDict[str, None] = OrderedDict()
        self._pending: list[PendingRequest] = []
        self._frame: CameraFrame | None = None
        self._targets: list[Target] = []
        self._refused: Mapping[str, CupidError] = {}
        # Reentrant: an engine in this process may call back from inside `submit`.
        self._lock = threading.RLock()

    def offer(self, frame: CameraFrame) -> PendingRequest | None:
        """Take a frame; in continuous mode its new objects are reconstructed.

        Returns:
            What was requested; None where there is nothing to do. It supersedes a request that has not started.
        """
        with self._lock:
            self._set_frame(frame)
            explicit = any(pending.explicit and pending.ticket.started is None for pending in self._pending)
            if self.config.mode != "continuous" or explicit:
                return None
            # Objects of a request that has not started are requested again: the engine drops the older request.
            # Those of one that is done but not collected are not: its result says whether they have been tried.
            busy = {
                target.id
                for pending in self._pending
                if pending.ticket.started is not None
                for target in pending.targets.values()
            }
            wanted = [
                target
                for target in self._targets
                if target.id not in busy and (self.config.update_poses or target.id not in self._tried)
            ]
            return self._submit(wanted) if wanted else None

    def request(
        self,
        *,
        ids: Collection[str] = (),
        detections: Collection[Detection] = (),
        preset: str = "",
        deadline_s: float | None = None,
        on_progress: OnProgress | None = None,
        on_feedback: OnFeedback | None = None,
    ) -> PendingRequest:
        """Reconstruct objects of the newest frame.

        Args:
            ids: which; empty takes all.
            detections: in the place of those of the frame.
            preset: "fast", "normal" or "best"; empty takes the settings'.
            deadline_s: seconds from now; None takes the settings'.
            on_progress: called from another thread.
            on_feedback: the same with ids and all poses known so far; called from another thread.

        Raises:
            InvalidRequestError: there is no such preset, or the deadline is not a positive number.
            NoObjectsError: there is no frame, or it lacks one of the objects.
        """
        if preset not in ("", *PRESETS):
            raise InvalidRequestError(f"The preset is '{preset[:40]}'.", hint=f"Use one of {', '.join(PRESETS)}.")
        if deadline_s is not None and not 0.0 < deadline_s < math.inf:
            raise InvalidRequestError(f"The deadline is {deadline_s} s.", hint="Use more than 0 seconds.")
        with self._lock:
            if self._frame is None:
                raise NoObjectsError("No image has come yet.", hint="Check the image topic and its QoS.")
            if detections:
                given, problems = check_labels(tuple(detections), self._frame.labels)
                self._set_frame(replace(self._frame, detections=given, problems=tuple(problems)))
            wanted = [target for target in self._targets if not ids or target.id in ids]
            missing = sorted(set(ids) - {target.id for target in wanted})
            if missing or not wanted:
                present = [target.id for target in self._targets]
                raise NoObjectsError(
                    f"Objects {missing or 'of any id'} are not in the newest image; it has {present}.",
                    hint="Ask for ids that the detector gives now.",
                )
            if on_feedback is not None:
                ids_of = {target.number: target.id for target in wanted}
                on_progress = report_feedback(on_feedback, self._frame.stamped, ids_of, on_progress)
            return self._submit(
                wanted, preset=preset, deadline_s=deadline_s, on_progress=on_progress, explicit=True
            )

    def collect(self) -> list[Observation | FailedRequest]:
        """What is done since the last call, in the order of the requests; never waits."""
        with self._lock:
            done = [pending for pending in self._pending if pending.ticket.done]
            self._pending = [pending for pending in self._pending if not pending.ticket.done]
            results: list[Observation | FailedRequest] = []
            for pending in done:
                outcome = pending.outcome()
                if isinstance(outcome, CupidError):
                    results.append(FailedRequest(pending, outcome))
                    self.stats.note(outcome)
                    if isinstance(outcome, WorkerDiedError):
                        self._mark_as_tried(pending)
                else:
                    results.append(outcome)
                    self._remember(pending, outcome)
            return results

    def latest(self, id_: str) -> tuple[Stamped, ObjectRecord]:
        """The newest reconstruction of an object.

        Raises:
            NoObjectsError: there is none.
        """
        with self._lock:
            if id_ not in self._records:
                raise NoObjectsError(
                    f"There is no object '{id_[:40]}'; there are {list(self._records)}.",
                    hint="Ask for one of them.",
                )
            return self._records[id_]

    def note_problem(self, error: CupidError) -> None:
        """Count an error that came before a frame was made."""
        with self._lock:
            self.stats.note(error)

    def clear(self) -> list[int]:
        """Forget all objects, so that they are reconstructed again; returns the numbers of those there were."""
        with self._lock:
            numbers = [record.number for _, record in self._records.values()]
            self._records.clear()
            self._tried.clear()
            self._tracker.clear()
            return numbers

    def drop(self) -> None:
        """Cancel what is pending, and forget the newest frame and all objects."""
        with self._lock:
            canceled, self._pending = self._pending, []
            self._frame, self._targets, self._refused = None, [], {}
            self.clear()
        for pending in canceled:
            self.engine.cancel(pending.ticket)

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def _set_frame(self, frame: CameraFrame) -> None:
        """Make a frame the newest one: find its objects, and notice another camera."""
        self.stats.frames += 1
        if self._frame is not None and _camera_values(self._frame) != _camera_values(frame):
            self.stats.camera_changes += 1
        self._frame = frame
        targets, self._refused = self._tracker.targets(frame)
        best = sorted(targets, key=lambda target: -(target.score or 0.0))
        kept = {target.number for target in best[: self.config.input.max_objects]}
        self._targets = [target for target in targets if target.number in kept]
        for problem in (*frame.problems, *self._refused.values()):
            self.stats.note(problem)

    def _submit(
        self,
        wanted: Iterable[Target],
        *,
        preset: str = "",
        deadline_s: float | None = None,
        on_progress: OnProgress | None = None,
        explicit: bool = False,
    ) -> PendingRequest:
        assert self._frame is not None
        targets = {target.number: target for target in wanted}
        others = [target for target in self._targets if target.number not in targets]
        request = scene_request(
            self._frame,
            targets.values(),
            others,
            self.config,
            preset=preset,
            early_poses=on_progress is not None,
        )
        ticket = self.engine.submit(request, self._frame.arrays(), deadline_s=deadline_s, on_progress=on_progress)
        pending = PendingRequest(ticket, self._frame.stamped, targets, dict(self._refused), explicit)
        self._pending.append(pending)
        return pending

    def _remember(self, pending: PendingRequest, observation: Observation) -> None:
        for item in observation.objects:
            self._records[item.id] = (pending.stamped, item)
            self._records.move_to_end(item.id)
        self._mark_as_tried(pending)
        for error in observation.failures.values():
            self.stats.note(error)

    def _mark_as_tried(self, pending: PendingRequest) -> None:
        """An object that could not be reconstructed, or ended the worker, is not tried again with every frame."""
        for target in pending.targets.values():
            self._tried[target.id] = None
            self._tried.move_to_end(target.id)
        bounded: tuple[OrderedDict[str, Any], ...] = (self._records, self._tried)
        for memory in bounded:
            while len(memory) > self.config.tracking.remember:
                memory.popitem(last=False)


def _camera_values(frame: CameraFrame) -> CameraValues | None:
    return None if frame.camera is None else CameraValues.of(frame.camera)
