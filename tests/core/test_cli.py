"""The `cupid` command as a user meets it: a real process for the entry point, in-process for the rest."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cupid_core import config
from cupid_core.cli import main
from cupid_core.cli.other_packages import other_commands
from cupid_core.runtime.environment import inspect_environment


def test_doctor_names_every_part() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cupid_core", "doctor"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for part in ("Python", "torch", "CUDA", "ONNX", "TensorRT", "ROS 2", "SAM 2", "MoGe", "checkpoint"):
        assert part in done.stdout


def test_every_missing_part_says_what_that_means() -> None:
    for finding in inspect_environment():
        assert finding.meaning
        assert finding.found or finding.level != "ok"


def test_config_write_then_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    assert main(["config", "write", str(path)]) == 0
    assert main(["config", "check", str(path)]) == 0
    assert config.load(config.CupidConfig, path) == config.CupidConfig()
    values = yaml.safe_load(path.read_text())
    section = next(iter(values))
    values[section]["no_such_setting"] = 1
    path.write_text(yaml.safe_dump(values))
    capsys.readouterr()
    assert main(["config", "check", str(path)]) == 2
    assert "invalid_config" in capsys.readouterr().err


def test_config_describe_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "describe"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name, *_ in config.describe(config.CupidConfig()))


def test_bad_command_lines_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check"]) == 2
    assert main(["config", "write", str(tmp_path / "no" / "folder.yaml")]) == 2
    assert "writable" in capsys.readouterr().err


def test_commands_are_found_behind_metadata_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "beside_command.py").write_text("def run() -> int:\n    return 7\n")
    for folder, announced in (("first", ""), ("second", "[cupid.commands]\nbeside = beside_command:run\n")):
        metadata = tmp_path / folder / "beside-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: beside\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(announced)
    for folder in ("second", "first", "."):
        monkeypatch.syspath_prepend(tmp_path / folder)
    assert other_commands(["beside"], own=())["beside"]() == 7
    assert "beside" not in other_commands(["beside"], own=["beside"])
    (tmp_path / "second" / "beside-1.0.dist-info" / "entry_points.txt").write_text(
        "[cupid.commands]\ngone = no:run\n"
    )
    assert "gone" not in other_commands([], own=())
    assert "`cupid gone` cannot be loaded" in capsys.readouterr().err
