"""The services get_mesh and clear: what is known of an object, and forgetting all of them. Knows the server."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from std_srvs.srv import Trigger

from cupid_core.errors import CupidError
from cupid_ros.convert.header import make_header
from cupid_ros.convert.objects import make_object
from cupid_ros.messages import MessageTypes
from cupid_ros.server import Server
from cupid_ros.srv import GetMesh


class ObjectServices:
    """See the module.

    Args:
        node: an rclpy node.
        types: makes messages.
        server: the server to ask; raises a NotActiveError where there is none.
        take_away: removes what was published about objects, by their numbers.
        group: callback group.
    """

    def __init__(
        self,
        node: Any,
        types: MessageTypes,
        *,
        server: Callable[[], Server],
        take_away: Callable[[Collection[int]], None],
        group: Any,
    ) -> None:
        self._types, self._server, self._take_away = types, server, take_away
        node.create_service(GetMesh, "cupid/get_mesh", self._get_mesh, callback_group=group)
        node.create_service(Trigger, "cupid/clear", self._clear, callback_group=group)

    def _get_mesh(self, request: Any, response: Any) -> Any:
        try:
            stamped, item = self._server().latest(request.id)
            response.object = make_object(self._types, item, make_header(self._types, stamped))
            response.success = True
        except CupidError as error:
            response.success, response.code, response.text = False, error.code, str(error)
        return response

    def _clear(self, request: Any, response: Any) -> Any:
        try:
            numbers = self._server().clear()
            self._take_away(numbers)
            response.success, response.message = True, f"{len(numbers)} objects forgotten"
        except CupidError as error:
            response.success, response.message = False, f"[{error.code}] {error}"
        return response
