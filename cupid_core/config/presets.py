"""How much work a reconstruction does, as named presets; the command line, bags and the ROS node share them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

PresetName = Literal["fast", "normal", "best"]


class Preset(NamedTuple):
    """What a preset stands for.

    Attributes:
        samples: hypotheses per object; the best one is placed.
        refine: move placed objects so that they meet depth and mask better.
    """

    samples: int
    refine: bool


PRESETS: Mapping[str, Preset] = {
    "fast": Preset(samples=1, refine=False),
    "normal": Preset(samples=1, refine=True),
    "best": Preset(samples=4, refine=True),
}
