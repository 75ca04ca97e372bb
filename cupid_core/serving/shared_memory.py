"""Images through shared memory: one side writes all images of a request into a block, the other maps the block."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import shared_memory
from typing import Any

import numpy as np
from numpy.typing import NDArray

Layout = list[tuple[str, int, tuple[int, ...], str]]
"""Where each image is in the block: name, offset in bytes, shape, dtype."""
_ALIGNMENT = 64  # a cache line, and more than any dtype needs


class SharedMemoryWriter:
    """Owns the block. It is reused, and replaced by a larger one when a request does not fit."""

    def __init__(self) -> None:
        self._block: shared_memory.SharedMemory | None = None

    def write(self, images: Mapping[str, NDArray[Any]]) -> tuple[str, Layout]:
        """Copy images into the block.

        Returns:
            Name of the block (empty without images), and where each image is in it.
        """
        layout: Layout = []
        end = 0
        for key, image in images.items():
            layout.append((key, end, image.shape, image.dtype.str))
            end += -(-image.nbytes // _ALIGNMENT) * _ALIGNMENT
        if not layout:
            return "", layout
        if self._block is None or self._block.size < end:
            self.close()
            self._block = shared_memory.SharedMemory(create=True, size=max(end, 1))
        for key, offset, shape, dtype in layout:
            target: NDArray[Any] = np.ndarray(shape, np.dtype(dtype), buffer=self._block.buf, offset=offset)
            np.copyto(target, images[key])
        return self._block.name, layout

    def close(self) -> None:
        """Return the memory to the system."""
        if self._block is not None:
            self._block.close()
            self._block.unlink()
            self._block = None


class SharedMemoryReader:
    """Maps the block in the other process."""

    def __init__(self) -> None:
        self._block: shared_memory.SharedMemory | None = None

    def read(self, name: str, layout: Layout) -> dict[str, NDArray[Any]]:
        """Read-only views of the images, valid until the next request is written."""
        if self._block is None or self._block.name != name:
            self.close()
            self._block = shared_memory.SharedMemory(name) if layout else None
        images: dict[str, NDArray[Any]] = {}
        for key, offset, shape, dtype in layout:
            assert self._block is not None
            view: NDArray[Any] = np.ndarray(shape, np.dtype(dtype), buffer=self._block.buf, offset=offset)
            view.flags.writeable = False
            images[key] = view
        return images

    def close(self) -> None:
        """Unmap the block."""
        if self._block is not None:
            with suppress(BufferError):  # a job kept a view; the block is unmapped together with it
                self._block.close()
            self._block = None
