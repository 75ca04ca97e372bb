"""Random numbers that depend on (seed, index) alone.

Every object, view and scene has its own generator, seeded with its numbers, always on the CPU. So a sample does
not depend on the run, the device or the rest of its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

ItemT = TypeVar("ItemT")

# Objects, views and scenes of the same index must have different random numbers.
OBJECT_STREAM = 1
VIEW_STREAM = 2
SCENE_STREAM = 3
FAMILY_STREAM = 4


class Draws:
    """A stream of random values named by integers.

    Args:
        keys: identify the stream, e.g. (OBJECT_STREAM, seed, index); every key is >= 0.
    """

    def __init__(self, *keys: int) -> None:
        self.generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(keys))))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A value in [low, high)."""
        return float(self.generator.uniform(low, high))

    def log_uniform(self, low: float, high: float) -> float:
        """A value in [low, high), its logarithm uniform; both bounds > 0."""
        return float(np.exp(self.generator.uniform(np.log(low), np.log(high))))

    def normal(self, mean: float = 0.0, deviation: float = 1.0) -> float:
        """A Gaussian value."""
        return float(self.generator.normal(mean, deviation))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return bool(self.generator.uniform() < probability)

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high], both included."""
        return int(self.generator.integers(low, high + 1))

    def choice(self, items: Sequence[ItemT], weights: Sequence[float] | None = None) -> ItemT:
        """One of the items, with relative weights where given."""
        if weights is None:
            return items[int(self.generator.integers(len(items)))]
        edges = np.cumsum(np.asarray(weights, dtype=np.float64))
        return items[int(np.searchsorted(edges, self.generator.uniform() * edges[-1], side="right"))]

    def direction(self) -> NDArray[np.float64]:
        """A unit vector (3,), uniform on the sphere."""
        vector = self.generator.normal(size=3)
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float64)

    def rotation(self) -> NDArray[np.float64]:
        """A rotation matrix (3, 3), uniform."""
        matrix, triangle = np.linalg.qr(self.generator.normal(size=(3, 3)))
        matrix = matrix * np.sign(np.diag(triangle))
        return np.asarray(matrix * np.linalg.det(matrix), dtype=np.float64)
