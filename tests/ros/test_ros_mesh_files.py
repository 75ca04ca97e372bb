"""Meshes as files: they hold the mesh, stay in their folder, are bounded, and go with their object."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
import pytest
import trimesh
from serving_stubs import box_record

from cupid_core.errors import OutputError
from cupid_ros.mesh_files import MeshFiles


def path_of(uri: str) -> Path:
    assert uri.startswith("file:///")
    return Path(url2pathname(urlparse(uri).path))


@pytest.mark.parametrize("suffix", ["obj", "ply", "stl"])
def test_the_file_holds_the_mesh_in_metres(tmp_path: Path, suffix: str) -> None:
    item = box_record(3)
    files = MeshFiles(tmp_path / "with space", suffix, 10)
    path = path_of(files.write(item))
    found = trimesh.load_mesh(path)
    np.testing.assert_allclose(found.bounds, [item.vertices.min(axis=0), item.vertices.max(axis=0)], atol=1e-6)
    assert found.is_watertight and path.suffix == f".{suffix}"


def test_names_stay_in_the_folder_and_differ_where_ids_do(tmp_path: Path) -> None:
    files = MeshFiles(tmp_path / "meshes", "stl", 10)
    ids = ["../../etc/passwd", "a/b", "a_b", "", ".", "ä" * 300]
    paths = [path_of(files.write(replace(box_record(1), id=id_))) for id_ in ids]
    assert len(set(paths)) == len(ids) and {path.parent for path in paths} == {tmp_path / "meshes"}


def test_only_so_many_files_are_kept_and_none_when_all_is_forgotten(tmp_path: Path) -> None:
    files = MeshFiles(tmp_path, "stl", 3)
    (tmp_path / "mine.txt").write_text("not of this node")
    for number in range(5):
        files.write(box_record(number))
    assert len(list(tmp_path.glob("*.stl"))) == 3
    assert files.uri("box_0") == "" and path_of(files.uri("box_4")).is_file()
    files.clear()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"] and files.uri("box_4") == ""


def test_a_file_is_written_again_only_when_the_mesh_changes(tmp_path: Path) -> None:
    files = MeshFiles(tmp_path, "stl", 3)
    item = box_record(1)
    path = path_of(files.write(item))
    first = path.stat().st_ino
    files.write(replace(item, translation=item.translation + 1.0))
    assert path.stat().st_ino == first
    assert path_of(files.write(replace(item, vertices=item.vertices * 2.0))) == path
    assert path.stat().st_ino != first


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        MeshFiles(tmp_path / "file", "stl", 3).write(box_record(1))
