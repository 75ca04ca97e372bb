"""Runs last in its folder: no golden case may be left unchecked."""

from pathlib import Path

import pytest
from stored import case_names


def test_every_golden_case_was_loaded(request, fixtures, loaded_cases):
    here = Path(__file__).parent
    collected = {Path(item.path).name for item in request.session.items if Path(item.path).parent == here}
    missing = {path.name for path in here.glob("test_*.py")} - collected
    if missing or request.config.option.keyword or request.config.option.markexpr:
        pytest.skip("only a part of the parity tests is run, so not every case can have been loaded")
    assert loaded_cases == case_names()
