"""The numbers of `objects.json` as words for the tables of the report; plain text, escaped by the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

OVERVIEW_HEADS = ("right", "IoU", "PSNR", "depth residual", "size", "distance", "rotation", "scale from")
_SOURCES = {
    "depth_sensor": "depth sensor",
    "depth_model": "depth model",
    "known_size": "known size",
    "unknown": "unknown (up to scale)",
}


def overview_cells(item: Record) -> tuple[str, ...]:
    """The row of one object in the table of all objects, in the order of `OVERVIEW_HEADS`."""
    quality = item["quality"]
    return (
        _plain(quality["p_good"], "{:.0f} %", 100),
        _plain(quality["silhouette_iou"], "{:.3f}"),
        _plain(quality["color_psnr_db"], "{:.1f} dB"),
        _plain(quality["depth_residual_m"], "{:.1f} mm", 1000),
        _size(item),
        f"{_length(_distance(item), item)} ± {_length(item['position_std'], item)}",
        f"± {item['rotation_std_deg']:.0f}°",
        _SOURCES[item["scale_source"]],
    )


def detail_rows(item: Record) -> list[tuple[str, str]]:
    """Everything about one object, names beside values."""
    quality, physical = item["quality"], item["physical"]
    return [
        ("right with probability", _plain(quality["p_good"], "{:.0f} %", 100)),
        ("deviations", "measured on generated objects" if item["calibrated"] else "wide guesses: not calibrated"),
        ("silhouette IoU", _plain(quality["silhouette_iou"], "{:.3f}")),
        ("color PSNR", _plain(quality["color_psnr_db"], "{:.1f} dB")),
        ("reprojection RMS", _plain(quality["reprojection_rms_px"], "{:.2f} px")),
        ("inliers", _plain(quality["inlier_ratio"], "{:.1f} %", 100)),
        ("depth residual, median", _plain(quality["depth_residual_m"], "{:.1f} mm", 1000)),
        ("dimensions", _size(item)),
        ("scale", _scale(item)),
        ("position in the camera frame", f"{_position(item)}, ± {_length(item['position_std'], item)}"),
        ("rotation", f"± {item['rotation_std_deg']:.0f}°{_symmetry(item['symmetry'])}"),
        ("cut off by the border", "yes" if item["truncated"] else "no"),
        ("mesh", f"{item['mesh']['triangles']} triangles, {'' if item['mesh']['watertight'] else 'not '}closed"),
        ("volume", _volume(physical, item)),
        ("hypotheses", str(len(item["hypotheses"]))),
        ("files", ", ".join(item["files"].values())),
        *_refinement_rows(item["refinement"]),
    ]


def failure_rows(failures: Sequence[Record]) -> list[tuple[str, str, str]]:
    """Object, code and reason of what could not be reconstructed."""
    return [
        (f"{item['id']} {item['label']}".strip(), item["code"], f"{item['problem']} {item['hint']}")
        for item in failures
    ]


def run_rows(record: Record) -> list[tuple[str, str]]:
    """Package, checkpoint, inputs, camera and times."""
    run, camera = record["run"], record["camera"]
    K = camera["K"]
    return [
        ("package", f"{record['generator']['package']} {record['generator']['version']}"),
        ("checkpoint", f"{run['checkpoint']['name']} ({run['checkpoint']['sha256'][:12]})"),
        ("device", str(run["device"])),
        ("seed, hypotheses per object", f"{run['seed']}, {run['samples']}"),
        *((name, str(value)) for name, value in run["inputs"].items()),
        (
            f"camera ({camera['source'].replace('_', ' ')})",
            f"fx {K[0][0]:.1f}, fy {K[1][1]:.1f}, cx {K[0][2]:.1f}, cy {K[1][2]:.1f} px",
        ),
        *((f"time: {name}", f"{value:.2f} s") for name, value in run["timings_s"].items()),
    ]


def _refinement_rows(refinement: Record | None) -> list[tuple[str, str]]:
    if refinement is None:
        return []
    before, after = refinement["before"], refinement["after"]
    rows = [("refinement", f"{'kept' if refinement['accepted'] else 'refused'}: {refinement['reason']}")]
    for name, words, form, factor in (
        ("silhouette_iou", "silhouette IoU", "{:.3f}", 1),
        ("depth_residual_m", "depth residual", "{:.1f} mm", 1000),
    ):
        change = " to ".join(_plain(side[name], form, factor) for side in (before, after))
        rows.append((f"{words} by refinement", change))
    return rows


def _size(item: Record) -> str:
    if item["unit"] != "metre":
        return " x ".join(f"{value:.2f}" for value in item["dimensions"]) + " (no unit)"
    return " x ".join(f"{value * 1000:.0f}" for value in item["dimensions"]) + " mm"


def _scale(item: Record) -> str:
    if item["unit"] != "metre":
        return "unknown"
    std = f" ± {100 * item['scale_std'] / item['scale']:.0f} %" if item["scale_std"] is not None else ""
    return f"{item['scale'] * 1000:.1f} mm per unit{std}, from {_SOURCES[item['scale_source']]}"


def _symmetry(symmetry: Record) -> str:
    if symmetry["fold"] == 1:
        return ""
    axis = " ".join(f"{value:.2f}" for value in symmetry["axis"])
    turns = "every angle" if symmetry["fold"] == 0 else f"{360 / symmetry['fold']:.0f}°"
    return f"; {turns} about ({axis}) leaves the shape as it is"


def _distance(item: Record) -> float:
    return float(sum(row[3] ** 2 for row in item["T_camera_object"][:3]) ** 0.5)


def _length(value: float, item: Record) -> str:
    return f"{value:.3f} m" if item["unit"] == "metre" else f"{value:.2f} (no unit)"


def _position(item: Record) -> str:
    x, y, z = (row[3] for row in item["T_camera_object"][:3])
    unit = "m" if item["unit"] == "metre" else "(no unit)"
    return f"{x:.3f}, {y:.3f}, {z:.3f} {unit}"


def _volume(physical: Record | None, item: Record) -> str:
    if physical is None or physical["volume"] is None:
        return "-"
    if item["unit"] == "metre":
        return f"{physical['volume'] * 1e6:.0f} cm³"
    return f"{physical['volume']:.3f} (no unit)"


def _plain(value: float | None, form: str, factor: float = 1.0) -> str:
    return "-" if value is None else form.format(value * factor)
