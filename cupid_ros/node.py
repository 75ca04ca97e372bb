"""The lifecycle node: passes messages to `cupid_core.serving.server`, and publishes its results.

Callbacks convert, call the server, and return. A worker process computes, and a guard condition wakes the node
when a request is done. Configure loads the networks, activate subscribes, deactivate drops images and objects,
cleanup ends the process.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNodeMixin, TransitionCallbackReturn
from rclpy.node import Node

from cupid_core.errors import CupidError
from cupid_core.geometry.se3 import SE3
from cupid_core.serving.engine import MakeJob
from cupid_core.serving.errors import SupersededError, WorkerClosedError, WorkerStartError
from cupid_core.serving.frames import CameraFrame, Stamped
from cupid_core.serving.jobs import MakeCupidJob
from cupid_core.serving.records import ObjectRecord
from cupid_core.serving.requests import FailedRequest
from cupid_core.serving.server import Server, ServerStats
from cupid_core.serving.worker import Worker
from cupid_ros.diagnostics import ProblemWatch, Rates, inputs_status, make_diagnostics, worker_status
from cupid_ros.errors import MissingTransformError, NodeFailedError, NotActiveError
from cupid_ros.frame_messages import FrameMessages, read_frame
from cupid_ros.inputs import Inputs, wanted_topics
from cupid_ros.node_parameters import NodeParameters
from cupid_ros.node_services import ObjectServices, ReconstructAction
from cupid_ros.outputs import Outputs, publishing_types
from cupid_ros.rclpy_messages import RclpyMessageTypes
from cupid_ros.tf_listener import TransformListener, listen

NAME = "recon_node"
_DIAGNOSTICS_S = 1.0
_TF_MEMORY_S = 10.0


class ReconNode(LifecycleNodeMixin, Node):  # type: ignore[misc]
    """The lifecycle node `recon_node`.

    Args:
        make_job: loads what the worker runs; the networks that the parameters name where None.
        node_options: for `rclpy.node.Node`.
    """

    def __init__(self, *, make_job: MakeJob | None = None, **node_options: Any) -> None:
        Node.__init__(self, NAME, **node_options)
        # Reentrant, so that get_state is answered while the networks are loaded.
        LifecycleNodeMixin.__init__(self, callback_group=ReentrantCallbackGroup())
        self.types, self._published_types = RclpyMessageTypes(), publishing_types()
        self.stats = ServerStats()
        self._make_job = make_job
        self._settings = NodeParameters(self)
        self._worker: Worker | None = None
        self._server: Server | None = None
        self._inputs: Inputs | None = None
        self._outputs: Outputs | None = None
        self._tf: TransformListener | None = None
        self._gpu_memory_mb: float | None = None
        self._not_in_use: set[str] = set()
        self._closing = threading.Event()
        self._publishing, self._changing = threading.Lock(), threading.Lock()
        self._watch, self._rates = ProblemWatch(self.stats), Rates()
        self._input_group = MutuallyExclusiveCallbackGroup()
        answers = ReentrantCallbackGroup()
        self._done = self.create_guard_condition(
            partial(self._guarded, self.publish_results), MutuallyExclusiveCallbackGroup()
        )
        self._action = ReconstructAction(
            self,
            self.types,
            server=self._active_server,
            publish=self.publish_results,
            mesh_uri=self._mesh_uri,
            group=answers,
        )
        ObjectServices(
            self,
            self.types,
            server=self._active_server,
            remove_objects=self._remove_objects,
            mesh_uri=self._mesh_file,
            group=answers,
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # A steady clock, so that diagnostics come while simulated time stands still.
        self.create_timer(
            _DIAGNOSTICS_S,
            partial(self._guarded, self._publish_diagnostics),
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )
        if hasattr(self, "add_pre_set_parameters_callback"):  # from Iron on; gets also what the ranges refuse
            self.add_pre_set_parameters_callback(self._note_refused_changes)
        self.add_on_set_parameters_callback(self._change)

    def on_configure(self, state: Any) -> Any:
        """Read the parameters, start the worker and wait for its networks; fails where they cannot be loaded."""
        return self._transition("configure", self._configure, undo=self._release)

    def on_activate(self, state: Any) -> Any:
        """Publish and subscribe."""
        return self._transition("activate", self._start_io, undo=self._stop_io)

    def on_deactivate(self, state: Any) -> Any:
        """Stop; images, requests and objects are dropped, the networks stay loaded."""
        return self._transition("deactivate", self._stop_io, undo=self._stop_io)

    def on_cleanup(self, state: Any) -> Any:
        """End the worker, which frees its memory and GPU."""
        return self._transition("clean up", self._release, undo=self._release)

    def on_shutdown(self, state: Any) -> Any:
        """As deactivate and cleanup."""
        return self._transition("shut down", self._release, undo=self._release)

    def on_error(self, state: Any) -> Any:
        """After a defect of ours: everything is released, and the node can be configured again."""
        return self._transition("recover", self._release, undo=lambda: None)

    @property
    def is_active(self) -> bool:
        """Images are taken in."""
        return self._inputs is not None

    def close(self, seconds: float = 2.0) -> None:
        """Release everything; goals are answered first, as long as the executor spins.

        Args:
            seconds: to wait for the answers at most.
        """
        self._closing.set()
        with self._changing:  # a transition that is under way ends first
            self._release()
        end = time.monotonic() + seconds
        while self._action.busy and time.monotonic() < end:
            time.sleep(0.01)

    def destroy_node(self) -> None:
        """End the action server and the lifecycle services too.

        rclpy leaves the latter to the garbage collector; until then they are found, and never answer.
        """
        self._action.destroy()
        super().destroy_node()
        if hasattr(self._state_machine, "destroy_when_not_in_use"):
            self._state_machine.destroy_when_not_in_use()

    def note_problem(self, error: CupidError) -> None:
        """Count an error for the diagnostics, and log it."""
        self.stats.note(error)
        self.get_logger().warning(f"[{error.code}] {error}", throttle_duration_sec=1.0)

    def publish_results(self) -> None:
        """Publish what the server has ready; safe from any thread."""
        with self._publishing:
            server, outputs = self._server, self._outputs
            if server is None:
                return
            for result in server.collect():
                if isinstance(result, FailedRequest):
                    if not isinstance(result.error, SupersededError):
                        self.get_logger().info(f"[{result.error.code}] {result.error}", throttle_duration_sec=1.0)
                    continue
                self._gpu_memory_mb = result.gpu_memory_mb
                if outputs is not None:
                    outputs.publish(result, server.config.output)

    def _transition(self, name: str, work: Callable[[], None], *, undo: Callable[[], None]) -> Any:
        """Carry out a transition; one that fails is reported and undone, and can be tried again."""
        with self._changing:
            try:
                work()
            except CupidError as error:
                undo()
                self.stats.note(error)
                self.get_logger().error(f"could not {name}: [{error.code}] {error}")
                return TransitionCallbackReturn.FAILURE
            except Exception as error:  # noqa: BLE001 - the outermost callback; rclpy would swallow it silently
                self._note_defect(error)
                return TransitionCallbackReturn.ERROR
            return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        closed = WorkerClosedError("The node is being shut down.", hint="Start it again.")
        config = self._settings.config()
        self._not_in_use.clear()
        wanted_topics(config.ros.topics)
        if self._closing.is_set():
            raise closed
        worker = Worker(self._make_job or MakeCupidJob.of(config), config.ros.worker)
        self._worker, self._server = worker, Server(worker, config.ros, self.stats)
        late = time.monotonic() + config.ros.worker.startup_s
        while not (stats := worker.stats()).ready:
            if stats.start_error is not None:
                raise stats.start_error
            if self._closing.wait(0.02):
                raise closed
            if time.monotonic() > late:
                raise WorkerStartError("The worker did not get ready.", hint="Raise ros.worker.startup_s.")

    def _start_io(self) -> None:
        server = self._configured_server()
        self._outputs = Outputs(
            self,
            self._published_types,
            server.config.output,
            look_up_camera=self._look_up_camera,
            on_problem=self.note_problem,
            most_files=server.config.tracking.remember,
        )
        if server.config.output.fixed_frame:
            self._listen_to_tf()
        self._rates = Rates()  # new inputs count from 0
        self._inputs = Inputs(
            self,
            server.config,
            on_frame=partial(self._guarded, self._take_frame),
            on_problem=self.note_problem,
            group=self._input_group,
        )

    def _stop_io(self) -> None:
        inputs, self._inputs = self._inputs, None
        if inputs is not None:
            inputs.close()
        if self._server is not None:
            self._server.drop()
        with self._publishing:
            outputs, self._outputs = self._outputs, None
        if outputs is not None:
            outputs.close()
        tf, self._tf = self._tf, None
        if tf is not None:
            tf.close()

    def _release(self) -> None:
        self._stop_io()
        with self._publishing:
            server, self._server, self._worker = self._server, None, None
        if server is not None:
            server.close()

    def _take_frame(self, messages: FrameMessages) -> None:
        server = self._active_server()
        inputs = self._inputs
        topics = {} if inputs is None else {role: item.topic for role, item in inputs.inputs.items()}
        frame = read_frame(messages, server.config.input, topics)
        if server.config.output.empty and frame.labels is None and not frame.detections:
            with self._publishing:
                if self._outputs is not None:
                    self._outputs.publish_nothing(frame.stamped)
        pending = server.offer(self._with_gravity(frame, server.config.output.fixed_frame))
        if pending is not None:
            pending.ticket.future.add_done_callback(lambda _: self._done.trigger())

    def _with_gravity(self, frame: CameraFrame, fixed_frame: str) -> CameraFrame:
        """The frame with the direction of up, where TF has the fixed frame already: its z is up (REP 103)."""
        if not fixed_frame:
            return frame
        try:
            T_fixed_camera = self._look_up_camera(fixed_frame, frame.stamped)
        except MissingTransformError:
            return frame  # the outputs report it, if it is still missing when there is something to publish
        x, y, z = T_fixed_camera.rotation()[2].tolist()
        return replace(frame, up=(x, y, z))

    def _configured_server(self) -> Server:
        if self._server is None:
            raise NotActiveError("The node is not configured.", hint="Configure and activate it.")
        return self._server

    def _active_server(self) -> Server:
        if self._inputs is None:
            raise NotActiveError("The node is not active.", hint="Configure and activate it.")
        return self._configured_server()

    def _remove_objects(self, numbers: Collection[int]) -> None:
        with self._publishing:
            if self._outputs is not None and self._server is not None:
                now = Stamped(self.get_clock().now().nanoseconds, "")
                self._outputs.remove_objects(numbers, now, self._server.config.output)

    def _mesh_uri(self, id_: str) -> str:
        with self._publishing:
            return "" if self._outputs is None else self._outputs.mesh_uri(id_)

    def _mesh_file(self, item: ObjectRecord, suffix: str) -> str:
        """URI of the mesh of an object as a file in a format; empty takes what the settings have written."""
        if not suffix:
            return self._mesh_uri(item.id)
        with self._publishing:
            outputs, server = self._outputs, self._server
            if outputs is None or server is None:
                raise NotActiveError("The node is not active.", hint="Configure and activate it.")
            return outputs.write_mesh(item, suffix, server.config.output)

    def _note_refused_changes(self, changes: list[Any]) -> list[Any]:
        try:
            self._settings.changed(changes)
        except CupidError as error:
            self.note_problem(error)
        return changes

    def _change(self, changes: list[Any]) -> Any:
        """What the server reads from its settings takes effect at once, the rest at the next configure.

        The log and the diagnostics name the latter; rclpy drops what the answer of a successful change says.
        """
        try:
            config = self._settings.accept(changes)
        except CupidError as error:
            return SetParametersResult(successful=False, reason=f"[{error.code}] {error}")
        if self._server is not None:
            self._server.config = config.ros
            if later := self._settings.at_next_configure(changes):
                self._not_in_use.update(later)
                names = ", ".join(later)
                self.get_logger().warning(f"{names}: in use when the node is configured and activated again")
        return SetParametersResult(successful=True)

    def _listen_to_tf(self) -> TransformListener:
        if self._tf is None:
            # The camera is looked up when a request is done, at the stamp of its image.
            self._tf = listen(self, self._configured_server().config.worker.deadline_s + _TF_MEMORY_S)
        return self._tf

    def _look_up_camera(self, fixed_frame: str, stamped: Stamped) -> SE3:
        return self._listen_to_tf().look_up(fixed_frame, stamped.frame_id, stamped.stamp_ns)

    def _publish_diagnostics(self) -> None:
        state = str(self._state_machine.current_state[1])
        statuses = [self._watch.status(state, sorted(self._not_in_use))]
        worker, inputs = self._worker, self._inputs
        if worker is not None:
            statuses.append(worker_status(worker.stats(), self._gpu_memory_mb))
        if inputs is not None:
            inputs.check()
            statuses.append(inputs_status(self._rates.of(inputs.counts()), inputs.silent(), inputs.lossy()))
        now_ns = self.get_clock().now().nanoseconds
        name = self.get_fully_qualified_name().lstrip("/")
        self._diagnostics.publish(make_diagnostics(self.types, statuses, now_ns, node=name))

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        """The outermost callback: an error is reported, and the node continues."""
        try:
            work(*arguments)
        except CupidError as error:
            self.note_problem(error)
        except Exception as error:  # noqa: BLE001 - rclpy would end the node
            self._note_defect(error)

    def _note_defect(self, error: Exception) -> None:
        self.get_logger().error(traceback.format_exc())
        text = f"{type(error).__name__}: {error}."
        self.stats.note(NodeFailedError(text, hint="This is a defect: report it with the log of the node."))
