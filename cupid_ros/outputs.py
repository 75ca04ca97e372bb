"""Publishers: everything that the node publishes about an observation, with its topics and QoS."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal, get_args

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from cupid_core.config.ros import RosOutputConfig
from cupid_core.errors import CupidError
from cupid_core.geometry.se3 import SE3
from cupid_core.serving.errors import InvalidRequestError
from cupid_core.serving.frames import Stamped
from cupid_core.serving.records import ObjectRecord, Observation
from cupid_ros.cdr import CdrMessageTypes
from cupid_ros.convert.cloud import make_object_clouds, make_point_cloud
from cupid_ros.convert.image import make_image
from cupid_ros.convert.markers import make_markers
from cupid_ros.convert.objects import make_detections_3d, make_object_array
from cupid_ros.convert.planning import make_collision_object
from cupid_ros.convert.transforms import make_transforms, object_frame
from cupid_ros.errors import UnknownMessageError
from cupid_ros.mesh_files import MeshFiles
from cupid_ros.messages import BagMessageTypes, Distribution, MessageTypes
from cupid_ros.rclpy_messages import RclpyMessageTypes, has_wire_format, message_class

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
# One message for each object of an image.
_MANY_LATCHED = QoSProfile(
    depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)

# Topic -> type and QoS.
_TOPICS = {
    "cupid/objects": ("cupid_ros/msg/ObjectArray", LATCHED),
    "/tf": ("tf2_msgs/msg/TFMessage", _RELIABLE),
    "/tf_static": ("tf2_msgs/msg/TFMessage", LATCHED),
    "cupid/markers": ("visualization_msgs/msg/MarkerArray", LATCHED),
    "cupid/detections": ("vision_msgs/msg/Detection3DArray", LATCHED),
    "cupid/overlay": ("sensor_msgs/msg/Image", LATCHED),
    "cupid/points": ("sensor_msgs/msg/PointCloud2", _MANY_LATCHED),
    "cupid/clouds": ("cupid_ros/msg/ObjectClouds", LATCHED),
    "collision_object": ("moveit_msgs/msg/CollisionObject", _RELIABLE),
}

LookUpCamera = Callable[[str, Stamped], SE3]
"""(fixed frame, image) -> T_fixed_camera, or a MissingTransformError."""


class Outputs:
    """Publishes observations.

    Publishers are made at once, so that subscribers discover them before the first object; one that a changed
    setting needs is made with its first message. `close` ends all.

    Args:
        node: an rclpy node.
        types: makes messages; those of `CdrMessageTypes` are published as the bytes that they are written to.
        config: what will be published.
        look_up_camera: asks TF, for objects in a fixed frame.
        on_problem: called with what could not be published.
        most_files: meshes that are kept as files.
    """

    def __init__(
        self,
        node: Any,
        types: MessageTypes,
        config: RosOutputConfig,
        *,
        look_up_camera: LookUpCamera,
        on_problem: Callable[[CupidError], None],
        most_files: int = 128,
    ) -> None:
        self._node, self._types = node, types
        self._look_up_camera, self._on_problem = look_up_camera, on_problem
        self._publishers: dict[str, Any] = {}
        self._static: dict[str, Any] = {}
        self._in_scene: dict[str, ObjectRecord] = {}
        self._files: dict[str, MeshFiles] = {}
        self._folder, self._suffix, self._most_files = "", "", most_files
        for topic in _wanted(config):
            try:
                self._publisher(topic)
            except UnknownMessageError as error:
                on_problem(error)

    def publish(self, observation: Observation, config: RosOutputConfig) -> None:
        """Publish everything about an image; what cannot be made is reported, the rest is published."""
        self._write_meshes(observation, config)
        steps: list[tuple[bool, Callable[[Observation, RosOutputConfig], None]]] = [
            (config.tf, self._publish_transforms),
            (True, self._publish_objects),
            (config.markers, self._publish_markers),
            (config.detections, self._publish_detections),
            (config.overlay and observation.overlay is not None, self._publish_overlay),
            (config.points, self._publish_points),
            (config.clouds, self._publish_clouds),
            (config.collision_objects, self._publish_collision_objects),
        ]
        for wanted, step in steps:
            if not wanted:
                continue
            try:
                step(observation, config)
            except CupidError as error:
                self._on_problem(error)

    def remove_objects(self, numbers: Collection[int], stamped: Stamped, config: RosOutputConfig) -> None:
        """Delete the markers of objects, and everything of ours in the planning scene and on /tf_static.

        Args:
            numbers: of the objects, as markers carry them.
            stamped: now, in any frame.
            config: what is published.
        """
        nothing = Observation(stamped.stamp_ns, stamped.frame_id, ())
        self._send("cupid/objects", make_object_array(self._types, nothing))
        self._clear_files()
        if config.markers:
            self._send("cupid/markers", make_markers(self._types, nothing, removed=numbers))
        if self._static:
            self._static.clear()
            self._send("/tf_static", self._types.make("tf2_msgs/msg/TFMessage"))
        for name, item in self._in_scene.items():
            self._send_collision_object(item, stamped, "remove", name)
        self._in_scene.clear()

    def close(self) -> None:
        """End the publishers, so that late subscribers get nothing old."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers.clear()
        self._static.clear()
        self._in_scene.clear()
        self._clear_files()

    def publish_nothing(self, stamped: Stamped) -> None:
        """An empty ObjectArray: nothing was detected in an image."""
        nothing = Observation(stamped.stamp_ns, stamped.frame_id, ())
        self._send("cupid/objects", make_object_array(self._types, nothing))

    def mesh_uri(self, id_: str) -> str:
        """URI of the file with the newest mesh of an object, in the format of the settings; empty without one."""
        return self._files[self._suffix].uri(id_) if self._suffix in self._files else ""

    def write_mesh(self, item: ObjectRecord, suffix: str, config: RosOutputConfig) -> str:
        """Write the mesh of an object in any format; its URI.

        Raises:
            InvalidRequestError: the settings name no folder, or there is no such format.
            OutputError: the file cannot be written.
        """
        if not config.mesh_folder:
            raise InvalidRequestError("No folder for meshes is set.", hint="Set ros.output.mesh_folder.")
        formats = get_args(RosOutputConfig.model_fields["mesh_format"].annotation)
        if suffix not in formats:
            raise InvalidRequestError(f"The format is '{suffix[:40]}'.", hint=f"Use one of {', '.join(formats)}.")
        if config.mesh_folder != self._folder:
            self._clear_files()
            self._folder = config.mesh_folder
        if suffix not in self._files:
            self._files[suffix] = MeshFiles(Path(config.mesh_folder), suffix, self._most_files)
        return self._files[suffix].write(item)

    def _write_meshes(self, observation: Observation, config: RosOutputConfig) -> None:
        """Before anything that names them is published."""
        if not config.mesh_folder:
            return
        if config.mesh_format != self._suffix:
            self._clear_files()
            self._suffix = config.mesh_format
        for item in observation.objects:
            try:
                self.write_mesh(item, config.mesh_format, config)
            except CupidError as error:
                self._on_problem(error)

    def _clear_files(self) -> None:
        for files in self._files.values():
            files.clear()
        self._files.clear()

    def _publish_objects(self, observation: Observation, config: RosOutputConfig) -> None:
        message = make_object_array(self._types, observation, meshes=config.meshes, mesh_uri=self.mesh_uri)
        self._send("cupid/objects", message)

    def _publish_transforms(self, observation: Observation, config: RosOutputConfig) -> None:
        T_fixed_camera = None
        if config.fixed_frame:
            T_fixed_camera = self._look_up_camera(
                config.fixed_frame, Stamped(observation.stamp_ns, observation.frame_id)
            )
        message = make_transforms(
            self._types,
            observation,
            prefix=config.tf_prefix,
            fixed_frame=config.fixed_frame,
            T_fixed_camera=T_fixed_camera,
        )
        if not message.transforms:
            return
        if not config.tf_static:
            self._send("/tf", message)
            return
        # Late subscribers get the newest message only, so it must hold the frames of all objects.
        self._static.update({item.child_frame_id: item for item in message.transforms})
        everything = self._types.make("tf2_msgs/msg/TFMessage", transforms=list(self._static.values()))
        self._send("/tf_static", everything)

    def _publish_markers(self, observation: Observation, config: RosOutputConfig) -> None:
        markers = make_markers(self._types, observation, lifetime_s=config.marker_lifetime_s)
        self._send("cupid/markers", markers)

    def _publish_detections(self, observation: Observation, config: RosOutputConfig) -> None:
        self._send("cupid/detections", make_detections_3d(self._types, observation))

    def _publish_overlay(self, observation: Observation, config: RosOutputConfig) -> None:
        assert observation.overlay is not None
        stamped = Stamped(observation.stamp_ns, observation.frame_id)
        self._send("cupid/overlay", make_image(self._types, observation.overlay, "rgb8", stamped))

    def _publish_points(self, observation: Observation, config: RosOutputConfig) -> None:
        for item in (item for item in observation.objects if item.is_metric):
            stamped = Stamped(observation.stamp_ns, object_frame(config.tf_prefix, item.id))
            cloud = make_point_cloud(self._types, item, stamped, count=config.point_count)
            self._send("cupid/points", cloud)

    def _publish_clouds(self, observation: Observation, config: RosOutputConfig) -> None:
        self._send("cupid/clouds", make_object_clouds(self._types, observation, count=config.point_count))

    def _publish_collision_objects(self, observation: Observation, config: RosOutputConfig) -> None:
        stamped = Stamped(observation.stamp_ns, observation.frame_id)
        for item in (item for item in observation.objects if item.is_metric):
            name = object_frame(config.tf_prefix, item.id)
            known = self._in_scene.get(name)
            moved = known is not None and known.has_mesh_of(item)
            self._send_collision_object(item, stamped, "move" if moved else "add", name)
            self._in_scene[name] = item

    def _send_collision_object(
        self, item: ObjectRecord, stamped: Stamped, operation: Literal["add", "remove", "move"], name: str
    ) -> None:
        message = make_collision_object(self._types, item, stamped, operation=operation, name=name)
        self._send("collision_object", message)

    def _send(self, topic: str, message: Any) -> None:
        publisher = self._publisher(topic)
        publisher.publish(self._types.encode(message) if isinstance(self._types, CdrMessageTypes) else message)

    def _publisher(self, topic: str) -> Any:
        if topic not in self._publishers:
            name, qos = _TOPICS[topic]
            self._publishers[topic] = self._node.create_publisher(message_class(name), topic, qos)
        return self._publishers[topic]


def publishing_types() -> MessageTypes:
    """What messages to publish: bytes, unless the installed packages define one of them differently than we do."""
    distribution: Distribution = "humble" if os.environ.get("ROS_DISTRO") == "humble" else "jazzy"
    types = CdrMessageTypes(BagMessageTypes.of(distribution).store)
    for name in {name for name, _ in _TOPICS.values()}:
        try:
            if not has_wire_format(name, types):
                return RclpyMessageTypes()
        except UnknownMessageError:  # moveit_msgs, perhaps; reported when it is wanted
            continue
    return types


def _wanted(config: RosOutputConfig) -> list[str]:
    """Topics that the settings ask for."""
    wanted = {
        "cupid/objects": True,
        "/tf": config.tf and not config.tf_static,
        "/tf_static": config.tf and config.tf_static,
        "cupid/markers": config.markers,
        "cupid/detections": config.detections,
        "cupid/overlay": config.overlay,
        "cupid/points": config.points,
        "cupid/clouds": config.clouds,
        "collision_object": config.collision_objects,
    }
    return [topic for topic, is_wanted in wanted.items() if is_wanted]
