"""Golden numbers of the reference, from `fixtures/` (see README.md).

A parity test takes `fixtures`, which loads a case, and `agree`, which compares (see tests/conftest.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from stored import read_case
from torch import Tensor

Loader = Callable[[str], tuple[dict[str, Tensor], dict[str, Any]]]


@pytest.fixture(scope="session")
def loaded_cases() -> set[str]:
    """Names of the golden cases that the tests of this run have loaded so far."""
    return set()


@pytest.fixture(scope="session")
def fixtures(loaded_cases: set[str]) -> Loader:
    """Load one golden case by name: (tensors, json).

    Outputs that were rounded for storage come back as float16, for which `agree` allows; everything else is exact.
    A case without tensors (tables, listings) gives an empty dictionary.
    """

    def load(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        loaded_cases.add(name)
        return read_case(name)

    return load
