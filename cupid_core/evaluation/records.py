"""What the benchmark found, object by object; knows numbers and pictures, not how they were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class CaseRecord:
    """One object.

    Attributes:
        split: "train" (unseen objects of trained families), "held_out" (families no training saw) or "scene"
            (objects of whole scenes).
        index: number of the object, or of the scene.
        family: name.
        figures: by name; a figure that does not exist for the object is absent or NaN.
        failure: code of the error that left nothing to measure; empty where there is a result.
        occluded: something hides a part of the object.
        truncated: the border of the image cuts it.
        timings_s: seconds of each stage for this object and all its hypotheses.
        pictures: for the contact sheet, left to right; empty where not asked for.
    """

    split: str
    index: int
    family: str
    figures: Mapping[str, float]
    failure: str = ""
    occluded: bool = False
    truncated: bool = False
    timings_s: Mapping[str, float] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
