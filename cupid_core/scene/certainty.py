"""How certain a placed object is: deviations and a probability from its evidence, by a model that was calibrated.

What the pose solver states is no measure: it takes thousands of pairs as independent, though one smooth draw
made them all. `cupid calibrate` measures instead how far objects like this one are off, on generated objects with
truth, and keeps that in the checkpoint. Without it wide deviations are stated, and no probability.

A result is either near the truth, or the frame of the object was taken for another one, often a quarter turn away;
no single Gaussian describes both. So there are two kinds of deviations, for frames that were probably recognized
and for those that may be lost. Their logarithms, and the log-odds of losing the frame and of being right, are
linear in the standardized evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cupid_core.geometry.sim3 import Sim3
from cupid_core.scene.shape_symmetry import ShapeSymmetry
from cupid_core.types import Quality, Verdict

Floats = npt.NDArray[np.float64]

# A result is right where its rotation, up to the symmetry of the object, and its surface are within these bounds.
RIGHT_ROTATION_DEG, RIGHT_SURFACE_M = 15.0, 0.010
# The deviations that are calibrated: position along and across the ray to the object and scale, relative to its
# longest side and size; rotation about its own axes, radians.
DEVIATIONS = ("along", "across", "turn_x", "turn_y", "turn_z", "log_scale")
# Without a calibration: half the object, a radian, a third of the size.
_WIDE = {"along": 0.5, "across": 0.5, "turn_x": 1.0, "turn_y": 1.0, "turn_z": 1.0, "log_scale": 0.33}
# A rotation about an axis of continuous symmetry is uniform: its variance.
_FREE_VARIANCE = math.pi**2 / 3
# Standardized evidence is cut off here, so that what was never seen in calibration is not extrapolated.
_CUTOFF = 3.0


@dataclass(frozen=True)
class Calibration:
    """A model from evidence to certainty, fitted to objects with truth.

    Attributes:
        objects: generated objects behind it.
        features: names of `features`, in the order of the weights.
        means: of the features.
        stds: of the features.
        deviations: for each of `DEVIATIONS` the offset and the weights of the logarithm of its deviation, for
            objects whose frame was recognized.
        lost_deviations: the same for objects whose frame was lost.
        lost: offset and weights of the log-odds that the frame was lost.
        lost_from: probability from which it counts as lost.
        good: offset and weights of the log-odds that a result is right.
        good_from: probability from which a result is called good.
        failed_below: probability below which it is called failed.
    """

    objects: int
    features: Sequence[str]
    means: Sequence[float]
    stds: Sequence[float]
    deviations: Mapping[str, Sequence[float]]
    lost_deviations: Mapping[str, Sequence[float]]
    lost: Sequence[float]
    lost_from: float
    good: Sequence[float]
    good_from: float
    failed_below: float

    def standardized(self, evidence: Mapping[str, float]) -> Floats:
        """(1 + F,) one and the standardized features; what is not known counts as usual."""
        values = features(evidence)
        row = (np.array([values[name] for name in self.features]) - self.means) / np.array(self.stds)
        return np.concatenate([[1.0], np.clip(np.nan_to_num(row), -_CUTOFF, _CUTOFF)])

    def is_lost(self, row: Floats) -> bool:
        """Whether the frame of the object counts as lost, for a row of `standardized`."""
        return _logistic(row, self.lost) >= self.lost_from

    def deviation(self, name: str, row: Floats) -> float:
        """The deviation of this name for a row of `standardized`."""
        weights = (self.lost_deviations if self.is_lost(row) else self.deviations)[name]
        return math.exp(float(row @ np.asarray(weights)))

    def probability(self, row: Floats) -> float:
        """That the result is right, for a row of `standardized`."""
        return _logistic(row, self.good)

    def reasons(self, row: Floats, count: int = 3) -> tuple[str, ...]:
        """The evidence that lowers the probability most, worst first."""
        effects = row[1:] * np.asarray(self.good)[1:]
        worst = [self.features[int(place)] for place in np.argsort(effects) if effects[place] < -0.1]
        return tuple(dict.fromkeys(_WORDS.get(name, name) for name in worst))[:count]


def _logistic(row: Floats, weights: Sequence[float]) -> float:
    return 1 / (1 + math.exp(-float(row @ np.asarray(weights))))


# What a feature that speaks against an object is called.
_WORDS = {
    "size_px": "small in the image",
    "measured": "little of it has depth",
    "foreign": "depth inside its mask is not its own",
    "hidden_outline": "its outline is hidden or cut off",
    "seen": "little of its surface is seen",
    "outline_before": "its outline disagreed before the fit",
    "outline_after": "its outline disagrees where it was not fitted",
    "depth_before": "its depth disagreed before the fit",
    "depth_after": "its depth disagrees where it was not fitted",
    "color": "its generated colors disagree",
    "reprojection": "the pairs behind its pose disagree",
    "turned": "the fit turned it far",
    "stretched": "the fit stretched it",
    "resized": "the fit changed its size",
    "spread_rotation": "hypotheses disagree in rotation",
    "spread_surface": "hypotheses disagree in shape",
    "longest": "objects of its size are often wrong",
    "middle": "objects of its proportions are often wrong",
    "shortest": "objects of its proportions are often wrong",
    "turns_freely": "its shape does not determine its rotation",
    "fold": "its shape does not determine its rotation",
    "completed": "its shape is a sample",
    "trust": "its frame was not surely recognized",
    "gap": "its frame was not surely recognized",
    "residual": "measured points contradict the frame that was recognized",
    "with_depth": "it has no measured scale",
    "fitted": "no fit was accepted",
    "drawn": "there are no other hypotheses",
}


def features(evidence: Mapping[str, float]) -> dict[str, float]:
    """Evidence in the scale in which it counts; NaN where it is not known."""
    e = dict(evidence)
    with_depth = e["measured"] > 0

    def log(name: str, least: float) -> float:
        return math.log(e[name] + least)

    return {
        "size_px": log("size_px", 1.0),
        "measured": e["measured"] if with_depth else math.nan,
        "foreign": e["foreign"] if with_depth else math.nan,
        "hidden_outline": e["hidden_outline"],
        "seen": e["seen"],
        "outline_before": -math.log(1.02 - e["outline_before"]),
        "outline_after": -math.log(1.02 - e["outline_after"]),
        "depth_before": log("depth_before", 0.003),
        "depth_after": log("depth_after", 0.003),
        "color": e["color_db"],
        "reprojection": log("reprojection", 0.005),
        "turned": math.sqrt(e["turned_rad"]),
        "stretched": math.sqrt(e["stretched"]),
        "resized": math.sqrt(e["resized"]),
        "completed": e["completed"],
        "trust": log("trust", 0.001) - math.log(1.001 - e["trust"]),
        "gap": log("gap", 0.005),
        "residual": log("residual", 0.005),
        "spread_rotation": math.sqrt(e["spread_rad"]) if e["drawn"] else math.nan,
        "spread_surface": log("spread_surface", 0.005),
        "longest": log("longest_m", 0.01),
        "middle": e["middle"],
        "shortest": e["shortest"],
        "turns_freely": e["turns_freely"],
        "fold": e["fold"],
        "with_depth": float(with_depth),
        "fitted": e["fitted"],
        "drawn": float(e["drawn"] > 0),
    }


@dataclass(frozen=True, eq=False)
class Certainty:
    """How far an object may be off.

    Attributes:
        calibrated: the numbers were measured on objects with truth; else they are wide guesses.
        covariance: (6, 6) float64 of x, y, z, rx, ry, rz in the camera frame, perturbation t + dt, Exp(dr) R, in
            the unit of the camera frame and radians.
        scale_std: relative deviation of the scale.
        p_good: probability that rotation and surface are within `RIGHT_ROTATION_DEG` and `RIGHT_SURFACE_M`; NaN
            without a calibration.
        verdict: what the probability means; DOUBTFUL without a calibration.
        reasons: what speaks most against it, where it is not good.
    """

    calibrated: bool
    covariance: Tensor
    scale_std: float
    p_good: float
    verdict: Verdict
    reasons: tuple[str, ...]

    def judge(self, quality: Quality, remarks: tuple[str, ...]) -> Quality:
        """The quality with the verdict of this certainty.

        Args:
            quality: measured figures, and the verdict of their thresholds; one that failed stays so.
            remarks: why a better way was not possible; an object with remarks is not good.
        """
        verdict, reasons = self.verdict, self.reasons
        if quality.verdict is Verdict.FAILED:
            verdict = Verdict.FAILED
        if not self.calibrated or verdict is Verdict.FAILED:
            reasons = (*reasons, *quality.reasons)
        if remarks and verdict is Verdict.GOOD:
            verdict = Verdict.DOUBTFUL
        p_good = self.p_good if self.calibrated else None
        return replace(quality, p_good=p_good, verdict=verdict, reasons=(*reasons, *remarks))


def assess(
    calibration: Calibration | None,
    evidence: Mapping[str, float],
    S_camera_object: Sim3,
    size: float,
    *,
    symmetry: ShapeSymmetry | None,
    unit_std: float = 0.0,
) -> Certainty:
    """The certainty of an object.

    Args:
        calibration: of the checkpoint; None where it has none.
        evidence: of the object, `Evidence.values`; NaN counts as usual.
        S_camera_object: its place.
        size: its longest side, unit of the camera frame.
        symmetry: of its shape; the rotation about an axis of continuous symmetry is not known. None before there
            is a shape.
        unit_std: relative deviation of the unit of length itself: of all depth together, or of a known size.
    """
    row = None if calibration is None else calibration.standardized(evidence)
    deviation = dict(_WIDE)
    if calibration is not None and row is not None:
        deviation = {name: calibration.deviation(name, row) for name in DEVIATIONS}
    T = S_camera_object.rigid()
    covariance = _covariance(deviation, T.rotation().double(), T.translation.double(), size, symmetry)
    covariance[:3, :3] += unit_std**2 * torch.outer(T.translation.double(), T.translation.double())
    scale_std = math.hypot(deviation["log_scale"], unit_std)
    if calibration is None or row is None:
        reason = "the checkpoint is not calibrated"
        return Certainty(False, covariance, scale_std, math.nan, Verdict.DOUBTFUL, (reason,))
    probability = calibration.probability(row)
    verdict = Verdict.GOOD if probability >= calibration.good_from else Verdict.DOUBTFUL
    verdict = Verdict.FAILED if probability < calibration.failed_below else verdict
    reasons = () if verdict is Verdict.GOOD else calibration.reasons(row)
    return Certainty(True, covariance, scale_std, probability, verdict, reasons)


def _covariance(
    deviation: Mapping[str, float],
    rotation: Tensor,
    position: Tensor,
    size: float,
    symmetry: ShapeSymmetry | None,
) -> Tensor:
    """Covariance (6, 6) in the camera frame from deviations along the ray and about the object's own axes."""
    ray = position / position.norm()
    along = torch.outer(ray, ray)
    across = torch.eye(3, dtype=torch.float64) - along
    turns = torch.tensor([deviation[f"turn_{axis}"] ** 2 for axis in "xyz"], dtype=torch.float64).diag()
    if symmetry is not None and symmetry.is_continuous:
        axis = torch.from_numpy(symmetry.axis)
        turns = turns + _FREE_VARIANCE * torch.outer(axis, axis)
    covariance = torch.zeros(6, 6, dtype=torch.float64)
    covariance[:3, :3] = size**2 * (deviation["along"] ** 2 * along + deviation["across"] ** 2 * across)
    covariance[3:, 3:] = rotation @ turns @ rotation.mT
    return covariance
