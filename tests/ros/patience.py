"""Time limits of the tests, which a busy machine may stretch: CUPID_TEST_PATIENCE=5 gives five times as long."""

from __future__ import annotations

import os

_FACTOR = float(os.environ.get("CUPID_TEST_PATIENCE", "1"))


def patient(seconds: float) -> float:
    """A time limit, stretched."""
    return seconds * _FACTOR
