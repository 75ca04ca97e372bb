"""What all tests share: one thread, and comparing with golden numbers.

    def test_umeyama_equals_the_reference(fixtures, agree):
        tensors, meta = fixtures("scene_alignment")
        agree("exact rotation", rotation, tensors["exact.R"], meta["tolerance"])

`agree` asserts, and keeps the largest difference of every comparison for the table at the end of the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import pytest
import torch
from torch import Tensor

Agree = Callable[..., float]

# Half a unit in the last place of float16: of normal numbers, and below 2^-14.
FLOAT16_RTOL, FLOAT16_ATOL = 2.0**-11, 2.0**-25

_lines = pytest.StashKey[list[str]]()


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads and lose much when the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def agree(request: pytest.FixtureRequest) -> Agree:
    """Assert |actual - expected| <= atol + rtol |expected| everywhere; returns the largest absolute difference.

    `tolerance` is a mapping with "atol" and/or "rtol", or one number (atol).
    NaN and infinity must stand at the same places on both sides. An expected tensor in float16 was rounded for
    storage: its half unit in the last place is added to the tolerance.
    """

    def check(label: str, actual: Tensor, expected: Tensor, tolerance: Mapping[str, float] | float = 0.0) -> float:
        bounds = tolerance if isinstance(tolerance, Mapping) else {"atol": tolerance}
        assert tuple(actual.shape) == tuple(expected.shape), f"{label}: {actual.shape} against {expected.shape}"
        left, right = actual.detach().cpu().double(), expected.detach().cpu().double()
        difference = (left - right).abs()[right.isfinite() & left.isfinite()]
        largest = float(difference.max()) if difference.numel() else 0.0
        atol, rtol = float(bounds.get("atol", 0.0)), float(bounds.get("rtol", 0.0))
        if expected.dtype == torch.float16:
            atol, rtol = atol + FLOAT16_ATOL, rtol + FLOAT16_RTOL
        line = f"{request.node.name}: {label}: largest difference {largest:.3e} (atol {atol:g}, rtol {rtol:g})"
        request.config.stash.setdefault(_lines, []).append(line)
        torch.testing.assert_close(left, right, atol=atol, rtol=rtol, equal_nan=True, msg=lambda m: f"{line}\n{m}")
        return largest

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the largest difference of every comparison of this run, and each reason why tests were skipped."""
    lines = config.stash.get(_lines, [])
    if lines:
        terminalreporter.section("golden numbers")
        for line in lines:
            terminalreporter.write_line(line)
    reasons = Counter(str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []))
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")
