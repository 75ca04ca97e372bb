"""The reliability diagram: how often results are right that state a probability of being right."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from cupid_core.evaluation.records import CaseRecord

_EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)
_SIZE, _LEFT, _TOP = 320, 56, 16


@dataclass(frozen=True)
class Bin:
    """Results whose stated probability lies in one interval.

    Attributes:
        count: of the results.
        stated: mean probability.
        right: share that is right.
        std: standard deviation of that share.
    """

    count: int
    stated: float
    right: float
    std: float


def reliability_bins(records: Sequence[CaseRecord]) -> list[Bin]:
    """The bins that hold a result, by rising probability; results without a probability are left out."""
    pairs = [(record.figures.get("p_good", math.nan), record.figures.get("right", math.nan)) for record in records]
    bins = []
    for low, high in itertools.pairwise(_EDGES):
        inside = [pair for pair in pairs if low <= pair[0] < high or pair[0] == high == 1.0]
        if inside:
            count = len(inside)
            stated, right = (sum(pair[k] for pair in inside) / count for k in (0, 1))
            # One result more of each kind, so that a bin of few does not look exact.
            share = (right * count + 1) / (count + 2)
            bins.append(Bin(count, stated, right, math.sqrt(share * (1 - share) / count)))
    return bins


def reliability_svg(records: Sequence[CaseRecord]) -> str:
    """The diagram as an SVG picture: points on the diagonal state the truth."""

    def at(x: float, y: float) -> tuple[float, float]:
        return _LEFT + _SIZE * x, _TOP + _SIZE * (1 - y)

    x0, y0 = at(0, 0)
    x1, y1 = at(1, 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_SIZE + 96}" height="{_SIZE + 72}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<rect x="{x0}" y="{y1}" width="{_SIZE}" height="{_SIZE}" fill="none" stroke="#888"/>',
        f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="#bbb" stroke-dasharray="4"/>',
    ]
    for tick in range(0, 101, 20):
        x, y = at(tick / 100, tick / 100)
        parts.append(f'<text x="{x}" y="{y0 + 16}" text-anchor="middle">{tick}</text>')
        parts.append(f'<text x="{x0 - 6}" y="{y + 4}" text-anchor="end">{tick}</text>')
    for found in reliability_bins(records):
        x, y = at(found.stated, found.right)
        low, high = at(0, max(0.0, found.right - found.std))[1], at(0, min(1.0, found.right + found.std))[1]
        parts.append(f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" stroke="#1f6f8b"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#1f6f8b"/>')
        parts.append(f'<text x="{x + 6:.1f}" y="{y + 14:.1f}" fill="#555">{found.count}</text>')
    across, up = _LEFT + _SIZE / 2, _TOP + _SIZE / 2
    titles = (
        (f'x="{across}" y="{y0 + 40}"', "stated probability of being right, %"),
        (f'x="14" y="{up}" transform="rotate(-90 14 {up})"', "results that are right, %"),
    )
    parts += [f'<text {where} text-anchor="middle">{words}</text>' for where, words in titles]
    return "\n".join([*parts, "</svg>"]) + "\n"
