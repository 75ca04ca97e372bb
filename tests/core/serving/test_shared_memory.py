"""Images through shared memory: they arrive unchanged, read-only, in a block that grows and is freed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from cupid_core.serving.shared_memory import SharedMemoryReader, SharedMemoryWriter


@pytest.fixture
def writer() -> Iterator[SharedMemoryWriter]:
    writer = SharedMemoryWriter()
    yield writer
    writer.close()


@pytest.fixture
def reader() -> Iterator[SharedMemoryReader]:
    reader = SharedMemoryReader()
    yield reader
    reader.close()


def test_images_of_any_type_and_layout_arrive(writer: SharedMemoryWriter, reader: SharedMemoryReader) -> None:
    rng = np.random.default_rng(0)
    images = {
        "image": rng.integers(0, 255, (7, 5, 3), dtype=np.uint8),
        "depth": rng.random((3, 4), dtype=np.float32),
        "strided": np.arange(24, dtype=np.int32).reshape(4, 6)[:, ::2],
        "big_endian": np.arange(5, dtype=">u2"),
        "empty": np.zeros((0, 3), np.uint8),
    }
    received = reader.read(*writer.write(images))
    assert received.keys() == images.keys()
    for name, image in images.items():
        assert received[name].dtype == image.dtype
        np.testing.assert_array_equal(received[name], image)
    with pytest.raises(ValueError, match="read-only"):
        received["image"][0] = 1
    received.clear()


def test_the_block_is_reused_and_replaced_when_it_is_too_small(
    writer: SharedMemoryWriter, reader: SharedMemoryReader
) -> None:
    first, _ = writer.write({"image": np.zeros(10_000, np.uint8)})
    again, layout = writer.write({"image": np.ones(10, np.uint8)})
    assert again == first and int(reader.read(again, layout)["image"].sum()) == 10
    larger, layout = writer.write({"image": np.ones(1_000_000, np.uint8)})
    assert larger != first and int(reader.read(larger, layout)["image"].sum()) == 1_000_000


def test_a_closed_writer_removes_its_block(writer: SharedMemoryWriter, reader: SharedMemoryReader) -> None:
    block, layout = writer.write({"image": np.zeros(10, np.uint8)})
    writer.close()
    with pytest.raises(FileNotFoundError):
        reader.read(block, layout)


def test_a_request_without_images_needs_no_block(writer: SharedMemoryWriter, reader: SharedMemoryReader) -> None:
    assert writer.write({}) == ("", [])
    assert reader.read("", []) == {}
