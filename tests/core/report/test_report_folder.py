"""Results appear whole or not at all, whatever happens in between, and nothing of others is touched."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cupid_core.config import CupidConfig, ReportConfig
from cupid_core.errors import OutputError
from cupid_core.reconstruct.results import Scene
from cupid_core.report.objects_json import RunRecord
from cupid_core.report.save import save_results
from cupid_core.report.write import check_output, output_folder

CONFIG = CupidConfig(report=ReportConfig(crop_px=32, turntable_frames=2, turntable_px=32))


def index(*names: str) -> str:
    return json.dumps({"schema": "cupid.objects", "objects": [{"files": {"ply": name}} for name in names]})


def write(folder: Path, **contents: str) -> None:
    with output_folder(folder) as staging:
        for name, text in contents.items():
            (staging / name.replace("__", ".")).write_text(text)


def everything(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_new_folder_appears_with_its_parents(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b", objects__json=index(), x__ply="x")
    assert everything(tmp_path) == {"a/b/objects.json": index(), "a/b/x.ply": "x"}
    assert (tmp_path / "a" / "b").stat().st_mode & 0o700 == 0o700


def test_a_second_run_replaces_the_first_as_a_whole_and_spares_foreign_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, objects__json=index("x.ply", "y.ply"), x__ply="old", y__ply="old")
    (out / "notes.txt").write_text("mine")
    write(out, objects__json=index("x.ply"), x__ply="new")
    assert everything(out) == {"objects.json": index("x.ply"), "x.ply": "new", "notes.txt": "mine"}
    assert list(tmp_path.iterdir()) == [out]


def test_a_foreign_objects_json_deletes_nothing(tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "precious"
    outside.write_text("keep")
    out.mkdir()
    (out / "objects.json").write_text(index("../precious", str(outside), "inside.ply"))
    (out / "inside.ply").write_text("old")
    write(out, objects__json=index())
    assert outside.read_text() == "keep" and not (out / "inside.ply").exists()
    (out / "objects.json").write_text('{"objects": [{"files": {"ply": "mine.ply"}}]}')
    (out / "mine.ply").write_text("keep")
    write(out, objects__json=index())
    assert (out / "mine.ply").read_text() == "keep"


@pytest.mark.parametrize("existing", [False, True])
def test_an_error_while_writing_changes_nothing(tmp_path: Path, existing: bool) -> None:
    out = tmp_path / "out"
    if existing:
        write(out, objects__json=index("x.ply"), x__ply="old")
    before = everything(tmp_path)

    class Trouble(Exception):
        pass

    with pytest.raises(Trouble), output_folder(out) as staging:
        (staging / "x.ply").write_text("half")
        raise Trouble
    assert everything(tmp_path) == before and out.exists() == existing


@pytest.mark.parametrize("existing", [False, True])
def test_a_killed_process_leaves_no_file_under_a_final_name(tmp_path: Path, existing: bool) -> None:
    out = tmp_path / "out"
    if existing:
        write(out, objects__json=index("x.ply"), x__ply="old")
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom cupid_core.report.write import output_folder\n"
        "with output_folder(Path(sys.argv[1])) as staging:\n"
        "    (staging / 'x.ply').write_text('half')\n    print('writing', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    visible = {name: text for name, text in everything(tmp_path).items() if ".cupid-" not in name}
    assert visible == ({"out/objects.json": index("x.ply"), "out/x.ply": "old"} if existing else {})
    write(out, objects__json=index("x.ply"), x__ply="new")
    assert (out / "x.ply").read_text() == "new"


def test_an_unwritable_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/self/out")):
        with pytest.raises(OutputError, match=r"is a file|cannot be written"):
            check_output(bad)
    for good in (tmp_path / "new", tmp_path / "new" / "deep", tmp_path):
        check_output(good)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError):
            check_output(tmp_path / "out")
    finally:
        tmp_path.chmod(0o700)


def test_all_files_of_a_scene_are_there_and_named(
    scene: Scene, nothing: Scene, run: RunRecord, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    record = save_results(scene, run, out, CONFIG, names={7: "mug"})
    named = [*record["files"].values(), *(name for item in record["objects"] for name in item["files"].values())]
    assert sorted([*named, "objects.json"]) == sorted(path.name for path in out.iterdir())
    assert {"scene.glb", "overlay.png", "report.html", "object_2.ply", "object_2.glb"} < set(named)
    assert (out / "scene.glb").read_bytes()[:4] == b"glTF" and (out / "object_5.ply").read_bytes()[:3] == b"ply"
    assert json.loads((out / "objects.json").read_text()) == record
    save_results(nothing, run, out, CONFIG)
    assert sorted(path.name for path in out.iterdir()) == ["objects.json", "overlay.png", "report.html"]
