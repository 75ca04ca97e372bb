"""The constraints for the Python of a ROS installation leave cv_bridge working and this package satisfied."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def requirements(text: str) -> dict[str, Requirement]:
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    found = [Requirement(line) for line in lines if line]
    return {item.name: item for item in found}


@pytest.mark.parametrize(
    ("name", "works", "breaks"),
    [
        ("numpy", ["1.26.4"], ["2.0.0", "2.3.1"]),
        ("opencv-python", ["4.6.0.66", "4.11.0.86"], ["4.12.0.88", "5.0.0"]),
    ],
)
def test_versions_that_break_cv_bridge_are_excluded(name: str, works: list[str], breaks: list[str]) -> None:
    constraint = requirements((ROOT / "config" / "ros_python.txt").read_text(encoding="utf-8"))[name]
    stated = re.search(rf'"({name}[<>=][^"]*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert stated is not None
    for version in works:
        assert version in constraint.specifier and version in Requirement(stated[1]).specifier
    assert not any(version in constraint.specifier for version in breaks)
