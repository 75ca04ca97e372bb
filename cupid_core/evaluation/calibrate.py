"""Fits the calibration of a checkpoint to records of generated objects with truth.

Deviations are fitted by the likelihood of a Student distribution, which a few results that are wholly wrong do not
widen, and then scaled on objects that were left out, so that the stated bounds hold as often as they say. The
probability of being right is a logistic regression; its thresholds come from objects that were left out as well.
"""

from __future__ import annotations

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
# A result called good is right at least this often, among objects that were left out.
GOOD_PRECISION = 0.9
# Share of poses inside the 95 % bound, and of scales inside one deviation, that the deviations are scaled to.
_POSES_INSIDE, _SCALES_INSIDE = 0.92, 0.68
_FAILED_BELOW = 0.1
_FOLDS = 5
_STUDENT = 4.0
_RIDGE = 0.02
_LEAST_OBJECTS = 40


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
    "fast": Condition(samples=1, refine="none", with_depth=True),
    "no depth": Condition(samples=1, refine="shape", with_depth=False, share=0.5),
    "best": Condition(samples=4, refine="shape", with_depth=True, share=0.2),
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
    left_out = [_fitted(data.part(~fold), start) for fold in folds]
    whole = _fitted(data, start)
    tested = [(model, data.part(fold)) for model, fold in zip(left_out, folds, strict=True)]
    pose_factor = math.sqrt(_quantile(tested, squared_errors, _POSES_INSIDE) / POSE_BOUND)
    scale_factor = _quantile(tested, _scale_errors, _SCALES_INSIDE)
    factors = {name: scale_factor if name == "log_scale" else pose_factor for name in DEVIATIONS}
    deviations = {
        name: [weights[0] + math.log(factors[name]), *weights[1:]] for name, weights in whole.deviations.items()
    }
    probability = np.concatenate([_probabilities(model, part) for model, part in tested])
    right = np.concatenate([part.right.numpy() for _, part in tested])
    return replace(whole, objects=count, deviations=deviations, good_from=_threshold(probability, right))


def restated(records: Sequence[CaseRecord], calibration: Calibration) -> list[CaseRecord]:
    """The same results with the certainty that a calibration states of them."""
    changed = []
    for record in records:
        if record.failure:
            changed.append(record)
            continue
        data = _data([record], calibration)
        scale = _scale_errors(calibration, data.rows, data.errors)
        p_good, right = float(_probabilities(calibration, data)[0]), bool(data.right[0])
        good = p_good >= calibration.good_from
        figures = {
            "nees": float(squared_errors(calibration, data.rows, data.errors)[0]),
            "scale_deviations": float(scale[0]) if len(scale) else math.nan,
            "p_good": p_good,
            "called_good": float(good),
            "called_failed": float(p_good < calibration.failed_below),
            **verdict_figures(right=right, good=good),
        }
        changed.append(replace(record, figures={**record.figures, **figures}))
    return changed


def squared_errors(calibration: Calibration, rows: Tensor, errors: Mapping[str, Tensor]) -> Floats:
    """(N,) squared errors of the poses in units of the deviations, with six degrees of freedom."""
    total = np.zeros(len(rows))
    for name in DEVIATIONS[:-1]:
        total += (errors[name] / _deviations(calibration, name, rows)).square().numpy() * (
            2 if name == "across" else 1
        )
    return total


def _scale_errors(calibration: Calibration, rows: Tensor, errors: Mapping[str, Tensor]) -> Floats:
    off: Floats = (errors["log_scale"] / _deviations(calibration, "log_scale", rows)).abs().numpy()
    return off[np.isfinite(off)]


def _quantile(
    tested: Sequence[tuple[Calibration, _Data]],
    measure: Callable[[Calibration, Tensor, Mapping[str, Tensor]], Floats],
    share: float,
) -> float:
    values = np.concatenate([measure(model, part.rows, part.errors) for model, part in tested])
    return float(np.quantile(values, share))


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
    deviations = {name: _fit_deviation(data.rows, data.errors[name]) for name in DEVIATIONS}
    return replace(start, deviations=deviations, good=_fit_probability(data.rows, data.right))


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


def _deviations(calibration: Calibration, name: str, rows: Tensor) -> Tensor:
    return (rows @ torch.tensor(calibration.deviations[name], dtype=torch.float64)).exp()


def _probabilities(calibration: Calibration, data: _Data) -> Floats:
    found: Floats = torch.sigmoid(data.rows @ torch.tensor(calibration.good, dtype=torch.float64)).numpy()
    return found


def _threshold(probability: Floats, right: Floats) -> float:
    """The lowest probability from which results are right often enough; 1 where none is."""
    order = np.argsort(-probability)
    precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero((precision >= GOOD_PRECISION) & (np.arange(len(order)) >= 9))
    return float(probability[order[enough[-1]]]) if len(enough) else 1.0
