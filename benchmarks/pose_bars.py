"""The acceptance criteria of the pose solvers, checked on a report."""

from __future__ import annotations

from collections.abc import Iterator

from pose_report import Bar, Report

UNKNOWN, KNOWN = "ours, K unknown", "ours, K known"
COUNT = 3000


def acceptance(report: Report) -> list[Bar]:
    """All bars that the report has numbers for."""
    return [
        *_known(report),
        *_unknown(report),
        *_outliers(report),
        *_wrong(report),
        *_rest(report),
        *_speed(report),
    ]


def _limit(name: str, values: dict[str, float], limit: float, unit: str = " deg") -> Bar:
    worst = max(values, key=lambda key: values[key])
    measured = ", ".join(f"{key}: {value:.3g}" for key, value in values.items())
    return Bar(name, f"{measured} (worst: {worst})", f"<= {limit:g}{unit}", values[worst] <= limit)


def _rotations(report: Report, method: str, noise: float, thicknesses: list[float]) -> dict[str, float]:
    return {
        f"{t:g}" if t else "flat": report.value(
            method, thickness=t, noise=noise, outliers=0.0, count=COUNT
        ).rotation_deg
        for t in thicknesses
        if report.has(method, thickness=t, noise=noise, outliers=0.0, count=COUNT)
    }


def _known(report: Report) -> Iterator[Bar]:
    for name, noise, thicknesses, limit in (
        ("K known, 0.3 % noise, thickness 1 to 0.05", 0.003, [1.0, 0.3, 0.1, 0.05], 0.05),
        ("K known, 0.3 % noise, flat", 0.003, [0.0], 0.1),
        ("K known, 1 % noise", 0.01, [1.0, 0.3, 0.1, 0.05, 0.0], 0.15),
    ):
        values = _rotations(report, KNOWN, noise, thicknesses)
        if values:
            yield _limit(name, values, limit)
    cells = [c for c in report.cells if c.method == KNOWN]
    failures, runs = sum(c.failures for c in cells), sum(c.runs for c in cells)
    yield Bar("K known: failures over all runs", f"{failures} of {runs}", "0", failures == 0)


def _unknown(report: Report) -> Iterator[Bar]:
    for thickness, limit in ((1.0, 0.1), (0.3, 0.3), (0.1, 0.5)):
        values = _rotations(report, UNKNOWN, 0.003, [thickness])
        if values:
            yield _limit(f"K unknown, 0.3 % noise, thickness {thickness:g}", values, limit)
    ratios = {}
    for c in report.cells:
        if c.method == UNKNOWN and c.count == COUNT and c.thickness > 0.0:
            dlt = report.value("our DLT", thickness=c.thickness, noise=c.noise, outliers=c.outliers, count=COUNT)
            ratios[f"{c.thickness:g}/{100 * c.noise:g} %/{100 * c.outliers:g} %"] = (
                c.rotation_deg / dlt.rotation_deg
            )
    worst = max(ratios, key=lambda key: ratios[key])
    measured = f"largest ratio {ratios[worst]:.2f} at thickness/noise/outliers {worst}, {len(ratios)} cells"
    yield Bar("K unknown, rotation against our DLT", measured, "<= 1 everywhere", ratios[worst] <= 1.0)


def _outliers(report: Report) -> Iterator[Bar]:
    for method in (KNOWN, UNKNOWN):
        ratios = {}
        for c in report.cells:
            if c.method == method and c.count == COUNT and c.outliers == 0.3:
                clean = report.value(method, thickness=c.thickness, noise=c.noise, outliers=0.0, count=COUNT)
                ratios[f"{c.thickness:g}/{100 * c.noise:g} %"] = c.rotation_deg / clean.rotation_deg
        if ratios:
            yield _limit(f"{method}: 30 % outliers over none, thickness/noise", ratios, 1.5, " times")


def _wrong(report: Report) -> Iterator[Bar]:
    values = _rotations(report, "ours, K 5 % wrong, prior", 0.003, [1.0])
    if values:
        yield _limit("K 5 % wrong as loose prior, 0.3 % noise, thickness 1", values, 0.3)
        place = {"thickness": 1.0, "noise": 0.003, "outliers": 0.0, "count": COUNT}
        fixed = report.value("ours, K 5 % wrong, fixed", **place).rms_px
        right = report.value(KNOWN, **place).rms_px
        text = f"rms {right:.3f} px with the right K, {fixed:.3f} px with the wrong one"
        yield Bar("K 5 % wrong, fixed: misfit shows", text, "larger", fixed > 1.02 * right)


def _rest(report: Report) -> Iterator[Bar]:
    for name, value in report.honesty.items():
        if name.startswith("K known"):
            yield Bar(f"covariance: {name}", f"{value:.2f}", "0.7 to 1.4", 0.7 <= value <= 1.4)
    ratios = {
        f"{row['thickness']:g}/{100 * row['noise']:g} %": row["cut"] / row["whole"] for row in report.truncated
    }
    if ratios:
        yield _limit("a third cut off and clamped over whole, K known, thickness/noise", ratios, 2.0, " times")


def _speed(report: Report) -> Iterator[Bar]:
    ms = report.timing_ms
    if not ms:
        return
    for name, ours, theirs, factor in (
        ("K unknown, one at a time, against the paper's DLT", "ours, K unknown", "paper's DLT", 10.0),
        ("K unknown, batch of 16, against the paper's DLT in the same batch", "ours, K unknown, batch of 16",
         "paper's DLT, batch of 16", 10.0),
        ("K unknown, batch of 16, against the paper's DLT one at a time", "ours, K unknown, batch of 16",
         "paper's DLT", 10.0),
        ("K known against cv2.calibrateCamera", "ours, K known", "cv2.calibrateCamera", 20.0),
    ):  # fmt: skip
        ratio = ms[theirs] / ms[ours]
        yield Bar(f"N = 20000, time: {name}", f"{ratio:.1f} times faster", f">= {factor:g}", ratio >= factor)
