"""Bags, complete or cut off, as a list of topics and a stream of raw messages."""

from __future__ import annotations

import heapq
import re
import struct
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw
import zstandard
from mcap.exceptions import McapError
from mcap.records import Channel, Header, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import Reader, ReaderError

from cupid_ros.errors import BagError

# What damaged files raise in the readers and in what they are built on.
_DAMAGE = (
    ReaderError, apsw.Error, struct.error, ValueError, EOFError, IndexError, KeyError, OSError, RuntimeError,
    OverflowError, TypeError, zstandard.ZstdError,
)  # fmt: skip
_ZSTD = b"\x28\xb5\x2f\xfd"
_ROS1 = b"#ROSBAG V"
_ROS2_SCHEMAS = ("ros2msg", "ros2idl", "omgidl", "")
_BAG_FILES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")


@dataclass(frozen=True)
class Topic:
    """A topic of a bag.

    Attributes:
        name: with its namespace.
        type: full name of its messages.
        count: messages the bag says it holds; None where it does not say.
    """

    name: str
    type: str
    count: int | None = None


@dataclass(frozen=True)
class RawMessage:
    """A message as it was recorded.

    Attributes:
        topic: it came on.
        time_ns: when it was recorded.
        data: CDR.
    """

    topic: Topic
    time_ns: int
    data: bytes


@dataclass
class BagReader(AbstractContextManager["BagReader"]):
    """A bag: a folder, or a single .mcap or .db3 file, perhaps compressed as a whole (.zstd).

    A folder without usable metadata.yaml is read file by file, all together in the order of recording.

    Attributes:
        path: of the bag.
        topics: in it.
        definitions: (type, text) of the messages, where the bag brings them.
        warnings: what was wrong with the bag and did not stop it from being read.

    Raises:
        BagError: on entering, it is missing or no bag of ROS 2.
    """

    path: Path
    topics: list[Topic] = field(default_factory=list)
    definitions: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _readers: list[tuple[Reader, Path]] = field(default_factory=list)
    _damaged_files: list[Path] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> BagReader:
        if not self.path.exists():
            raise BagError(
                f"{self.path} does not exist.", hint="Give the folder of a bag, or its .mcap or .db3 file."
            )
        if self.path.name == "metadata.yaml":
            self.path = self.path.parent
        try:
            self._open(_files(self.path))
        except BaseException as error:
            self._stack.close()
            if isinstance(error, OSError):
                raise BagError(f"{self.path} cannot be read: {error}.", hint="Check its permissions.") from error
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def messages(self, topics: Collection[str] = ()) -> Iterator[RawMessage]:
        """Messages in the order of recording, up to where the bag is damaged; the same every time.

        Args:
            topics: names; empty takes all.
        """
        sources = [self._read_complete(reader, path, topics) for reader, path in self._readers]
        sources += [self._read_damaged(path, topics) for path in self._damaged_files]
        yield from sources[0] if len(sources) == 1 else heapq.merge(*sources, key=lambda raw: raw.time_ns)

    def _open(self, files: list[Path]) -> None:
        reason = "metadata.yaml is missing: the recording did not end in order."
        if (self.path / "metadata.yaml").is_file():
            try:
                self._add(self._stack.enter_context(Reader(self.path)), self.path)
                return
            except _DAMAGE as error:
                reason = f"metadata.yaml is not used, because of what it says or of what it names: {error}"
        elif self.path.is_file():
            reason = ""
        failures = []
        for path in files:
            try:
                self._open_file(self._uncompressed(path), path)
            except BagError as error:
                failures.append(error)
        if failures and not self.topics:
            raise failures[0]
        self.warnings += [str(error) for error in failures]
        if reason and not self.warnings:
            self.warnings.append(reason)

    def _open_file(self, plain: Path, path: Path) -> None:
        """Take a file; `path` is its name where `plain` is a copy of it."""
        try:
            self._add(self._stack.enter_context(Reader(plain)), path)
        except _DAMAGE as error:
            if plain.suffix != ".mcap":
                raise BagError(
                    f"{path} cannot be read: {error}.",
                    hint="For a damaged .db3 file try `sqlite3 FILE .recover`, then `ros2 bag reindex`.",
                ) from error
            self._add_damaged(plain, path, error)

    def _uncompressed(self, path: Path) -> Path:
        """The file itself, or a temporary copy of one that was compressed as a whole."""
        if path.suffix != ".zstd":
            return path
        folder = self._stack.enter_context(TemporaryDirectory())
        plain = Path(folder) / path.stem
        try:
            with path.open("rb") as packed, plain.open("wb") as stream:
                zstandard.ZstdDecompressor().copy_stream(packed, stream)
        except zstandard.ZstdError as error:
            self.warnings.append(f"{path} is damaged; what comes before that is used: {error}")
        return plain

    def _add(self, reader: Reader, path: Path) -> None:
        """Take a whole file, or a folder with its metadata."""
        for connection in reader.connections:
            self._add_topic(Topic(connection.topic, connection.msgtype, connection.msgcount))
            if connection.msgdef.format == MessageDefinitionFormat.MSG:
                self.definitions.append((connection.msgtype, connection.msgdef.data))
        self._readers.append((reader, path))

    def _add_topic(self, topic: Topic) -> None:
        """Add it to what other files of the bag hold of it."""
        for place, known in enumerate(self.topics):
            if known.name == topic.name:
                count = None if known.count is None or topic.count is None else known.count + topic.count
                self.topics[place] = replace(known, count=count)
                return
        self.topics.append(topic)

    def _add_damaged(self, plain: Path, path: Path, error: Exception) -> None:
        """Take an .mcap file that can be read from its front only, or that was not written by rosbag2."""
        kinds: set[str] = set()
        count = len(self.topics)
        for record in _records(plain):
            if isinstance(record, Header) and record.profile == "ros1":
                raise _ros1_error(path)
            if isinstance(record, tuple):
                schema, channel = record
                kinds.add(schema.encoding)
                if schema.encoding == "ros1msg":
                    raise _ros1_error(path)
                if schema.encoding in _ROS2_SCHEMAS:
                    self._add_topic(Topic(channel.topic, schema.name))
                    if schema.encoding == "ros2msg":
                        self.definitions.append((schema.name, schema.data.decode("utf-8", "replace")))
        if not self.topics[count:] and not kinds & set(_ROS2_SCHEMAS):
            if kinds:
                raise BagError(
                    f"{path} holds messages of {', '.join(sorted(kinds))}, not of ROS 2.",
                    hint="Record it with `ros2 bag record`.",
                )
            raise BagError(f"{path} cannot be read: {error}.", hint="Nothing is left of it: record it again.")
        self.warnings.append(f"{path} is damaged or not of rosbag2 ({error}); what can be read of it is used.")
        self._damaged_files.append(plain)

    def _read_complete(self, reader: Reader, path: Path, topics: Collection[str]) -> Iterator[RawMessage]:
        wanted = [item for item in reader.connections if not topics or item.topic in topics]
        known = {topic.name: topic for topic in self.topics}
        try:
            if wanted:
                for connection, time_ns, data in reader.messages(connections=wanted):
                    yield RawMessage(known[connection.topic], time_ns, _plain(bytes(data)))
        except _DAMAGE as error:
            self._warn(f"{path} is damaged; what comes before that is used: {error}")

    def _read_damaged(self, path: Path, topics: Collection[str]) -> Iterator[RawMessage]:
        known = {topic.name: topic for topic in self.topics}
        names: dict[int, str] = {}
        for record in _records(path):
            if isinstance(record, tuple):
                names[record[1].id] = record[1].topic
            elif isinstance(record, Message) and names.get(record.channel_id) in known:
                name = names[record.channel_id]
                if not topics or name in topics:
                    yield RawMessage(known[name], record.log_time, _plain(record.data))

    def _warn(self, text: str) -> None:
        if text not in self.warnings:  # a bag is read twice
            self.warnings.append(text)


