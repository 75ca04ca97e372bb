"""Parameters: file and table say what the settings declare, and values come back as the settings they were.

python tests/ros/test_parameters.py        # writes config/recon.yaml and the table of docs/ros.md
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from cupid_core.config import CupidConfig, from_mapping
from cupid_core.config.ros_parameters import from_parameters, parameters, to_ros_yaml, to_table
from cupid_core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
FILE, PAGE = ROOT / "config" / "recon.yaml", ROOT / "docs" / "ros.md"
BEGIN, END = "<!-- parameters: written by tests/ros/test_parameters.py -->\n", "<!-- end of parameters -->\n"


def page_with_table(page: str) -> str:
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{to_table(CupidConfig().ros, prefix='ros.')}\n{END}{tail}"


def test_the_file_and_the_table_are_the_declared_ones() -> None:
    assert FILE.read_text(encoding="utf-8") == to_ros_yaml(CupidConfig()), f"run python {Path(__file__).name}"
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_with_table(page), f"run python {Path(__file__).name}"


def test_the_file_loads_as_ros_reads_it() -> None:
    values = yaml.safe_load(FILE.read_text(encoding="utf-8"))["/**"]["ros__parameters"]
    assert from_mapping(CupidConfig, values) == CupidConfig()


def test_arguments_of_the_launch_file_are_parameters_and_are_documented() -> None:
    """Read from its text: the package `launch` comes with a ROS installation only."""
    tree = ast.parse((ROOT / "launch" / "recon.launch.py").read_text(encoding="utf-8"))
    tables = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    changed = ast.literal_eval(tables["PARAMETERS"])
    assert isinstance(tables["ARGUMENTS"], ast.Dict)
    arguments = [ast.literal_eval(key) for key in tables["ARGUMENTS"].keys if key is not None]
    declared = {item.name: item for item in parameters(CupidConfig())}
    assert all(isinstance(declared[name].value, str) for name in changed.values())
    assert set(changed) <= set(arguments)
    page = PAGE.read_text(encoding="utf-8")
    described = page[page.index("Arguments of the launch file") :].split("\n\n")[0]
    assert all(f"`{name}`" in described for name in arguments)


def test_parameters_have_plain_types_and_bounds_that_hold() -> None:
    declared = {item.name: item for item in parameters(CupidConfig())}
    assert all(type(item.value) in (bool, int, float, str) for item in declared.values())
    assert all(item.low is None or item.value >= item.low for item in declared.values())  # type: ignore[operator]
    assert all(item.high is None or item.value <= item.high for item in declared.values())  # type: ignore[operator]
    grace = declared["ros.worker.grace_s"]
    assert (grace.low, grace.high, grace.value) == (0.0, 600.0, 2.0) and "[s]" in grace.description
    assert from_parameters(CupidConfig, {item.name: item.value for item in declared.values()}) == CupidConfig()


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("ros.worker.grace_s", -1.0, "grace_s"), ("ros.mode", "sometimes", "mode"),
        ("ros.mood", "continuous", "ros.mode"),
        ("ros.input.max_objects", 0, "max_objects"), ("ros.preset", 3, "preset"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(name: str, value: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        from_parameters(CupidConfig, {name: value})


if __name__ == "__main__":
    FILE.write_text(to_ros_yaml(CupidConfig()), encoding="utf-8")
    PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
