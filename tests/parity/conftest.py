"""Reads the golden numbers of the reference beside the checkout; knows no module of the package.

A parity test takes `fixtures`, which skips where these numbers are absent, and `agree`, which compares (see
tests/conftest.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "reference" / "fixtures"

Loader = Callable[[str], tuple[dict[str, Tensor], dict[str, Any]]]


@pytest.fixture(scope="session")
def loaded_cases() -> set[str]:
    """Names of the golden cases that the tests of this run have loaded so far."""
    return set()


@pytest.fixture(scope="session")
def fixtures(loaded_cases: set[str]) -> Loader:
    """Load one golden case by name: (tensors, json).

    Half-precision tensors come back as float32 (their values were rounded before the golden run); float64, integer
    and byte tensors come back as stored. A case without tensors (tables, listings) gives an empty dictionary.
    """
    if not FOLDER.is_dir():
        pytest.skip(f"golden numbers are not beside this checkout ({FOLDER} is absent)")

    def load(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        meta: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        loaded_cases.add(name)
        path = FOLDER / f"{name}.safetensors"
        stored = load_file(path) if path.exists() else {}
        half = (torch.float16, torch.bfloat16)
        return {key: value.float() if value.dtype in half else value for key, value in stored.items()}, meta

    return load
