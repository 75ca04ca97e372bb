"""The numbers of `objects.json` as tables of the report; knows that record and HTML, nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Record = Mapping[str, Any]

_SOURCES = {
    "depth_sensor": "depth sensor",
    "depth_model": "depth model",
    "known_size": "known size",
    "unknown": "unknown (up to scale)",
}


def objects_table(objects: Sequence[Record]) -> str:
    """One row per object."""
    heads = ("object", "verdict", "IoU", "PSNR", "depth residual", "size", "distance", "scale from")
    rows = [
        (
            escape(f"{item['id']} {item['label']}"),
            _verdict(item["quality"]),
            _plain(item["quality"]["silhouette_iou"], "{:.3f}"),
            _plain(item["quality"]["color_psnr_db"], "{:.1f} dB"),
            _plain(item["quality"]["depth_residual_m"], "{:.1f} mm", 1000),
            _size(item),
            _length(_distance(item), item),
            escape(_SOURCES[item["scale_source"]]),
        )
        for item in objects
    ]
    return _table(heads, rows) if rows else ""


def single_table(item: Record) -> str:
    """Everything about one object, names beside values."""
    quality, physical = item["quality"], item["physical"]
    reasons = "; ".join(quality["reasons"])
    rows = [
        ("verdict", _verdict(quality) + (" " + escape(reasons) if reasons else "")),
        ("silhouette IoU", _plain(quality["silhouette_iou"], "{:.3f}")),
        ("color PSNR", _plain(quality["color_psnr_db"], "{:.1f} dB")),
        ("reprojection RMS", _plain(quality["reprojection_rms_px"], "{:.2f} px")),
        ("inliers", _plain(quality["inlier_ratio"], "{:.1f} %", 100)),
        ("depth residual, median", _plain(quality["depth_residual_m"], "{:.1f} mm", 1000)),
        ("dimensions", _size(item)),
        ("scale", _scale(item)),
        ("position in the camera frame", _position(item)),
        ("cut off by the border", "yes" if item["truncated"] else "no"),
        ("mesh", f"{item['mesh']['triangles']} triangles, {'' if item['mesh']['watertight'] else 'not '}closed"),
        ("volume", _volume(physical, item)),
        ("hypotheses", str(len(item["hypotheses"]))),
        ("files", escape(", ".join(item["files"].values()))),
    ]
    rows += _refinement_rows(item["refinement"])
    half = (len(rows) + 1) // 2
    return f'<div class="numbers">{_pairs(rows[:half])}{_pairs(rows[half:])}</div>'


def failures_html(failures: Sequence[Record]) -> str:
    """What could not be reconstructed, and why; empty where everything could."""
    if not failures:
        return ""
    rows = [
        (
            escape(f"{item['id']} {item['label']}"),
            escape(item["code"]),
            escape(item["problem"] + " " + item["hint"]),
        )
        for item in failures
    ]
    return "<h2>Not reconstructed</h2>" + _table(("object", "code", "why"), rows)


def run_html(record: Record) -> str:
    """Checkpoint, inputs, times, camera, settings."""
    run, camera = record["run"], record["camera"]
    K = camera["K"]
    rows = [
        ("package", f"{record['generator']['package']} {record['generator']['version']}"),
        ("checkpoint", f"{run['checkpoint']['name']} ({run['checkpoint']['sha256'][:12]})"),
        ("device", str(run["device"])),
        ("seed, hypotheses per object", f"{run['seed']}, {run['samples']}"),
        *((name, str(value)) for name, value in run["inputs"].items()),
        (
            "camera " + ("(given)" if camera["known"] else "(estimated)"),
            f"fx {K[0][0]:.1f}, fy {K[1][1]:.1f}, cx {K[0][2]:.1f}, cy {K[1][2]:.1f} px",
        ),
        *((f"time: {name}", f"{value:.2f} s") for name, value in run["timings_s"].items()),
    ]
    settings = escape(json.dumps(run["settings"], indent=1))
    return _pairs([(name, escape(value)) for name, value in rows]) + (
        f"<details><summary>All settings</summary><pre>{settings}</pre></details>"
    )


def _refinement_rows(refinement: Record | None) -> list[tuple[str, str]]:
    if refinement is None:
        return []
    before, after = refinement["before"], refinement["after"]
    kept = "kept" if refinement["accepted"] else "refused"
    rows = [("refinement", f"{kept}: {escape(refinement['reason'])}")]
    for name, words, form, factor in (
        ("silhouette_iou", "silhouette IoU", "{:.3f}", 1),
        ("depth_residual_m", "depth residual", "{:.1f} mm", 1000),
    ):
        change = " to ".join(_plain(side[name], form, factor) for side in (before, after))
        rows.append((f"{words} by refinement", change))
    return rows


def _verdict(quality: Record) -> str:
    return f'<span class="verdict {escape(quality["verdict"])}">{escape(quality["verdict"])}</span>'


def _size(item: Record) -> str:
    if item["unit"] != "metre":
        return " x ".join(f"{value:.2f}" for value in item["dimensions"]) + " (no unit)"
    return " x ".join(f"{value * 1000:.0f}" for value in item["dimensions"]) + " mm"


def _scale(item: Record) -> str:
    if item["unit"] != "metre":
        return "unknown"
    std = f" &plusmn; {item['scale_std'] * 1000:.1f}" if item["scale_std"] is not None else ""
    return f"{item['scale'] * 1000:.1f}{std} mm per unit, from {escape(_SOURCES[item['scale_source']])}"


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
        return f"{physical['volume'] * 1e6:.0f} cm&sup3;"
    return f"{physical['volume']:.3f} (no unit)"


def _plain(value: float | None, form: str, factor: float = 1.0) -> str:
    return "-" if value is None else form.format(value * factor)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(word)}</th>" for word in heads)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _pairs(rows: Sequence[tuple[str, str]]) -> str:
    body = "\n".join(f"<tr><th>{escape(name)}</th><td>{cell}</td></tr>" for name, cell in rows)
    return f"<table><tbody>{body}</tbody></table>"
