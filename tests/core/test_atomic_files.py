"""A file is complete or unchanged, whatever happens while it is written, and no temporary is left."""

import pytest

from cupid_core.errors import OutputError
from cupid_core.files import atomic_write, staging_folder, writable_folder, write_bytes, write_text


def test_a_file_appears_when_the_block_ends_and_its_folder_is_made(tmp_path):
    path = tmp_path / "new" / "deep" / "a.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]
    write_text(path, "other")
    assert path.read_text() == "other"


def test_a_full_disk_keeps_the_old_file_and_leaves_no_temporary(tmp_path, monkeypatch):
    path = tmp_path / "object.ply"
    write_bytes(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_bytes(path, b"new and much longer")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("in the middle"), KeyboardInterrupt()])
def test_an_error_inside_the_block_passes_and_leaves_no_temporary(tmp_path, error):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with pytest.raises(type(error)), atomic_write(path) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_the_errors_of_a_writing_library_become_typed(tmp_path):
    with pytest.raises(OutputError, match="library"), atomic_write(tmp_path / "a", also=(RuntimeError,)):
        raise RuntimeError("library\nwith a second line")
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a"):
        raise RuntimeError("not named")


def test_folders_that_cannot_be_written_to_are_refused(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"")
    for folder in (file, file / "below"):
        with pytest.raises(OutputError):
            writable_folder(folder)
        with pytest.raises(OutputError):
            write_bytes(folder / "a.txt", b"")
        with pytest.raises(OutputError), staging_folder(folder):
            pass
    assert list(writable_folder(tmp_path / "new" / "deep").iterdir()) == []


def test_a_staging_folder_is_on_the_same_disk_and_vanishes(tmp_path):
    with staging_folder(tmp_path / "not" / "yet") as staging:
        (staging / "a").write_text("x")
        assert staging.parent == tmp_path and staging.stat().st_dev == tmp_path.stat().st_dev
    assert list(tmp_path.iterdir()) == []
