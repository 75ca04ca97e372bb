"""Message packages that we generate for the ROS wheels: order, sources, and wire formats equal to upstream's."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from cupid_ros.definitions import BASE_DEFINITIONS, FOREIGN_DEFINITIONS
from cupid_ros.errors import RosBuildError
from cupid_ros.messages import BagMessageTypes
from cupid_ros.ros_wheels import Environment, build, packages_in_order, write_package

ROOT = Path(__file__).resolve().parents[2]
# Of the .msg files of vision_msgs 4.1.1, moveit_msgs 2.6, object_recognition_msgs 2.0 and geometry2 0.36: nodes
# talk to each other only where these are equal. The messages inside of a message are part of its hash.
UPSTREAM = {
    "moveit_msgs/msg/CollisionObject": "74b0acd6d56be032bf4f764b2c2633f50588b5fb2bd71e97206c59052747cf7e",
    "object_recognition_msgs/msg/ObjectType": "5eb3ee3976403366d7c50d7dbee8bec96b3bced1e752674a7194a35841632134",
    "tf2_msgs/msg/TFMessage": "e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087",
    "vision_msgs/msg/Detection2DArray": "214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "vision_msgs/msg/Detection3DArray": "793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
}


@pytest.mark.parametrize(("name", "expected"), UPSTREAM.items())
def test_our_definitions_have_the_type_hashes_of_upstream(
    types: BagMessageTypes, name: str, expected: str
) -> None:
    assert types.store.hash_rihs01(name) == f"RIHS01_{expected}"


@pytest.mark.parametrize(("name", "expected"), UPSTREAM.items())
def test_the_built_packages_have_the_type_hashes_of_upstream(ros: None, name: str, expected: str) -> None:
    index = importlib.import_module("ament_index_python.packages")
    package = name.split("/")[0]
    file = Path(index.get_package_share_directory(package)) / f"{name.split('/', 1)[1]}.json"
    hashes = {item["type_name"]: item["hash_string"] for item in json.loads(file.read_text())["type_hashes"]}
    assert hashes[name] == f"RIHS01_{expected}"


def test_packages_come_after_those_they_need() -> None:
    order = packages_in_order({**FOREIGN_DEFINITIONS, **BASE_DEFINITIONS})
    assert sorted(order) == ["moveit_msgs", "object_recognition_msgs", "tf2_msgs", "vision_msgs"]
    assert order.index("object_recognition_msgs") < order.index("moveit_msgs")


def test_a_package_is_written_again_only_when_its_definitions_change(tmp_path: Path) -> None:
    definitions = {"a_msgs/msg/A": "geometry_msgs/Point p\n", "b_msgs/msg/B": "a_msgs/A[] all\n"}
    assert write_package(tmp_path / "a", "a_msgs", definitions)
    assert not write_package(tmp_path / "a", "a_msgs", definitions)
    assert write_package(tmp_path / "a", "a_msgs", {**definitions, "a_msgs/msg/A": "float64 x\n"})
    assert not (tmp_path / "a" / "msg" / "B.msg").exists()
    write_package(tmp_path / "b", "b_msgs", definitions)
    assert "<depend>a_msgs</depend>" in (tmp_path / "b" / "package.xml").read_text()


def test_a_build_without_the_wheels_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(RosBuildError, match="rclpy") as caught:
        build(Environment(tmp_path))
    assert "cupid_ros[ros]" in str(caught.value.hint)


def test_the_pinned_wheels_are_those_of_the_extra() -> None:
    tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["ros"]
    wanted = {re.sub(r"\[.*?\]", "", item.split(";")[0].strip()) for item in extra}
    text = (ROOT / ".ci" / "ros.txt").read_text()
    pinned = re.findall(r"^([\w.-]+==[\w.]+) \\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    assert wanted <= set(pinned)
    assert len(pinned) == len(re.findall(r"^[\w.-]+==", text, re.MULTILINE)), "every wheel has a hash"