def _files(path: Path) -> list[Path]:
    """The files of a bag, split ones in their order.

    Raises:
        BagError: there is none, or they are of ROS 1.
    """
    there = [path] if path.is_file() else sorted(item for item in path.iterdir() if item.is_file())
    old = [item for item in there if _is_ros1(item)]
    files = [item for item in there if item.name.endswith(_BAG_FILES) and item not in old]
    if old and not files:
        raise _ros1_error(old[0])
    if not files:
        where = "its name does not end" if path.is_file() else "it has no file that ends"
        raise BagError(
            f"{path} is no bag: {where} in {', '.join(_BAG_FILES)}; there is {[item.name for item in there][:9]}.",
            hint="Give the folder of a bag, or its .mcap or .db3 file.",
        )
    return sorted(files, key=lambda item: [int(part) for part in re.findall(r"\d+", item.name)])


def _is_ros1(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(_ROS1)) == _ROS1


def _ros1_error(path: Path) -> BagError:
    return BagError(
        f"{path} is a bag of ROS 1.",
        hint=f"Convert it with a program that is installed with this package: `rosbags-convert --src {path.name} "
        f"--dst {path.stem}` (of an .mcap file the .bag it was made from).",
    )


def _plain(data: bytes) -> bytes:
    """A message that was compressed by itself; CDR never begins like that."""
    if data[: len(_ZSTD)] != _ZSTD:
        return data
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def _records(path: Path) -> Iterator[Header | tuple[Schema, Channel] | Message]:
    """Header, channels with their schemas, and messages, of an .mcap file up to where it is damaged."""
    schemas: dict[int, Schema] = {}
    with path.open("rb") as stream:
        try:
            for record in StreamReader(stream, record_size_limit=2**31).records:
                if isinstance(record, Schema):
                    schemas[record.id] = record
                elif isinstance(record, Channel) and record.schema_id in schemas:
                    yield schemas[record.schema_id], record
                elif isinstance(record, Message | Header):
                    yield record
        except (McapError, *_DAMAGE):
            return
