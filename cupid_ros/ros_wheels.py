"""Builds what the ROS 2 wheels of PyPI lack: message packages that no registry has, and our own interfaces.

Needs the extra `ros` of this package (rclpy, a DDS implementation and the interface generators as wheels, Linux on
x86_64), cmake and a C++ compiler. Imports nothing of ROS. `cupid ros build` and `make ros` call it.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cupid_ros.definitions import BASE_DEFINITIONS, FOREIGN_DEFINITIONS
from cupid_ros.errors import RosBuildError

_log = logging.getLogger(__name__)
OWN = "cupid_ros"
# Of a source tree of ours: what cmake reads and installs.
_SOURCES = ("CMakeLists.txt", "package.xml", "msg", "srv", "action", "config", "launch")
_TOOLS = ("rclpy", "rosidl_cmake", "ament_package")
_LINES_OF_LOG = 25
# Exported targets of the wheels name the folders of the machine that built them.
_FOREIGN_NUMPY = re.compile(r"/opt/python/[^;\"]*/numpy/_core/include")
_FOREIGN_PYTHON = re.compile(r"/opt/python/[^;\"]*/include/python3[.0-9]*")


@dataclass(frozen=True)
class Environment:
    """A Python environment with the ROS wheels in it.

    Attributes:
        root: of the environment, as `sys.prefix`.
        jobs: compilers that run at a time.
    """

    root: Path
    jobs: int = 2

    @property
    def prefix(self) -> Path:
        """Where the built packages are installed."""
        return self.root / "ros"

    @property
    def work(self) -> Path:
        """Sources, build folders and logs."""
        return self.root / "ros-build"

    @property
    def site_packages(self) -> Path:
        """Where the environment looks for modules."""
        return Path(sysconfig.get_path("purelib", vars={"base": str(self.root)}))

    def variables(self) -> dict[str, str]:
        """Environment variables in which cmake and launch find the packages."""
        places = f"{self.prefix}{os.pathsep}{self.root}"
        path = f"{self.root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**os.environ, "AMENT_PREFIX_PATH": places, "CMAKE_PREFIX_PATH": places, "PATH": path}


def build(environment: Environment | None = None) -> Path:
    """Build and install all packages; what is up to date is not built again.

    Args:
        environment: with the wheels; that of this process where None.

    Returns:
        The prefix of the installed packages.

    Raises:
        RosBuildError: the wheels, cmake or a compiler are missing, or a package does not build.
    """
    environment = environment or Environment(Path(sys.prefix), os.cpu_count() or 1)
    _check_tools(environment)
    _correct_include_folders(environment)
    _extend_module_path(environment)
    definitions = {**FOREIGN_DEFINITIONS, **BASE_DEFINITIONS}
    for name in packages_in_order(definitions):
        source = environment.work / "src" / name
        changed = write_package(source, name, definitions)
        if changed or not (environment.prefix / "share" / name / "package.xml").is_file():
            _build_package(environment, name, source)
    _build_package(environment, OWN, _own_source(environment))
    _link_libraries(environment)
    return environment.prefix


def packages_in_order(definitions: Mapping[str, str]) -> list[str]:
    """Names of the packages of message definitions, each after those it needs."""
    needs = {name.split("/")[0]: needed_packages(name.split("/")[0], definitions) for name in definitions}
    ordered: list[str] = []
    while len(ordered) < len(needs):
        ordered += [name for name in needs if name not in ordered and needs[name] & needs.keys() <= set(ordered)]
    return ordered


def needed_packages(package: str, definitions: Mapping[str, str]) -> set[str]:
    """Other packages whose messages the definitions of a package contain."""
    texts = [text for name, text in definitions.items() if name.startswith(f"{package}/")]
    return {found for text in texts for found in re.findall(r"(\w+)/\w+", text)} - {package}


def write_package(folder: Path, package: str, definitions: Mapping[str, str]) -> bool:
    """Write the source of a message package.

    Args:
        folder: of the package.
        package: name.
        definitions: full name of each message -> text of its .msg file; those of other packages are left out.

    Returns:
        Whether a file changed.
    """
    # A package without any dependency is not accepted by the generators.
    others = sorted(needed_packages(package, definitions)) or ["std_msgs"]
    files = {
        f"{kind}/{message}.msg": f"{textwrap.dedent(text).strip()}\n"
        for name, text in definitions.items()
        for owner, kind, message in [name.split("/")]
        if owner == package
    }
    files["package.xml"] = _PACKAGE.format(
        name=package, depends="\n".join(f"  <depend>{other}</depend>" for other in others)
    )
    files["CMakeLists.txt"] = _CMAKE_LISTS.format(
        name=package,
        find="\n".join(f"find_package({other} REQUIRED)" for other in others),
        messages="\n".join(f'  "{name}"' for name in sorted(files) if name.endswith(".msg")),
        depends=" ".join(others),
    )
    changed = False
    for name, text in files.items():
        path = folder / name
        if not path.is_file() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            changed = True
    return changed


def _check_tools(environment: Environment) -> None:
    missing = [name for name in _TOOLS if not (environment.root / "share" / name).is_dir()]
    if missing:
        raise RosBuildError(
            f"The ROS wheels are not in {environment.root}: {', '.join(missing)} is missing.",
            hint='Run `pip install "cupid_ros[ros]"` (Linux on x86_64, Python 3.10 to 3.14).',
        )


def _correct_include_folders(environment: Environment) -> None:
    # Imported only here: the wheels bring numpy, and a build without it ends above.
    import numpy as np

    numpy_folder, python_folder = np.get_include(), sysconfig.get_path("include")
    for path in (environment.root / "share").rglob("*.cmake"):
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        if "/opt/python/" in text:
            text = _FOREIGN_PYTHON.sub(python_folder, _FOREIGN_NUMPY.sub(numpy_folder, text))
            path.write_text(text, encoding="utf-8", errors="surrogateescape")


def _extend_module_path(environment: Environment) -> None:
    """Let the environment find the generated modules."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    modules = environment.prefix / "lib" / version / "site-packages"
    (environment.site_packages / "ros_interfaces.pth").write_text(f"{modules}\n")


