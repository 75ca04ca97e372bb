"""How much work a reconstruction does, as named presets; the command line, bags and the ROS node share them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

PresetName = Literal["fast", "normal", "best"]
# What a placed object is fitted to mask and depth with: nothing, its place, or its place and its shape.
Refine = Literal["none", "pose", "shape"]


class Preset(NamedTuple):
    """What a preset stands for.

    Attributes:
        samples: hypotheses per object; the best one is placed.
        refine: what fits the placed objects to mask and depth.
    """

    samples: int
    refine: Refine


PRESETS: Mapping[str, Preset] = {
    "fast": Preset(samples=1, refine="none"),
    "normal": Preset(samples=1, refine="shape"),
    "best": Preset(samples=4, refine="shape"),
}
