"""The page is complete in itself, says what the record says, and its viewer gets the meshes unchanged."""

import base64
import json
import re
import shutil
import subprocess
from html import unescape
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
import torch

from cupid_core.config import ReportConfig
from cupid_core.reconstruct.results import Scene
from cupid_core.report.html import report_html
from cupid_core.report.objects_json import RunRecord, scene_record
from cupid_core.report.overlay import draw_overlay
from cupid_core.report.pictures import view_scene

SMALL = ReportConfig(crop_px=48, turntable_frames=3, turntable_px=32)
SCRIPTS = ("geometry.js", "viewer.js", "page.js")


def page_of(scene: Scene, run: RunRecord) -> str:
    own = {item.id: {"ply": f"object_{item.id}.ply"} for item in scene.objects}
    record = scene_record(scene, run, names={7: "mug"}, object_files=own, files={})
    views = view_scene(scene, 640)
    return report_html(scene, views, draw_overlay(views, scene.objects), record, SMALL)


@pytest.fixture(scope="module")
def page(scene: Scene, run: RunRecord) -> str:
    return page_of(scene, run)


def viewer_data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="scene-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    read: dict[str, Any] = json.loads(found[1])
    return read


def test_nothing_is_fetched_from_anywhere(page: str, nothing: Scene, run: RunRecord) -> None:
    for text in (page, page_of(nothing, run)):
        without_data = re.sub(r"[A-Za-z0-9+/=]{60,}", "", text)
        assert not re.search(r"https?:|//[a-z]|@import|<link|<iframe|fetch\(|XMLHttp|import\(", without_data)
        sources = re.findall(r"(?:src|href)\s*=\s*[\"']([^\"']*)", text) + re.findall(r"url\(([^)]*)\)", text)
        assert sources and all(source.startswith("data:image/") for source in sources)


def test_labels_cannot_break_the_page(page: str) -> None:
    assert "<b>blue</b>" not in page and "&lt;b&gt;blue&lt;/b&gt; &amp; co" in page
    assert viewer_data(page)["objects"][1]["label"] == "<b>blue</b> & co"
    assert page.count("<script") == page.count("</script>") == 2


def test_the_viewer_gets_the_meshes_and_poses_unchanged(page: str, scene: Scene) -> None:
    data = viewer_data(page)
    for item, shown in zip(scene.objects, data["objects"], strict=True):
        vertices = np.frombuffer(base64.b64decode(shown["vertices"]), "<f4").reshape(-1, 3)
        faces = np.frombuffer(base64.b64decode(shown["faces"]), "<u4").reshape(-1, 3)
        colors = np.frombuffer(base64.b64decode(shown["colors"]), "u1").reshape(-1, 3)
        assert np.array_equal(vertices, item.mesh.vertices.numpy())
        assert np.array_equal(faces, item.mesh.faces.numpy())
        assert item.mesh.colors is not None
        assert np.abs(colors / 255 - item.mesh.colors.numpy()).max() <= 0.5 / 255 + 1e-6
        pose = torch.tensor(shown["T_camera_object"], dtype=torch.float64)
        torch.testing.assert_close(pose, item.pose.matrix())
    assert data["camera"]["fx"] == float(scene.camera.K[0, 0])


def test_numbers_and_failures_are_on_the_page(page: str) -> None:
    text = unescape(re.sub(r"<[^>]+>", " ", page.split("<script")[0]))
    for expected in ("0.930", "21.5 dB", "4.0 mm", "200 x 100 x 150 mm", "structure_empty", "7 mug", "No voxel."):
        assert expected in text, expected


def test_without_objects_there_is_a_page_without_a_viewer(nothing: Scene, run: RunRecord) -> None:
    page = page_of(nothing, run)
    assert "structure_empty" in page and "<canvas" not in page and "<script" not in page


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to run the viewer's mathematics in")
def test_the_viewers_mathematics() -> None:
    """Objects arrive in the viewer's world turned by half a turn about x; a view keeps what it looks at."""
    folder = files("cupid_core.report").joinpath("assets")
    code = "\n".join(folder.joinpath(name).read_text() for name in SCRIPTS[:1])
    code += """
    const rows = [[1,0,0,0.1],[0,-0.6,-0.8,0.2],[0,0.8,-0.6,0.9],[0,0,0,1]];
    const apply = (m, p) => [0,1,2].map((r) => m[r]*p[0] + m[4+r]*p[1] + m[8+r]*p[2] + m[12+r]);
    const view = lookAt([3, 1, 2], [1, 1, 1], [0, 1, 0]);
    const rod = beams([{from: [0,0,0], to: [1,0,0], color: [1,2,3]}], 0.1);
    const square = vertexNormals(new Float32Array([0,0,0, 1,0,0, 0,1,0]), new Uint32Array([0,1,2]));
    console.log(JSON.stringify([apply(worldFromRows(rows), [0.5, 0.25, 2]), apply(view, [1, 1, 1]),
      apply(view, [3, 1, 2]), Array.from(rod.vertices), rod.faces.length, Array.from(square.slice(0, 3))]));
    """
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    world, target, eye, rod, faces, normal = json.loads(done.stdout)
    camera = np.array([[1, 0, 0], [0, -0.6, -0.8], [0, 0.8, -0.6]]) @ [0.5, 0.25, 2] + [0.1, 0.2, 0.9]
    assert world == pytest.approx((camera * [1, -1, -1]).tolist())
    assert target == pytest.approx([0, 0, -(5**0.5)]) and eye == pytest.approx([0, 0, 0], abs=1e-9)
    ends = np.array(rod).reshape(-1, 3)
    assert np.abs(ends[:4, 0]).max() == 0 and np.abs(ends[4:, 0] - 1).max() == 0 and faces == 24
    assert normal == [0, 0, 1]


@pytest.mark.skipif(shutil.which("node") is None, reason="no node to check scripts with")
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_well_formed(name: str) -> None:
    text = files("cupid_core.report").joinpath("assets", name).read_text()
    assert len(text.splitlines()) <= 300
    done = subprocess.run(["node", "--check", "-"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
