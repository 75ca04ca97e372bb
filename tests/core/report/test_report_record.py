"""objects.json says what the reconstruction says, in strict JSON and in the documented form."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch

from cupid_core.geometry.se3 import SE3
from cupid_core.reconstruct.results import Scene
from cupid_core.report.objects_json import RunRecord, scene_record, to_json
from cupid_core.types import ScaleSource

DOCS = Path(__file__).resolve().parents[3] / "docs" / "objects_json.md"


def record_of(scene: Scene, run: RunRecord) -> dict[str, Any]:
    own = {item.id: {"ply": f"object_{item.id}.ply"} for item in scene.objects}
    record = scene_record(scene, run, names={7: "mug"}, object_files=own, files={"report": "report.html"})
    read: dict[str, Any] = json.loads(to_json(record), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert read == record, "the text says something else than the record"
    return read


def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(
        files("cupid_core.report").joinpath("assets", "objects.schema.json").read_text()
    )
    return loaded


def names_in(part: Any) -> Iterator[str]:
    """Names of all properties of a schema; settings, timings and the like are free."""
    if isinstance(part, dict):
        yield from part.get("properties", {})
        for value in part.values():
            yield from names_in(value)
    elif isinstance(part, list):
        for value in part:
            yield from names_in(value)


def test_the_record_is_valid_against_its_schema(scene: Scene, nothing: Scene, run: RunRecord) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    validator = jsonschema.Draft202012Validator(schema())
    for each in (scene, nothing):
        record = record_of(each, run)
        validator.validate(record)
        del record["camera"]["K"]
        assert not validator.is_valid(record)


def test_every_field_is_documented() -> None:
    text = DOCS.read_text(encoding="utf-8")
    missing = {name for name in names_in(schema()) if not re.search(rf"`{name}`", text)}
    assert not missing - {"schema", "schema_version"}


def test_the_pose_is_row_by_row_and_maps_object_points_into_the_camera(scene: Scene, run: RunRecord) -> None:
    record = record_of(scene, run)
    point = torch.tensor([0.03, -0.02, 0.05], dtype=torch.float64)
    for item, written in zip(scene.objects, record["objects"], strict=True):
        rows = written["T_camera_object"]
        expected = item.pose.apply(point)
        for row, value in zip(rows[:3], expected.tolist(), strict=True):
            mapped = sum(a * b for a, b in zip(row[:3], point.tolist(), strict=True)) + row[3]
            assert mapped == pytest.approx(value, abs=1e-9)
        assert rows[3] == [0, 0, 0, 1]
        assert written["dimensions"] == pytest.approx(
            (item.mesh.vertices.amax(0) - item.mesh.vertices.amin(0)).tolist()
        )
        x, y, z = written["dimensions"]
        assert written["physical"]["volume"] == pytest.approx(x * y * z, rel=1e-5)


def test_what_is_absent_is_null_and_an_unknown_scale_says_so(scene: Scene, run: RunRecord) -> None:
    first = scene.objects[0]
    open_mesh = replace(first.mesh, faces=first.mesh.faces[:-1])
    item = replace(
        first,
        model=replace(
            first.model,
            mesh=open_mesh,
            watertight=False,
            scale=1.0,
            scale_source=ScaleSource.UNKNOWN,
            scale_std=float("nan"),
        ),
        quality=replace(first.quality, depth_residual_m=None, color_psnr_db=float("inf")),
    )
    written = record_of(replace(scene, objects=(item,)), run)["objects"][0]
    assert written["unit"] == "canonical" and written["scale_source"] == "unknown"
    assert written["scale_std"] is None and written["physical"] is None
    assert written["quality"]["depth_residual_m"] is None and written["quality"]["color_psnr_db"] is None


def test_failures_carry_code_and_hint(nothing: Scene, run: RunRecord) -> None:
    record = record_of(nothing, run)
    (failure,) = record["failures"]
    assert failure["id"] == 7 and failure["label"] == "mug" and failure["code"] == "structure_empty"
    assert failure["problem"] and failure["hint"] and record["objects"] == []


def test_a_pose_in_single_precision_is_written_alike(scene: Scene, run: RunRecord) -> None:
    item = scene.objects[0]
    T = item.pose
    rounded = SE3(T.quat_xyzw.float(), T.translation.float())
    single = replace(item, state=replace(item.state, T_camera_object=rounded))
    rows = record_of(replace(scene, objects=(single,)), run)["objects"][0]["T_camera_object"]
    torch.testing.assert_close(torch.tensor(rows, dtype=torch.float64), T.matrix(), atol=1e-6, rtol=0)
