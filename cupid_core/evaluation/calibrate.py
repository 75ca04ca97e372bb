"""Fits the calibration of a checkpoint to records of generated objects with truth.

Deviations are fitted by the likelihood of a Student distribution, which a few wholly wrong results do not widen;
those of the rotation of lost frames are root mean squares. Both are then scaled on objects that were left out: the
smallest that hold as often as they say. The probabilities of losing the frame and of being right are logistic
regressions; their thresholds come from objects that were left out as well.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cupid_core.config import Refine
from cupid_core.errors import InputError
from cupid_core.evaluation.certainty_figures import EVIDENCE, verdict_figures
from cupid_core.evaluation.records import CaseRecord
from cupid_core.evaluation.report import POSE_BOUND
from cupid_core.scene.certainty import DEVIATIONS, Calibration, features
from cupid_core.scene.evidence import Evidence

Floats = npt.NDArray[np.float64]

# Objects of a calibration; neither training nor the benchmark has this seed.
CALIBRATION_SEED = 3_000_017
# A result called good is right at least this often, with one standard deviation to spare, among objects that were
# left out.
GOOD_PRECISION = 0.88
# Share of poses inside the 95 % bound, and of scales inside one deviation, that the deviations are scaled to.
_POSES_INSIDE, _SCALES_INSIDE = 0.90, 0.68
# A frame is lost where the rotation is off by more, radians. The largest errors beyond this share are cut off.
_LOST_RAD, _LOST_SHARE = 0.35, 0.95
# Scales of the deviations that are tried, and probabilities from which a frame counts as lost.
_SCALES = (0.8, 1.0, 1.15, 1.3, 1.6, 2.0, 2.5)
_LOST_FROM = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
_POSITION, _ROTATION = ("along", "across"), ("turn_x", "turn_y", "turn_z")
_FAILED_BELOW = 0.1
_FOLDS = 5
_STUDENT = 4.0
_RIDGE = 0.04
_LEAST_OBJECTS, _FEWEST_GOOD = 40, 10


@dataclass(frozen=True)
class Condition:
    """How objects are reconstructed for a calibration.

    Attributes:
        samples: hypotheses per object.
        refine: what is fitted.
        with_depth: the sensor depth is given.
        share: of the objects that are reconstructed under this condition.
    """

    samples: int
    refine: Refine
    with_depth: bool
    share: float = 1.0


CONDITIONS: Mapping[str, Condition] = {
    "normal": Condition(samples=1, refine="shape", with_depth=True),
    "fast": Condition(samples=1, refine="none", with_depth=True, share=0.5),
    "no depth": Condition(samples=1, refine="shape", with_depth=False, share=0.5),
    "best": Condition(samples=4, refine="shape", with_depth=True, share=0.1),
}


@dataclass(frozen=True, eq=False)
class _Data:
    """Records as arrays: N results.

    Attributes:
        rows: (N, 1 + F) one and the standardized features.
        errors: by name of the deviation (N,), NaN where there is none.
        right: (N,) 1 where the result is right.
        objects: (N,) number of the object, so that no object is in two folds.
    """

    rows: Tensor
    errors: Mapping[str, Tensor]
    right: Tensor
    objects: Floats

    def part(self, chosen: npt.NDArray[np.bool_]) -> _Data:
        keep = torch.from_numpy(chosen)
        errors = {name: values[keep] for name, values in self.errors.items()}
        return _Data(self.rows[keep], errors, self.right[keep], self.objects[chosen])


def fit_calibration(records: Sequence[CaseRecord]) -> Calibration:
    """Fit to results of all conditions.

    Args:
        records: of `run_benchmark`; those without a result are left out.

    Raises:
        InputError: there are too few objects, or no or only right results.
    """
    found = [record for record in records if not record.failure]
    count = len({record.index for record in found})
    if count < _LEAST_OBJECTS:
        raise InputError(f"{count} objects.", hint=f"Calibrate with at least {_LEAST_OBJECTS}.")
    start = _standardization(found)
    data = _data(found, start)
    if not 0 < int(data.right.sum()) < len(data.right):
        raise InputError("All results are right, or none is.", hint="Use more objects.")
    folds = [(data.objects % _FOLDS) == fold for fold in range(_FOLDS)]
    tested = [(_fitted(data.part(~fold), start), data.part(fold)) for fold in folds]
    probability = np.concatenate([_probabilities(model.good, part) for model, part in tested])
    right = np.concatenate([part.right.numpy() for _, part in tested])
    scaled = _scaled(_fitted(data, start), tested)
    return replace(scaled, objects=count, good_from=_threshold(probability, right))


def _scaled(whole: Calibration, tested: Sequence[tuple[Calibration, _Data]]) -> Calibration:
    """The deviations times the factors that hold on objects that were left out."""
    lost = np.concatenate([_probabilities(model.lost, part) for model, part in tested])

    def left_out(names: Sequence[str], *, as_lost: bool) -> Floats:
        return np.concatenate([_squared(model, part, names, as_lost=as_lost) for model, part in tested])

    errors = [left_out(names, as_lost=kind) for kind in (False, True) for names in (_POSITION, _ROTATION)]
    best, factors, lost_from = -1.0, [_SCALES[-1]] * 4, _LOST_FROM[0]
    for limit, *tried in itertools.product(_LOST_FROM, *[_SCALES] * 4):
        parts = [error / factor**2 for error, factor in zip(errors, tried, strict=True)]
        total = np.where(lost < limit, parts[0] + parts[1], parts[2] + parts[3])
        # The smallest deviations have the largest squared errors.
        if (total <= POSE_BOUND).mean() >= _POSES_INSIDE and np.median(total) > best:
            best, factors, lost_from = float(np.median(total)), tried, limit
    near, far = (np.sqrt(left_out(("log_scale",), as_lost=kind)) for kind in (False, True))
    log_scale = [_quantile(near[lost < lost_from]), _quantile(far[lost >= lost_from])]
    grow = _by_name(factors[0], factors[1], log_scale[0])
    grow_lost = _by_name(factors[2], factors[3], log_scale[1])
    return replace(
        whole,
        deviations=_times(whole.deviations, grow),
        lost_deviations=_times(whole.lost_deviations, grow_lost),
        lost_from=lost_from,
    )


def _times(deviations: Mapping[str, Sequence[float]], factors: Mapping[str, float]) -> dict[str, list[float]]:
    return {name: [row[0] + math.log(factors[name]), *row[1:]] for name, row in deviations.items()}


def _by_name(position: float, rotation: float, log_scale: float) -> dict[str, float]:
    return dict.fromkeys(_POSITION, position) | dict.fromkeys(_ROTATION, rotation) | {"log_scale": log_scale}


def _quantile(values: Floats) -> float:
    """Of the errors of the scale that are known; 1 where none is."""
    known = values[np.isfinite(values)]
    return float(np.quantile(known, _SCALES_INSIDE)) if len(known) else 1.0


def restated(records: Sequence[CaseRecord], calibration: Calibration) -> list[CaseRecord]:
    """The same results with the certainty that a calibration states of them."""
    changed = []
    for record in records:
        if record.failure:
            changed.append(record)
            continue
        data = _data([record], calibration)
        as_lost = calibration.is_lost(data.rows[0].numpy())
        pose = _squared(calibration, data, (*_POSITION, *_ROTATION), as_lost=as_lost)
        scale = _squared(calibration, data, ("log_scale",), as_lost=as_lost)
        p_good, right = calibration.probability(data.rows[0].numpy()), bool(data.right[0])
        good = p_good >= calibration.good_from
        figures = {
            "nees": float(pose[0]),
            "scale_deviations": float(np.sqrt(scale[0])),
            "p_good": p_good,
            "called_good": float(good),
            "called_failed": float(p_good < calibration.failed_below),
            **verdict_figures(right=right, good=good),
        }
        changed.append(replace(record, figures={**record.figures, **figures}))
    return changed


def _squared(calibration: Calibration, data: _Data, names: Sequence[str], *, as_lost: bool) -> Floats:
    """(N,) squared errors in units of the deviations, summed over some of them."""
    total = np.zeros(len(data.rows))
    for name in names:
        weights = (calibration.lost_deviations if as_lost else calibration.deviations)[name]
        deviation = (data.rows @ torch.tensor(weights, dtype=torch.float64)).exp()
        directions = 2 if name == "across" else 1
        total += directions * (data.errors[name] / deviation).square().numpy()
    return total


def _standardization(records: Sequence[CaseRecord]) -> Calibration:
    """A calibration with nothing but the features, their means and deviations."""
    table = [features(_evidence(record)) for record in records]
    names = list(table[0])
    values = np.array([[row[name] for name in names] for row in table])
    known = np.isfinite(values)
    means = np.where(known, values, 0).sum(axis=0) / known.sum(axis=0).clip(1)
    spread = np.sqrt((np.where(known, values - means, 0) ** 2).sum(axis=0) / known.sum(axis=0).clip(1))
    # What is the same for all objects says nothing.
    stds = np.where(spread > 1e-6, spread, 1.0)
    zeros = [0.0] * (1 + len(names))
    return Calibration(
        objects=0,
        features=names,
        means=means.tolist(),
        stds=stds.tolist(),
        deviations=dict.fromkeys(DEVIATIONS, zeros),
        lost_deviations=dict.fromkeys(DEVIATIONS, zeros),
        lost=zeros,
        lost_from=1.0,
        good=zeros,
        good_from=1.0,
        failed_below=_FAILED_BELOW,
    )


def _evidence(record: CaseRecord) -> dict[str, float]:
    """Of a record; a journal leaves out what is not a number."""
    names = {name for name in record.figures if name.startswith(EVIDENCE)}
    given = {name.removeprefix(EVIDENCE): record.figures[name] for name in names}
    return {item.name: math.nan for item in fields(Evidence)} | given


def _data(records: Sequence[CaseRecord], start: Calibration) -> _Data:
    def column(name: str) -> Tensor:
        return torch.tensor([record.figures.get(name, math.nan) for record in records], dtype=torch.float64)

    errors = {name: column(f"error_{name}") for name in DEVIATIONS}
    # Of two directions across the ray: the error of one of them.
    errors["across"] = errors["across"] / math.sqrt(2)
    rows = np.stack([start.standardized(_evidence(record)) for record in records])
    numbers = np.array([record.index for record in records], dtype=np.float64)
    return _Data(torch.from_numpy(rows), errors, column("right"), numbers)


def _fitted(data: _Data, start: Calibration) -> Calibration:
    off = torch.stack([data.errors[name] for name in _ROTATION]).norm(dim=0)
    lost = off > _LOST_RAD
    near, far = data.part(~lost.numpy()), data.part(lost.numpy())
    return replace(
        start,
        deviations={name: _fit_deviation(near.rows, near.errors[name]) for name in DEVIATIONS},
        lost_deviations={
            name: _constant(far.errors[name], len(start.means))
            if name in _ROTATION
            else _fit_deviation(far.rows, far.errors[name])
            for name in DEVIATIONS
        },
        lost=_fit_probability(data.rows, lost.double()),
        good=_fit_probability(data.rows, data.right),
    )


def _constant(errors: Tensor, count: int) -> list[float]:
    """Weights of a deviation that no feature changes: the root mean square of errors, the largest cut off."""
    known = errors[errors.isfinite()].abs()
    cut = known.clamp(max=float(known.quantile(_LOST_SHARE))) if len(known) else torch.ones(1)
    return [float(cut.square().mean().log()) / 2, *[0.0] * count]


def _fit_deviation(rows: Tensor, errors: Tensor) -> list[float]:
    known = errors.isfinite()
    rows, squared = rows[known], errors[known].square()

    def loss(weights: Tensor) -> Tensor:
        log_std = rows @ weights
        student = (_STUDENT + 1) / 2 * torch.log1p(squared * (-2 * log_std).exp() / _STUDENT)
        return (log_std + student).mean()

    first = float(squared.median().clamp(min=1e-12).log()) / 2
    return _minimized(loss, rows.shape[1], first)


def _fit_probability(rows: Tensor, right: Tensor) -> list[float]:
    def loss(weights: Tensor) -> Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(rows @ weights, right)

    return _minimized(loss, rows.shape[1], 0.0)


def _minimized(loss: Callable[[Tensor], Tensor], count: int, first: float) -> list[float]:
    """Weights that minimize a loss and a ridge penalty on all but the offset."""
    weights = torch.zeros(count, dtype=torch.float64)
    weights[0] = first
    weights.requires_grad_(True)
    solver = torch.optim.LBFGS([weights], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        total = loss(weights) + _RIDGE * weights[1:].square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    return [float(value) for value in weights.detach()]


def _probabilities(weights: Sequence[float], data: _Data) -> Floats:
    found: Floats = torch.sigmoid(data.rows @ torch.tensor(weights, dtype=torch.float64)).numpy()
    return found


def _threshold(probability: Floats, right: Floats) -> float:
    """The lowest probability from which results are right often enough; 1 where none is."""
    order = np.argsort(-probability)
    count = np.arange(1, len(order) + 1)
    precision = np.cumsum(right[order]) / count
    spare = np.sqrt(precision * (1 - precision) / count)
    enough = np.flatnonzero((precision - spare >= GOOD_PRECISION) & (count >= _FEWEST_GOOD))
    return float(probability[order[enough[-1]]]) if len(enough) else 1.0
