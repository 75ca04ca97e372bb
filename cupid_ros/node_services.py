"""What the node answers: the action Reconstruct, and the services get_mesh and clear."""

from __future__ import annotations

import gc
import logging
import math
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from rclpy.action import ActionServer, CancelResponse
from rclpy.task import Future
from std_srvs.srv import Trigger

from cupid_core.config.presets import PRESETS
from cupid_core.errors import CupidError
from cupid_core.serving.records import ObjectRecord, Observation
from cupid_core.serving.requests import Feedback, PendingRequest
from cupid_core.serving.server import Server
from cupid_ros.action import Reconstruct
from cupid_ros.convert.detections import read_detections
from cupid_ros.convert.header import make_header
from cupid_ros.convert.objects import feedback_fields, make_object, make_object_array
from cupid_ros.errors import InvalidMessageError
from cupid_ros.messages import MessageTypes
from cupid_ros.srv import GetMesh

_log = logging.getLogger(__name__)


class ReconstructAction:
    """The action: goal -> request to the server, progress -> feedback, outcome -> result.

    A goal that waits holds no thread.

    Args:
        node: an rclpy node.
        types: makes messages.
        server: the server to ask; raises a NotActiveError where there is none.
        publish: called when a request is done, before its goal is answered.
        mesh_uri: of the file with the mesh of an object, by its id.
        group: callback group.
    """

    def __init__(
        self,
        node: Any,
        types: MessageTypes,
        *,
        server: Callable[[], Server],
        publish: Callable[[], None],
        mesh_uri: Callable[[str], str],
        group: Any,
    ) -> None:
        self._node, self._types = node, types
        self._server, self._publish, self._mesh_uri = server, publish, mesh_uri
        self._pending: dict[bytes, tuple[Server, PendingRequest]] = {}
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
        """Some goals are not answered yet."""
        with self._lock:
            return bool(self._pending)

    def destroy(self) -> None:
        """End the action server."""
        self._action.destroy()

    async def _execute(self, goal: Any) -> Any:
        key = bytes(goal.goal_id.uuid)
        try:
            server = self._server()
            pending = self._request(server, goal)
        except CupidError as error:
            self._node.note_problem(error)
            goal.abort()
            return Reconstruct.Result(code=error.code, text=str(error))
        with self._lock:
            self._pending[key] = server, pending
            cancelled = key in self._cancelling
        if cancelled:  # the cancel request came before there was a ticket
            server.engine.cancel(pending.ticket)
        try:
            await self._done(pending)
            self._publish()
            return await self._answer(goal, key, pending.outcome())
        finally:
            with self._lock:
                self._pending.pop(key, None)
                self._cancelling.discard(key)

    def _request(self, server: Server, goal: Any) -> PendingRequest:
        wanted = goal.request
        if wanted.preset not in ("", *PRESETS):
            raise InvalidMessageError(
                f"The preset is '{wanted.preset[:40]}'.", hint=f"Use one of {', '.join(PRESETS)}."
            )
        if not (math.isfinite(wanted.deadline_s) and wanted.deadline_s >= 0.0):
            raise InvalidMessageError(f"The deadline is {wanted.deadline_s} s.", hint="Use 0 or more seconds.")
        detections = read_detections(wanted.detections)
        for problem in detections.refused.values():
            self._node.note_problem(problem)
        if detections.refused and not detections.good:
            raise next(iter(detections.refused.values()))

        def on_feedback(feedback: Feedback) -> None:
            """Runs in the worker's supervisor thread, which must not end because a client is gone."""
            try:
                goal.publish_feedback(Reconstruct.Feedback(**feedback_fields(self._types, feedback)))
            except Exception:  # noqa: BLE001 - rclpy raises various errors while the context shuts down
                _log.debug("feedback was not sent", exc_info=True)

        return server.request(
            ids=list(wanted.ids),
            detections=detections.good,
            preset=wanted.preset,
            deadline_s=wanted.deadline_s or None,
            on_feedback=on_feedback,
        )

    async def _done(self, pending: PendingRequest) -> None:
        """Wait until the worker has answered; the executor polls the future when it is woken."""
        executor = self._node.executor
        waited = Future(executor=executor)

        def wake(_: Any) -> None:
            waited.set_result(None)
            executor.wake()

        pending.ticket.future.add_done_callback(wake)
        await waited

    async def _answer(self, goal: Any, key: bytes, outcome: Observation | CupidError) -> Any:
        if isinstance(outcome, CupidError):
            result = Reconstruct.Result(code=outcome.code, text=str(outcome))
        else:
            with _no_garbage_collection():
                objects = make_object_array(
                    self._types, outcome, meshes=goal.request.meshes, mesh_uri=self._mesh_uri
                )
                result = Reconstruct.Result(objects=objects)
            if not outcome.objects and outcome.failures:
                error = next(iter(outcome.failures.values()))
                result.code, result.text = error.code, str(error)
        with self._lock:
            cancelling = key in self._cancelling
        while cancelling and goal.is_active and not goal.is_cancel_requested:
            await _Once()  # rclpy marks the goal as cancelling only after our answer to the cancel request
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
            found = self._pending.get(key)
        if found is not None:
            server, pending = found
            server.engine.cancel(pending.ticket)
        return CancelResponse.ACCEPT


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Of a message per vertex: the collector would walk over all of them again and again, and find nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Once:
    """Awaiting it gives the executor one round."""

    def __await__(self) -> Any:
        yield


class ObjectServices:
    """The services get_mesh (the newest reconstruction of an object) and clear (forget all objects).

    Args:
        node: an rclpy node.
        types: makes messages.
        server: the server to ask; raises a NotActiveError where there is none.
        remove_objects: removes what was published about objects, by their numbers.
        mesh_uri: of the file with the mesh of an object, in the format that is given or that of the settings.
        group: callback group.
    """

    def __init__(
        self,
        node: Any,
        types: MessageTypes,
        *,
        server: Callable[[], Server],
        remove_objects: Callable[[Collection[int]], None],
        mesh_uri: Callable[[ObjectRecord, str], str],
        group: Any,
    ) -> None:
        self._types, self._server, self._remove_objects = types, server, remove_objects
        self._mesh_uri = mesh_uri
        node.create_service(GetMesh, "cupid/get_mesh", self._get_mesh, callback_group=group)
        node.create_service(Trigger, "cupid/clear", self._clear, callback_group=group)

    def _get_mesh(self, request: Any, response: Any) -> Any:
        try:
            stamped, item = self._server().latest(request.id)
            with _no_garbage_collection():
                header = make_header(self._types, stamped)
                uri = self._mesh_uri(item, request.format)
                response.object = make_object(self._types, item, header, mesh=not request.format, mesh_uri=uri)
            response.success = True
        except CupidError as error:
            response.success, response.code, response.text = False, error.code, str(error)
        return response

    def _clear(self, request: Any, response: Any) -> Any:
        try:
            numbers = self._server().clear()
            self._remove_objects(numbers)
            response.success, response.message = True, f"{len(numbers)} objects forgotten"
        except CupidError as error:
            response.success, response.message = False, f"[{error.code}] {error}"
        return response
