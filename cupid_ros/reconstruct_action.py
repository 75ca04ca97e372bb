"""The action Reconstruct: goal -> request to the server, progress -> feedback, outcome -> result.

Knows action servers and the server's `request`; waits without holding a thread.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Any

from rclpy.action import ActionServer, CancelResponse
from rclpy.task import Future

from cupid_core.errors import CupidError
from cupid_ros.action import Reconstruct
from cupid_ros.convert.detections import read_detections
from cupid_ros.convert.feedback import feedback_fields
from cupid_ros.convert.objects import make_object_array
from cupid_ros.errors import InvalidMessageError
from cupid_ros.feedback import Feedback
from cupid_ros.messages import MessageTypes
from cupid_ros.results import Observation
from cupid_ros.server import PRESETS, Order, Server

_log = logging.getLogger(__name__)


class ReconstructAction:
    """See the module.

    Args:
        node: an rclpy node.
        types: makes messages.
        server: the server to ask; raises a NotActiveError where there is none.
        publish: called when a request is done, before its goal is answered.
        group: callback group.
    """

    def __init__(
        self,
        node: Any,
        types: MessageTypes,
        *,
        server: Callable[[], Server],
        publish: Callable[[], None],
        group: Any,
    ) -> None:
        self._node, self._types = node, types
        self._server, self._publish = server, publish
        self._orders: dict[bytes, tuple[Server, Order]] = {}
        self._cancelling: set[bytes] = set()
        self._lock = threading.Lock()
        self._action = ActionServer(
            node,
            Reconstruct,
            "cupid/reconstruct",
            execute_callback=self._execute,
            cancel_callback=self._cancel,
            callback_group=group,
        )

    @property
    def busy(self) -> bool:
        """Goals are not answered yet."""
        with self._lock:
            return bool(self._orders)

    def destroy(self) -> None:
        """End the action server."""
        self._action.destroy()

    async def _execute(self, goal: Any) -> Any:
        key = bytes(goal.goal_id.uuid)
        try:
            server = self._server()
            order = self._request(server, goal)
        except CupidError as error:
            self._node.note_problem(error)
            goal.abort()
            return Reconstruct.Result(code=error.code, text=str(error))
        with self._lock:
            self._orders[key] = server, order
            cancelled = key in self._cancelling
        if cancelled:  # before there was anything to cancel
            server.engine.cancel(order.ticket)
        try:
            await self._done(order)
            self._publish()
            return await self._answer(goal, key, order.outcome())
        finally:
            with self._lock:
                self._orders.pop(key, None)
                self._cancelling.discard(key)

    def _request(self, server: Server, goal: Any) -> Order:
        asked = goal.request
        if asked.preset not in ("", *PRESETS):
            raise InvalidMessageError(
                f"The preset is '{asked.preset[:40]}'.", hint=f"Use one of {', '.join(PRESETS)}."
            )
        if not (math.isfinite(asked.deadline_s) and asked.deadline_s >= 0.0):
            raise InvalidMessageError(f"The deadline is {asked.deadline_s} s.", hint="Use 0 or more seconds.")
        found = read_detections(asked.detections)
        for problem in found.refused.values():
            self._node.note_problem(problem)
        if found.refused and not found.good:
            raise next(iter(found.refused.values()))

        def on_feedback(feedback: Feedback) -> None:
            """Called by the worker's thread, which must not end because a client is gone."""
            try:
                goal.publish_feedback(Reconstruct.Feedback(**feedback_fields(self._types, feedback)))
            except Exception:  # noqa: BLE001 - rclpy raises all sorts when the context is going down
                _log.debug("feedback was not sent", exc_info=True)

        return server.request(
            ids=list(asked.ids),
            detections=found.good,
            preset=asked.preset,
            deadline_s=asked.deadline_s or None,
            on_feedback=on_feedback,
        )

    async def _done(self, order: Order) -> None:
        """Until the worker has answered; the executor polls what waits here when it is woken."""
        executor = self._node.executor
        waited = Future(executor=executor)

        def wake(_: Any) -> None:
            waited.set_result(None)
            executor.wake()

        order.ticket.future.add_done_callback(wake)
        await waited

    async def _answer(self, goal: Any, key: bytes, outcome: Observation | CupidError) -> Any:
        if isinstance(outcome, CupidError):
            result = Reconstruct.Result(code=outcome.code, text=str(outcome))
        else:
            result = Reconstruct.Result(objects=make_object_array(self._types, outcome))
            if not outcome.objects and outcome.failures:
                error = next(iter(outcome.failures.values()))
                result.code, result.text = error.code, str(error)
        with self._lock:
            cancelling = key in self._cancelling
        while cancelling and goal.is_active and not goal.is_cancel_requested:
            await _Once()  # rclpy marks the goal after our answer to the cancel request
        if goal.is_cancel_requested:
            goal.canceled()
        elif result.code:
            goal.abort()
        else:
            goal.succeed()
        return result

    def _cancel(self, goal: Any) -> Any:
        key = bytes(goal.goal_id.uuid)
        with self._lock:
            self._cancelling.add(key)
            found = self._orders.get(key)
        if found is not None:
            server, order = found
            server.engine.cancel(order.ticket)
        return CancelResponse.ACCEPT


class _Once:
    """Awaited, gives the executor one round."""

    def __await__(self) -> Any:
        yield
