"""The script for machines with a GPU, run on the CPU with tiny networks: every section makes its rows."""

import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_check

    yield gpu_check
    sys.modules.pop("gpu_check", None)


def test_stages_pose_and_full_size_make_rows(script, tiny_checkpoint, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = script.Options(str(tiny_checkpoint), torch.device("cpu"), small=True)
    chosen = {name: script.SECTIONS[name] for name in ("stages", "pose", "full-size")}
    rows = script.run_sections(chosen, options, Console(quiet=True))
    assert [row for row in rows if row.what == "failed"] == []
    names = {row.what for row in rows if row.section == "stages"}
    assert {"mesh_trunk, float32", "mesh_trunk, bfloat16", "TensorRT"} <= names
    assert all(row.milliseconds > 0 for row in rows if row.what != "TensorRT")
    assert all("NOT" not in row.remark for row in rows)
    exact = [row for row in rows if row.what.endswith("float32") and row.section == "stages"]
    assert all(row.remark.startswith("differs by 0.0e+00") for row in exact)


def test_a_section_that_fails_says_why_and_the_others_go_on(script) -> None:
    def failing(options):
        raise RuntimeError("out of memory\nmore")
        yield

    def fine(options):
        yield script.Row("fine", "done", 1.0)

    rows = script.run_sections({"bad": failing, "good": fine}, None, Console(quiet=True))
    assert [row.what for row in rows] == ["failed", "done"]
    assert rows[0].remark == "RuntimeError: out of memory"
