"""Bags, complete or cut off, as a list of topics and a stream of raw messages."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import apsw
from mcap.exceptions import McapError
from mcap.records import Channel, Message, Schema
from mcap.stream_reader import StreamReader
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import Reader, ReaderError

from cupid_ros.errors import BagError

# What damaged files raise in the readers and in what they are built on.
_DAMAGE = (ReaderError, apsw.Error, struct.error, ValueError, EOFError, IndexError, KeyError, OSError)


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
    """A bag: a folder with metadata.yaml, or a single .mcap or .db3 file.

    Attributes:
        path: of the bag.
        topics: in it.
        definitions: (type, text) of the messages, where the bag brings them.
        warnings: what was wrong with the bag and did not stop it from being read.

    Raises:
        BagError: on entering, it is missing or no bag.
    """

    path: Path
    topics: list[Topic] = field(default_factory=list)
    definitions: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _reader: Reader | None = None
    _damaged_files: list[Path] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> BagReader:
        if not self.path.exists():
            raise BagError(
                f"{self.path} does not exist.", hint="Give the folder of a bag, or its .mcap or .db3 file."
            )
        files = _files(self.path)
        whole = self.path.is_file() or (self.path / "metadata.yaml").is_file() or len(files) != 1
        try:
            self._reader = self._stack.enter_context(Reader(self.path if whole else files[0]))
            if not whole:
                self.warnings.append("metadata.yaml is missing: the recording did not end in order.")
            self._describe(self._reader)
        except _DAMAGE as error:
            self._stack.close()
            self._reader = None
            self._open_damaged(files, error)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def messages(self, topics: Collection[str] = ()) -> Iterator[RawMessage]:
        """Messages in the order of recording, up to where the bag is damaged.

        Args:
            topics: names; empty takes all.
        """
        try:
            if self._reader is not None:
                yield from self._read_complete(self._reader, topics)
            else:
                for path in self._damaged_files:
                    yield from self._read_damaged(path, topics)
        except _DAMAGE as error:
            self.warnings.append(f"The bag is damaged; what comes before that is used: {error}")

    def _describe(self, reader: Reader) -> None:
        for connection in reader.connections:
            self.topics.append(Topic(connection.topic, connection.msgtype, connection.msgcount))
            if connection.msgdef.format == MessageDefinitionFormat.MSG:
                self.definitions.append((connection.msgtype, connection.msgdef.data))

    def _read_complete(self, reader: Reader, topics: Collection[str]) -> Iterator[RawMessage]:
        wanted = [item for item in reader.connections if not topics or item.topic in topics]
        known = {topic.name: topic for topic in self.topics}
        if wanted:
            for connection, time_ns, data in reader.messages(connections=wanted):
                yield RawMessage(known[connection.topic], time_ns, bytes(data))

    def _open_damaged(self, files: list[Path], error: Exception) -> None:
        """Read a damaged bag from its front, if its format allows it."""
        if not files or any(path.suffix != ".mcap" for path in files):
            raise BagError(
                f"{self.path} cannot be read: {error}.",
                hint="For a damaged .db3 file try `sqlite3 FILE .recover`, then `ros2 bag reindex`.",
            ) from error
        self._damaged_files = files
        self.warnings.append(f"The bag is damaged; what is left of it is used: {error}")
        for path in files:
            for record in _records(path):
                if isinstance(record, tuple):
                    schema, channel = record
                    if channel.topic not in {topic.name for topic in self.topics}:
                        self.topics.append(Topic(channel.topic, schema.name))
                        if schema.encoding == "ros2msg":
                            self.definitions.append((schema.name, schema.data.decode("utf-8", "replace")))
        if not self.topics:
            raise BagError(f"{self.path} cannot be read: {error}.", hint="Nothing is left of it: record it again.")

    def _read_damaged(self, path: Path, topics: Collection[str]) -> Iterator[RawMessage]:
        known = {topic.name: topic for topic in self.topics}
        names: dict[int, str] = {}
        for record in _records(path):
            if isinstance(record, tuple):
                names[record[1].id] = record[1].topic
            elif record.channel_id in names:
                name = names[record.channel_id]
                if not topics or name in topics:
                    yield RawMessage(known[name], record.log_time, record.data)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(item for item in path.iterdir() if item.suffix in (".mcap", ".db3"))


def _records(path: Path) -> Iterator[tuple[Schema, Channel] | Message]:
    """Channels with their schemas, and messages, of an .mcap file up to where it is damaged."""
    schemas: dict[int, Schema] = {}
    with path.open("rb") as stream:
        try:
            for record in StreamReader(stream, record_size_limit=2**31).records:
                if isinstance(record, Schema):
                    schemas[record.id] = record
                elif isinstance(record, Channel) and record.schema_id in schemas:
                    yield schemas[record.schema_id], record
                elif isinstance(record, Message):
                    yield record
        except (McapError, *_DAMAGE):
            return
