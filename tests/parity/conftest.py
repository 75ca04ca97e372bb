"""Reads the golden numbers beside the checkout and compares with them; knows no module of the package.

A parity test takes two fixtures:

    def test_umeyama_equals_the_reference(fixtures, agree):
        tensors, meta = fixtures("scene_alignment")
        agree("exact rotation", rotation, tensors["exact.R"], meta["tolerance"])

`fixtures` skips where the golden numbers are absent. `agree` asserts, and keeps the largest difference of every
comparison for the table at the end of the run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "reference" / "fixtures"

Loader = Callable[[str], tuple[dict[str, Tensor], dict[str, Any]]]
Agree = Callable[..., float]

_lines = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def fixtures() -> Loader:
    """Load one golden case by name: (tensors, json).

    Half-precision tensors come back as float32 (their values were rounded before the golden run); float64, integer
    and byte tensors come back as stored. A case without tensors (tables, listings) gives an empty dictionary.
    """
    if not FOLDER.is_dir():
        pytest.skip(f"golden numbers are not beside this checkout ({FOLDER} is absent)")

    def load(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        meta: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        path = FOLDER / f"{name}.safetensors"
        stored = load_file(path) if path.exists() else {}
        half = (torch.float16, torch.bfloat16)
        return {key: value.float() if value.dtype in half else value for key, value in stored.items()}, meta

    return load


@pytest.fixture
def agree(request: pytest.FixtureRequest) -> Agree:
    """Assert |actual - expected| <= atol + rtol |expected| everywhere; returns the largest absolute difference.

    `tolerance` is the entry of the json: a mapping with "atol" and/or "rtol", or one number (atol).
    NaN and infinity must stand at the same places on both sides.
    """

    def check(label: str, actual: Tensor, expected: Tensor, tolerance: Mapping[str, float] | float = 0.0) -> float:
        bounds = tolerance if isinstance(tolerance, Mapping) else {"atol": tolerance}
        assert tuple(actual.shape) == tuple(expected.shape), f"{label}: {actual.shape} against {expected.shape}"
        left, right = actual.detach().cpu().double(), expected.detach().cpu().double()
        difference = (left - right).abs()[right.isfinite() & left.isfinite()]
        largest = float(difference.max()) if difference.numel() else 0.0
        atol, rtol = float(bounds.get("atol", 0.0)), float(bounds.get("rtol", 0.0))
        line = f"{request.node.name}: {label}: largest difference {largest:.3e} (atol {atol:g}, rtol {rtol:g})"
        request.config.stash.setdefault(_lines, []).append(line)
        torch.testing.assert_close(left, right, atol=atol, rtol=rtol, equal_nan=True, msg=lambda m: f"{line}\n{m}")
        return largest

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the largest difference of every comparison of this run."""
    lines = config.stash.get(_lines, [])
    if lines:
        terminalreporter.section("parity with the golden numbers")
        for line in lines:
            terminalreporter.write_line(line)
