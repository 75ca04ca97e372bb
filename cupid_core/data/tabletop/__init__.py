"""Procedural tabletop objects: training data, evaluation data and whole scenes, with exact truth and no files.

    batch = sample_tabletop(range(64), TabletopSettings(views_per_object=4), seed=1)

Objects are analytic signed-distance functions (`families/`), rendered, lit and degraded like photographs of
a robot's camera.
"""

from cupid_core.data.tabletop.batch import TabletopBatch, mirrored
from cupid_core.data.tabletop.sample import sample_tabletop
from cupid_core.data.tabletop.settings import TabletopSettings
from cupid_core.data.tabletop.splits import FAMILY_NAMES, HELD_OUT, TRAINED
from cupid_core.data.tabletop.symmetry import SymmetryGroup, elements

__all__ = [
    "FAMILY_NAMES",
    "HELD_OUT",
    "TRAINED",
    "SymmetryGroup",
    "TabletopBatch",
    "TabletopSettings",
    "elements",
    "mirrored",
    "sample_tabletop",
]
