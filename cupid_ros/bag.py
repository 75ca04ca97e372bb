"""Replays a bag through the server and writes the results into another bag, with the same stamps.

The same conversions and the same server as the node; no ROS needed.
"""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError

from cupid_core.config.ros import RosConfig
from cupid_core.errors import CupidError
from cupid_core.serving.frames import Stamped
from cupid_core.serving.records import Observation
from cupid_core.serving.requests import FailedRequest
from cupid_core.serving.server import Server
from cupid_ros.bag_frames import Arrival, FramePlan, collect, plan_frames
from cupid_ros.bag_reader import BagReader, RawMessage
from cupid_ros.bag_topics import BagTopics, detect_topics
from cupid_ros.cdr import CdrMessageTypes, Record
from cupid_ros.convert.header import read_raw_header
from cupid_ros.convert.image import make_image
from cupid_ros.convert.markers import make_markers
from cupid_ros.convert.objects import make_detections_3d, make_object_array
from cupid_ros.convert.transforms import make_transforms
from cupid_ros.errors import BagError, MissingTopicError
from cupid_ros.frame_messages import FrameMessages, read_frame
from cupid_ros.messages import BagMessageTypes

OnReplay = Callable[[float, "Replay"], None]
"""Called with the share of the messages that is read (NaN where the bag does not say how many it holds)."""
_STORAGE = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
_STAMPS_PER_REPORT = 100
_FOREVER = QosTime(2147483647, 0)
_LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, _FOREVER, _FOREVER,
    QosLiveliness.AUTOMATIC, _FOREVER, False,
)  # fmt: skip


@dataclass
class Replay:
    """Result of a replay.

    Attributes:
        topics: that were used.
        frames: images with everything that belongs to them.
        observations: of these, those with a result.
        objects: reconstructed, all frames together.
        problems: what went wrong, by code, with how often.
        texts: the first text of each code.
        warnings: about the bag.
    """

    topics: BagTopics = field(default_factory=BagTopics)
    frames: int = 0
    observations: int = 0
    objects: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    texts: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def note(self, error: CupidError) -> None:
        """Count an error."""
        self.problems[error.code] += 1
        self.texts.setdefault(error.code, str(error))


@dataclass(frozen=True)
class ReplayOptions:
    """How to replay.

    Attributes:
        topics: names that are given instead of detected.
        storage: format of the output.
        copy_inputs: put the topics that were used into the output as well.
    """

    topics: BagTopics = field(default_factory=BagTopics)
    storage: Literal["mcap", "sqlite3"] = "mcap"
    copy_inputs: bool = False


def replay_bag(
    source: Path,
    target: Path,
    server: Server,
    *,
    types: BagMessageTypes | None = None,
    options: ReplayOptions | None = None,
    on_replay: OnReplay | None = None,
) -> Replay:
    """Run a bag through the server.

    Args:
        source: bag, mcap or sqlite3, of Humble or Jazzy.
        target: folder of the new bag; must not exist.
        server: with an engine of this process.
        types: of messages; Jazzy's where None. Definitions in the bag are added.
        options: topics and format.
        on_replay: called after every message.

    Returns:
        Counts, problems and warnings; a damaged bag gives what it holds.

    Raises:
        BagError: the bag cannot be read at all, the target exists or cannot be written, or no image had all the
            messages it needs; nothing is left at the target then.
        MissingTopicError: a topic is not there, or cannot be guessed.
    """
    types, options = types or BagMessageTypes.of("jazzy"), options or ReplayOptions()
    replay = Replay()
    with BagReader(source) as bag:
        replay.topics = _topics(bag, options.topics)
        if server.config.output.fixed_frame:
            replay.warnings.append(
                "Transforms start at the camera: a replay has no TF buffer for ros.output.fixed_frame."
            )
        roles = replay.topics.roles()
        types.register((name, text) for name, text in bag.definitions if name in {t.type for t in bag.topics})
        total = sum(topic.count or 0 for topic in bag.topics if topic.name in roles)
        with _output(target, options.storage, types) as output:
            plan = _plan(bag, roles, server, replay, on_replay)
            read = 0
            for raw, found in collect(bag.messages(roles), plan):
                if isinstance(found, dict):
                    _replay_frame(found, types, server, output, replay)
                elif found is not None:
                    replay.note(found)
                else:
                    read += 1
                    if options.copy_inputs:
                        output.copy(raw)
                if on_replay is not None:
                    on_replay(read / total if total else float("nan"), replay)
        replay.warnings += [*bag.warnings, *plan.warnings]
    return replay


def _topics(bag: BagReader, given: BagTopics) -> BagTopics:
    topics = detect_topics(bag.topics, given)
    if not (topics.labels or topics.detections):
        raise MissingTopicError(
            f"{bag.path} has neither detections nor a label image, but {[topic.name for topic in bag.topics]}.",
            hint="Record one of them too, or name it: --topics.labels or --topics.detections.",
        )
    return topics


