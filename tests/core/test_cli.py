"""The `cupid` command as a user meets it: a real process for the entry point, in-process for the rest."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml

import cupid_core
from cupid_core import config
from cupid_core.cli import COMMANDS, main
from cupid_core.cli.arguments import preset_with
from cupid_core.config import PRESETS, Preset, PresetName
from cupid_core.errors import InputError
from cupid_core.runtime.environment import Finding, graphics_libraries, inspect_environment, readiness


def cupid(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cupid_core", *words]
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, env={**os.environ, **environment}
    )


def test_help_lists_all_commands_without_importing_any() -> None:
    done = cupid("--help")
    assert done.returncode == 0
    assert all(name in done.stdout and text in done.stdout for name, (_, text) in COMMANDS.items())
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    program = """
import sys
from cupid_core.cli import main
main(["--help"])
heavy = {"torch", "tyro", "rich", "pydantic", "numpy", "cupid_core.config", "cupid_ros"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    imported = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert imported.returncode == 0, imported.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_console_that_is_not_utf8_ends_no_command(encoding: str) -> None:
    environment = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for words, code in (
        (["config", "describe"], 0),
        (["reconstruct", "碗.png", "--out", "无"], 2),
        (["--help"], 0),
    ):
        done = cupid(*words, **environment)
        assert done.returncode == code and "Traceback" not in done.stderr
    assert "not found: ?.png" in cupid("reconstruct", "碗.png", "--out", "无", **environment).stderr


def test_a_reader_that_has_read_enough_is_no_error() -> None:
    for words in ("config describe", "--help", "reconstruct --help"):
        command = f"{sys.executable} -m cupid_core {words} | head -n 1"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        assert done.stdout.count("\n") == 1 and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_describes_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    printed = capsys.readouterr().out
    assert ended.value.code == 0 and f"usage: cupid {name}" in printed and "help" in printed
    if "--config" in printed:
        assert "--set NAME=VALUE" in printed or name in ("config check", "data prepare")


def test_groups_and_unknown_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoint", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "checkpoint verify" in printed and "reconstruct" not in printed
    for words, expected in (
        (["reconstrct"], "'reconstruct'"),
        (["checkpoint", "verfy"], "'checkpoint verify'"),
        (["qqqq"], "--help"),
    ):
        assert main(words) == 2
        assert expected in capsys.readouterr().err
    assert main([]) == 2


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.split() == ["cupid", cupid_core.__version__]
    assert cupid_core.__version__[0].isdigit()


@pytest.mark.parametrize("words", [["--help"], ["reconstruct", "--help"], ["doctor"], ["reconstruct", "ü.png"]])
def test_a_console_that_is_not_utf8_gets_replacement_characters(words: list[str]) -> None:
    options = ["--mask", "ü.png", "--out", "Größe"] if words[-1] == "ü.png" else []
    done = cupid(*words, *options, PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert "Traceback" not in done.stderr
    if options:
        assert done.returncode == 2 and "File not found: ?.png" in done.stderr
    else:
        assert done.returncode == 0 and done.stdout


def test_doctor_names_every_part_and_ends_with_one_line_that_says_whether_it_is_ready() -> None:
    done = cupid("doctor")
    assert done.returncode == 0, done.stderr
    for part in ("Python", "torch", "CUDA", "OpenGL", "ONNX", "TensorRT", "ROS 2", "SAM 2", "MoGe", "checkpoint"):
        assert part in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Ready: ") and "tabletop" in done.stdout.splitlines()[-1]


def test_every_missing_part_says_what_that_means() -> None:
    for finding in inspect_environment():
        assert finding.meaning
        assert finding.found or finding.level != "ok"


def test_a_graphics_library_that_cannot_be_loaded_makes_the_machine_not_ready() -> None:
    finding = graphics_libraries(["libc.so.6", "libthere_is_no_such.so.9"])
    assert finding.level == "problem"
    assert "libthere_is_no_such.so.9" in finding.meaning and "libc.so.6" not in finding.meaning
    ready, sentence = readiness([Finding("torch", "ok", "2", "works"), finding])
    assert not ready and sentence.startswith("Not ready: OpenGL") and "apt install libgl1" in sentence


def test_presets_are_those_of_the_settings_and_single_options_go_before_them() -> None:
    assert set(PRESETS) == set(get_args(PresetName))
    for name, preset in PRESETS.items():
        assert preset_with(name, samples=0, refine=None) == preset
    assert preset_with("fast", samples=3, refine="pose") == Preset(3, "pose")
    assert preset_with("best", samples=0, refine="none") == Preset(4, "none")
    with pytest.raises(InputError):
        preset_with("fast", samples=-1, refine=None)


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


def test_config_describe_is_readable_at_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["config", "describe", "--set", "refine.iterations=5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "refine.iterations = 5  [count; >= 1, <= 100]" in lines
    meanings = [line.strip() for line in lines if line.startswith("    ")]
    assert max(len(line) for line in lines if line.startswith("    ")) <= 80
    for name, _, _, _, meaning in config.describe(config.CupidConfig()):
        assert any(line.startswith(f"{name} = ") for line in lines)
        assert meaning in " ".join(meanings)


def test_bad_command_lines_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["config", "check"])
    assert ended.value.code == 2
    assert main(["config", "write", str(tmp_path / "a.yaml"), "--set", "scene.refine.iterations=5"]) == 2
    assert "Did you mean 'refine.iterations'?" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["config", "write", str(tmp_path / "file" / "a.yaml")]) == 2
    assert "cannot be written" in capsys.readouterr().err.replace("\n", " ")


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
    assert main(["beside"]) == 7
    entry_points = tmp_path / "second" / "beside-1.0.dist-info" / "entry_points.txt"
    entry_points.write_text("[cupid.commands]\ngone = no:run\ndoctor = beside_command:run\n")
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.count("doctor") == 1  # a package cannot replace a command
    assert main(["gone"]) == 2
    assert "`cupid gone` cannot be loaded" in capsys.readouterr().err