def _own_source(environment: Environment) -> Path:
    """A copy of the source tree of this package: of the checkout, or of what pip has installed.

    The checkout itself will not do: cmake refuses include folders inside of the source tree, and the environment
    may lie there.
    """
    modules = Path(__file__).resolve().parents[1]
    checkout = (modules / "CMakeLists.txt").is_file()
    rest = modules if checkout else Path(sys.prefix) / "share" / OWN
    folder = environment.work / "src" / OWN
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for place, names in ((rest, _SOURCES), (modules, ("cupid_core", OWN))):
        for name in names:
            # Copies keep their times, so that only what has changed is built again.
            if (place / name).is_dir():
                shutil.copytree(place / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(place / name, folder / name)
    return folder


def _build_package(environment: Environment, name: str, source: Path) -> None:
    _log.info("building %s", name)
    build_folder = environment.work / name
    build_folder.mkdir(parents=True, exist_ok=True)
    log = build_folder / "build.log"
    log.write_text("")
    configure = [
        "cmake", "-S", str(source), "-B", str(build_folder), "-DBUILD_TESTING=OFF",
        f"-DCMAKE_INSTALL_PREFIX={environment.prefix}",
        f"-DCMAKE_INSTALL_RPATH={environment.prefix / 'lib'};{environment.root / 'lib'}",
        f"-DPython3_EXECUTABLE={sys.executable}",
        # Type supports are called, not computed with: optimizing them costs time only.
        "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_C_FLAGS=-O0", "-DCMAKE_CXX_FLAGS=-O0",
    ]  # fmt: skip
    _run(configure, environment, log)
    _run(
        ["cmake", "--build", str(build_folder), "--target", "install", "--parallel", str(environment.jobs)],
        environment,
        log,
    )


def _run(command: Sequence[str], environment: Environment, log: Path) -> None:
    try:
        with log.open("a") as output:
            done = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment.variables(), check=False
            )
    except FileNotFoundError as error:
        raise RosBuildError("cmake is not installed.", hint="Install cmake and a C++ compiler.") from error
    if done.returncode:
        lines = log.read_text(errors="replace").splitlines()[-_LINES_OF_LOG:]
        raise RosBuildError(
            f"`{' '.join(command[:3])}` failed:\n" + "\n".join(lines),
            hint=f"The whole log is {log}. cmake, make and a C++ compiler must be installed.",
        )


def _link_libraries(environment: Environment) -> None:
    """ROS opens type supports by bare name, so they must lie where the wheels let the loader search."""
    for library in (environment.prefix / "lib").glob("lib*.so"):
        link = environment.root / "lib" / library.name
        if not link.is_symlink():
            link.symlink_to(library)


_PACKAGE = """<?xml version="1.0"?>
<package format="3">
  <name>{name}</name>
  <version>0.0.0</version>
  <description>Messages that cupid_ros exchanges, with the wire format of the package of this name.</description>
  <maintainer email="maintainers@example.org">cupid_ros maintainers</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
{depends}
  <exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export>
    <build_type>ament_cmake</build_type>
  </export>
</package>
"""
_CMAKE_LISTS = """cmake_minimum_required(VERSION 3.19)
project({name})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
{find}
rosidl_generate_interfaces(${{PROJECT_NAME}}
{messages}
  DEPENDENCIES {depends}
)
ament_export_dependencies(rosidl_default_runtime)
ament_package()
"""


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build()