def _plan(
    bag: BagReader, roles: Mapping[str, str], server: Server, replay: Replay, on_replay: OnReplay | None
) -> FramePlan:
    """Read the stamps of the whole bag, and find what belongs together."""
    arrivals: dict[str, list[Arrival]] = defaultdict(list)
    for place, raw in enumerate(bag.messages(roles)):
        try:
            arrivals[roles[raw.topic.name]].append(Arrival.of(place, raw, read_raw_header(raw.data)))
        except CupidError as error:
            replay.note(error)
        if on_replay is not None and not place % _STAMPS_PER_REPORT:
            on_replay(0.0, replay)
    plan = plan_frames({role: arrivals[role] for role in roles.values()}, server.config.input.sync_slop_s)
    for problem in plan.problems:
        replay.note(problem)
        server.note_problem(problem)
    if not plan.frames:
        why = " ".join([*bag.warnings, *replay.texts.values(), *plan.warnings]) or "There is no image."
        raise BagError(
            f"No image of {bag.path} has all its messages. {why}",
            hint=f"Of the bag are used: {replay.topics}. Name other topics, or raise ros.input.sync_slop_s.",
        )
    return plan


def _replay_frame(
    found: Mapping[str, RawMessage], types: BagMessageTypes, server: Server, output: Output, replay: Replay
) -> None:
    replay.frames += 1
    time_ns = found["image"].time_ns
    topics = {role: raw.topic.name for role, raw in found.items()}
    try:
        messages = FrameMessages(**_decoded(found, types, replay))
        frame = read_frame(messages, server.config.input, topics)
    except CupidError as error:
        replay.note(error)
        server.note_problem(error)
        return
    for problem in frame.problems:
        replay.note(problem)
    server.offer(frame)
    for result in server.collect():
        if isinstance(result, FailedRequest):
            replay.note(result.error)
            continue
        for failure in result.failures.values():
            replay.note(failure)
        replay.observations += 1
        replay.objects += len(result.objects)
        output.publish(result, time_ns, server.config)


def _decoded(found: Mapping[str, RawMessage], types: BagMessageTypes, replay: Replay) -> dict[str, Any]:
    """Messages by role; without depth, if it is damaged."""
    messages = {}
    for role, raw in found.items():
        try:
            messages[role] = types.decode(raw.data, raw.topic.type)
        except CupidError as error:
            if role != "depth":
                raise
            replay.note(error)
    return messages


class Output:
    """The new bag; topics appear in it with their first message.

    Args:
        writer: open.
        types: of the messages.
    """

    def __init__(self, writer: Writer, types: BagMessageTypes) -> None:
        self._writer, self._types = writer, CdrMessageTypes(types.store)
        self._connections: dict[str, Connection] = {}

    def publish(self, observation: Observation, time_ns: int, config: RosConfig) -> None:
        """Write everything that the node would publish about an image."""
        types, wanted = self._types, config.output
        self._write("/cupid/objects", make_object_array(types, observation), time_ns, latched=True)
        if wanted.tf:
            topic = "/tf_static" if wanted.tf_static else "/tf"
            transforms = make_transforms(types, observation, prefix=wanted.tf_prefix)
            self._write(topic, transforms, time_ns, latched=wanted.tf_static)
        if wanted.markers:
            markers = make_markers(types, observation, lifetime_s=wanted.marker_lifetime_s)
            self._write("/cupid/markers", markers, time_ns)
        if wanted.detections:
            self._write("/cupid/detections", make_detections_3d(types, observation), time_ns)
        if wanted.overlay and observation.overlay is not None:
            stamped = Stamped(observation.stamp_ns, observation.frame_id)
            self._write("/cupid/overlay", make_image(types, observation.overlay, "rgb8", stamped), time_ns)

    def copy(self, raw: RawMessage) -> None:
        """Write a message as it was recorded."""
        connection = self._connection(raw.topic.name, raw.topic.type, latched=False)
        self._writer.write(connection, raw.time_ns, raw.data)

    def _write(self, topic: str, message: Record, time_ns: int, *, latched: bool = False) -> None:
        connection = self._connection(topic, message.__msgtype__, latched=latched)
        self._writer.write(connection, time_ns, self._types.encode(message))

    def _connection(self, topic: str, kind: str, *, latched: bool) -> Connection:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self._types.store, offered_qos_profiles=[_LATCHED] if latched else []
            )
        return self._connections[topic]


@contextmanager
def _output(target: Path, storage: str, types: BagMessageTypes) -> Iterator[Output]:
    """A new bag; it is kept after an interrupt, and deleted after a `CupidError`."""
    try:
        # Humble reads version 8; its parser cannot read the QoS of version 9.
        writer = Writer(target, version=8, storage_plugin=_STORAGE[storage])
        writer.open()
    except (WriterError, OSError) as error:
        raise BagError(
            f"{target} cannot be written: {error}.", hint="Give a folder that does not exist yet."
        ) from error
    try:
        yield Output(writer, types)
    except CupidError:
        writer.abort()
        shutil.rmtree(target, ignore_errors=True)
        raise
    except BaseException:
        writer.close()
        raise
    writer.close()
