"""Shared fixtures of the training tests; builders of tiny stages are in `tiny_stages`."""

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "training"
