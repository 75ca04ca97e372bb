"""What the node and the bag runner drive: frames in, observations and problems out; knows no topics and no clock.

    server.offer(frame)             # continuous: reconstructs what is new
    server.request(ids=["3"])       # on request: of the newest frame
    for result in server.collect(): ...

Nothing here waits: the engine (`Worker`, or `InProcess`) does the work, `collect` hands out what is done.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from cupid_core.config.presets import PRESETS
from cupid_core.config.ros import RosConfig
from cupid_core.errors import CupidError
from cupid_core.geometry.camera import Camera
from cupid_core.image.masks import Box
from cupid_core.reconstruct.progress import OnProgress
from cupid_ros.convert.camera import same_camera
from cupid_ros.convert.detections import Detection
from cupid_ros.convert.header import Stamped
from cupid_ros.errors import InvalidMessageError, NoObjectsError, WorkerDiedError
from cupid_ros.feedback import OnFeedback, tells_feedback
from cupid_ros.identity import Identities, Target
from cupid_ros.intake import CameraFrame
from cupid_ros.job import CameraValues, SceneRequest
from cupid_ros.orders import Failed, Order
from cupid_ros.results import ObjectRecord, Observation
from cupid_ros.server_stats import ServerStats
from cupid_ros.tickets import Engine

__all__ = ["PRESETS", "Failed", "Order", "Server"]


class Server:
    """See the module. Safe to call from several threads.

    Args:
        engine: does the work.
        config: mode, preset, what is remembered; may be replaced at any time.
        stats: counters to go on with; new ones where None.
    """

    def __init__(self, engine: Engine, config: RosConfig | None = None, stats: ServerStats | None = None) -> None:
        self.engine = engine
        self.config = config or RosConfig()
        self.stats = stats or ServerStats()
        self._identities = Identities(self.config.tracking)
        self._records: OrderedDict[str, tuple[Stamped, ObjectRecord]] = OrderedDict()
        self._tried: OrderedDict[str, None] = OrderedDict()
        self._orders: list[Order] = []
        self._frame: CameraFrame | None = None
        self._targets: list[Target] = []
        self._refused: Mapping[str, CupidError] = {}
        self._camera: Camera | None = None
        # Reentrant: an engine in this process may call back from inside `submit`.
        self._lock = threading.RLock()

    def offer(self, frame: CameraFrame) -> Order | None:
        """Take a frame; in continuous mode what is new in it is reconstructed.

        Returns:
            What was ordered; None where there is nothing to do. An order that has not begun is superseded by it.
        """
        with self._lock:
            self._look_at(frame)
            asked = any(order.asked and order.ticket.started is None for order in self._orders)
            if self.config.mode != "continuous" or asked:
                return None
            # Objects of an order that waits are asked for again: the engine drops the older order. Those of one
            # that is done but not collected are not: what came of it says whether they have been tried.
            busy = {
                target.id
                for order in self._orders
                if order.ticket.started is not None
                for target in order.targets.values()
            }
            wanted = [
                target
                for target in self._targets
                if target.id not in busy and (self.config.update_poses or target.id not in self._tried)
            ]
            return self._order(wanted, preset="", deadline_s=None) if wanted else None

    def request(
        self,
        *,
        ids: Collection[str] = (),
        detections: Collection[Detection] = (),
        preset: str = "",
        deadline_s: float | None = None,
        on_progress: OnProgress | None = None,
        on_feedback: OnFeedback | None = None,
    ) -> Order:
        """Reconstruct objects of the newest frame.

        Args:
            ids: which; empty takes all.
            detections: in the place of those of the frame.
            preset: "fast", "normal" or "best"; empty takes the settings'.
            deadline_s: seconds from now; None takes the settings'.
            on_progress: called from another thread.
            on_feedback: the same in ids, with all poses known by now; called from another thread.

        Raises:
            InvalidMessageError: there is no such preset, or the deadline is no time.
            NoObjectsError: there is no frame, or none of the objects is in it.
        """
        if preset not in ("", *PRESETS):
            raise InvalidMessageError(f"The preset is '{preset[:40]}'.", hint=f"Use one of {', '.join(PRESETS)}.")
        if deadline_s is not None and not 0.0 < deadline_s < math.inf:
            raise InvalidMessageError(f"The deadline is {deadline_s} s.", hint="Use more than 0 seconds.")
        with self._lock:
            if self._frame is None:
                raise NoObjectsError("No image has come yet.", hint="Check the image topic and its QoS.")
            if detections:
                self._look_at(replace(self._frame, detections=tuple(detections)))
            wanted = [target for target in self._targets if not ids or target.id in ids]
            missing = sorted(set(ids) - {target.id for target in wanted})
            if missing or not wanted:
                seen = [target.id for target in self._targets]
                raise NoObjectsError(
                    f"Objects {missing or 'of any id'} are not in the newest image; it has {seen}.",
                    hint="Ask for ids that the detector gives now.",
                )
            if on_feedback is not None:
                ids_of = {target.number: target.id for target in wanted}
                on_progress = tells_feedback(on_feedback, self._frame.stamped, ids_of, on_progress)
            return self._order(wanted, preset=preset, deadline_s=deadline_s, on_progress=on_progress, asked=True)

    def collect(self) -> list[Observation | Failed]:
        """What is done since the last call, in the order in which it was ordered; never waits."""
        with self._lock:
            done = [order for order in self._orders if order.ticket.done]
            self._orders = [order for order in self._orders if not order.ticket.done]
            results: list[Observation | Failed] = []
            for order in done:
                outcome = order.outcome()
                if isinstance(outcome, CupidError):
                    results.append(Failed(order, outcome))
                    self._note(outcome)
                    if isinstance(outcome, WorkerDiedError):
                        self._count_as_tried(order)
                else:
                    results.append(outcome)
                    self._remember(order, outcome)
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
            self._note(error)

    def clear(self) -> list[int]:
        """Forget all objects, so that they are reconstructed again; returns the numbers of those there were."""
        with self._lock:
            numbers = [record.number for _, record in self._records.values()]
            self._records.clear()
            self._tried.clear()
            self._identities.clear()
            return numbers

    def drop(self) -> None:
        """Cancel what is open, and let go of the newest frame and of all objects."""
        with self._lock:
            orders, self._orders = self._orders, []
            self._frame, self._camera, self._targets, self._refused = None, None, [], {}
            self.clear()
        for order in orders:
            self.engine.cancel(order.ticket)

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def _look_at(self, frame: CameraFrame) -> None:
        """Who is in a frame; and whether the camera is another one."""
        self.stats.frames += 1
        if self._frame is not None and not same_camera(self._camera, frame.camera):
            self.stats.camera_changes += 1
        self._frame, self._camera = frame, frame.camera
        targets, self._refused = self._identities.targets(frame)
        best = sorted(targets, key=lambda target: -(target.score or 0.0))
        kept = {target.number for target in best[: self.config.input.max_objects]}
        self._targets = [target for target in targets if target.number in kept]
        for problem in (*frame.problems, *self._refused.values()):
            self._note(problem)

    def _order(
        self,
        wanted: Iterable[Target],
        *,
        preset: str,
        deadline_s: float | None,
        on_progress: OnProgress | None = None,
        asked: bool = False,
    ) -> Order:
        assert self._frame is not None
        targets = {target.number: target for target in wanted}
        beside = [target for target in self._targets if target.number not in targets]
        samples, refine = PRESETS[preset or self.config.preset]
        request = SceneRequest(
            camera=None if self._frame.camera is None else CameraValues.of(self._frame.camera),
            depth_scale_std=0.0 if self._frame.depth is None else self._frame.depth.scale_std,
            numbers=tuple(number for number, target in targets.items() if target.box is None),
            boxes={number: target.box for number, target in targets.items() if target.box is not None},
            names={number: target.class_id for number, target in targets.items() if target.class_id},
            numbers_beside=tuple(target.number for target in beside if target.box is None),
            boxes_beside={
                target.number: target.box
                for target in beside
                if target.box is not None and _near_any(target.box, targets.values())
            },
            seed=self.config.seed,
            samples=samples,
            refine=refine,
            overlay=self.config.output.overlay,
            early_poses=on_progress is not None,
        )
        ticket = self.engine.submit(request, _pixels(self._frame), deadline_s=deadline_s, on_progress=on_progress)
        order = Order(ticket, self._frame.stamped, targets, dict(self._refused), asked)
        self._orders.append(order)
        return order

    def _remember(self, order: Order, seen: Observation) -> None:
        for item in seen.objects:
            self._records[item.id] = (order.stamped, item)
            self._records.move_to_end(item.id)
        self._count_as_tried(order)
        for error in seen.failures.values():
            self._note(error)

    def _count_as_tried(self, order: Order) -> None:
        """An object that could not be reconstructed, or ended the worker, is not tried again with every frame."""
        for target in order.targets.values():
            self._tried[target.id] = None
            self._tried.move_to_end(target.id)
        kept: tuple[OrderedDict[str, Any], ...] = (self._records, self._tried)
        for memory in kept:
            while len(memory) > self.config.tracking.remember:
                memory.popitem(last=False)

    def _note(self, error: CupidError) -> None:
        self.stats.note(error)


def _near_any(box: Box, targets: Iterable[Target]) -> bool:
    """Whether a box overlaps that of any target; an object that does not hides nothing of them."""
    return any(
        other.box is None
        or (box[0] < other.box[2] and other.box[0] < box[2] and box[1] < other.box[3] and other.box[1] < box[3])
        for other in targets
    )


def _pixels(frame: CameraFrame) -> dict[str, NDArray[Any]]:
    pixels: dict[str, NDArray[Any]] = {"image": frame.image}
    if frame.depth is not None:
        pixels["depth"] = frame.depth.depth_m.numpy()
    if frame.labels is not None:
        pixels["labels"] = frame.labels
    return pixels
