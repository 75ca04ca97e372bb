"""Rules for the source, read from the syntax tree: who may import whom, names, sizes, the top-level folders."""

import ast
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from cupid_core import config
from cupid_core.training.settings import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "cupid_core"
MODULES = sorted(path for package in (CORE, ROOT / "cupid_ros") for path in package.rglob("*.py"))
ALL_PYTHON = sorted(
    path
    for folder in ("cupid_core", "cupid_ros", "launch", "tests", "benchmarks", "examples", "docs")
    for path in (ROOT / folder).rglob("*.py")
)

# What every room may import, and what these modules may import of cupid_core themselves.
FOUNDATION: dict[str, set[str]] = {
    "errors": set(),
    "files": {"errors"},
    "packages": {"errors"},
    "hub": {"errors"},
    "color_space": set(),
    "structured_text": set(),
    "types": {"errors", "geometry"},
    "config": {"errors", "files", "structured_text"},
}
# Room -> the rooms of cupid_core it may import beside itself and the foundation. A room that is not listed here
# fails the test: whoever adds one decides its place. None: anything but what NOBODY_IMPORTS forbids.
ROOMS: dict[str, set[str] | None] = {
    "geometry": set(),
    "sampling": set(),
    "image": {"geometry"},
    "pose": {"geometry"},
    "mesh": {"geometry"},
    "render": {"geometry", "mesh"},
    "models": {"geometry"},
    "perception": {"geometry", "image"},
    "runtime": {"models"},
    "samples": set(),
    "scene": {"geometry", "image", "mesh", "pose", "render"},
    "data": {"geometry", "image", "mesh", "models", "render", "runtime"},
    "evaluation": {"data", "geometry", "image", "mesh", "models", "pose", "render", "scene", "reconstruct"},
    "training": {
        "data",
        "evaluation",
        "geometry",
        "image",
        "mesh",
        "models",
        "pose",
        "render",
        "runtime",
        "sampling",
    },
    "reconstruct": {
        "geometry",
        "image",
        "mesh",
        "models",
        "pose",
        "render",
        "runtime",
        "sampling",
        "scene",
    },
    "report": {"geometry", "image", "mesh", "models", "reconstruct", "render", "scene"},
    "serving": {"geometry", "image", "perception", "reconstruct", "report", "scene"},
    "cli": None,
}
# A method of a value may call a room above its own, which it imports only then: mesh.export(), scene.save().
METHODS_THAT_CALL_UP = {"types.py": {"mesh"}, "reconstruct/results.py": {"report"}}
# Room -> the third-party packages it is limited to (the standard library is free).
THIRD_PARTY = {
    "errors": set[str](),
    "files": set[str](),
    "types": {"torch", "trimesh"},
    "config": {"pydantic", "yaml"},
    "geometry": {"torch", "numpy", "cv2"},
    "sampling": {"torch"},
    "models": {"torch", "safetensors", "pydantic"},
    "pose": {"torch", "numpy", "cv2", "warp"},
    "mesh": {"torch", "numpy", "trimesh", "open3d", "fast_simplification", "xatlas", "coacd", "PIL"},
    "render": {"torch", "numpy", "cv2"},
    "scene": {"torch", "numpy"},
}
# Third-party packages that only some files may import.
ONLY_IN = {
    "cv2": {
        "geometry/distortion.py",
        "pose",
        "image",
        "perception",
        "data",
        "render",
        "report",
        "cli",
        "evaluation",
    },
    "safetensors": {"models/weights.py", "data", "training"},
    "huggingface_hub": {"hub.py", "runtime/environment.py"},
    "pydantic": {"config", "models/weights.py", "training/run_settings.py"},
    "rclpy": set(),
}
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}
FORBIDDEN_PACKAGES = {
    "nvdiffrast", "kaolin", "pytorch3d", "spconv", "flash_attn", "xformers", "diff_gaussian_rasterization",
    "pickle",
}  # fmt: skip
NOBODY_IMPORTS = {"cli"}
# They make the checkpoint and need the extra `train`: no code that reconstructs may import them.
TRAINING_ROOMS = {"data", "training", "evaluation"}
STANDARD_LIBRARY = sys.stdlib_module_names
LONGEST_FILE, LONGEST_FUNCTION = 500, 60


@cache
def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def names_of(node: ast.AST) -> set[str]:
    """Absolute dotted names that one node imports; none if it is no import."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return {f"{node.module}.{alias.name}" for alias in node.names}
    return set()


def imports(path: Path) -> set[str]:
    """Absolute dotted names a file imports, wherever in the file."""
    return {name for node in ast.walk(syntax(path)) for name in names_of(node)}


def imports_when_loaded(path: Path) -> set[str]:
    """Absolute dotted names a file imports outside its functions."""
    found: set[str] = set()
    waiting: list[ast.AST] = [syntax(path)]
    while waiting:
        node = waiting.pop()
        found |= names_of(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))
    return found


def room_of(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def in_training_room(name: str) -> bool:
    return name.startswith("cupid_core.") and name.split(".")[1] in TRAINING_ROOMS


def report(violations: Iterable[str]) -> None:
    """Fail with every violation, not only the first."""
    found = sorted(violations)
    assert not found, f"{len(found)} violations:\n" + "\n".join(found)


def test_rooms_import_only_what_they_may() -> None:
    report(violation for path in MODULES if path.is_relative_to(CORE) for violation in room_violations(path))


def room_violations(path: Path) -> Iterator[str]:
    room, inside = room_of(path), path.relative_to(CORE).as_posix()
    if room in {"__init__", "__main__"}:
        return
    if room not in ROOMS and room not in FOUNDATION:
        yield f"{inside}: '{room}' has no place yet; add it to ROOMS"
        return
    allowed = FOUNDATION[room] if room in FOUNDATION else ROOMS[room]
    loaded, above = imports_when_loaded(path), METHODS_THAT_CALL_UP.get(inside, set())
    for name in imports(path):
        package, *rest = name.split(".")
        if package == "cupid_core" and rest[0] in above and name not in loaded:
            continue
        if package == "cupid_ros":
            yield f"{inside} imports {name}: cupid_core does not know cupid_ros"
        elif package == "cupid_core":
            other = rest[0]
            if other in {room, "__version__"} or (other in FOUNDATION and room not in FOUNDATION):
                continue
            if other in NOBODY_IMPORTS or (allowed is not None and other not in allowed):
                yield f"{inside} imports {name}: {room} may not import {other}"
        elif not (may_import(package, inside) or package in THIRD_PARTY.get(room, {package}) | STANDARD_LIBRARY):
            yield f"{inside} imports {name}: {room} may not import {package}"


def test_no_inference_path_imports_the_training_rooms() -> None:
    """A command may: in a function, or as a whole where other modules import it only in a function."""
    loaded = {path: imports_when_loaded(path) for path in MODULES}
    commands = {
        path
        for path in MODULES
        if path.parent == CORE / "cli" and path.name != "__init__.py" and any(map(in_training_room, loaded[path]))
    }
    modules = {module_name(path) for path in commands}
    violations = set()
    for path in set(MODULES) - commands:
        if path.is_relative_to(CORE) and room_of(path) in TRAINING_ROOMS:
            continue
        seen = loaded[path] if path.is_relative_to(CORE / "cli") else imports(path)
        wrong = {name for name in seen if in_training_room(name)}
        wrong |= {name for name in loaded[path] if name in modules or name.rpartition(".")[0] in modules}
        violations |= {(label(path), name) for name in wrong}
    report(f"{path} imports {name}" for path, name in violations)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_guarded_packages_stay_in_their_files() -> None:
    violations = []
    for path in MODULES:
        for name in imports(path) - {"pickle.UnpicklingError"}:  # caught for a foreign file; unpickles nothing
            package = name.split(".")[0]
            misplaced = path.is_relative_to(CORE) and not may_import(package, path.relative_to(CORE).as_posix())
            if package in FORBIDDEN_PACKAGES or (package in ONLY_IN and misplaced):
                violations.append(f"{label(path)} imports {name}")
    report(violations)


def may_import(package: str, inside: str) -> bool:
    return any(inside == place or inside.startswith(f"{place}/") for place in ONLY_IN.get(package, set()))


def test_names_and_sizes() -> None:
    report(violation for path in ALL_PYTHON for violation in size_violations(path))


def size_violations(path: Path) -> Iterator[str]:
    if FORBIDDEN_NAMES & {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}:
        yield f"{label(path)}: name the file after what it does"
    lines = len(path.read_text(encoding="utf-8").splitlines())
    if lines > LONGEST_FILE:
        yield f"{label(path)} has {lines} lines"
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.ImportFrom):
            if any(alias.name == "*" for alias in node.names):
                yield f"{label(path)}:{node.lineno} imports *"
            if node.level and path in MODULES:
                yield f"{label(path)}:{node.lineno} is a relative import; write the full name"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            length = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring.count("\n")
            if length > LONGEST_FUNCTION:
                yield f"{label(path)}:{node.lineno} {node.name} has {length} lines"


def test_modules_have_docstrings_do_not_print_and_choose_no_device() -> None:
    violations = [f"{label(path)} has no docstring" for path in MODULES if not ast.get_docstring(syntax(path))]
    for path in MODULES:
        if path.is_relative_to(CORE / "cli"):
            continue
        for node in ast.walk(syntax(path)):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called in {"print", "rich.print", "sys.stdout.write", "sys.stderr.write"}:
                violations.append(f"{label(path)}:{node.lineno} prints; only cli/ prints")
            if called.endswith(".cuda") and not node.args:
                violations.append(f"{label(path)}:{node.lineno} calls .cuda(); the caller passes the device")
    report(violations)


def test_every_shipped_configuration_loads() -> None:
    # recon.yaml is in the form of ROS parameters and has a test of its own (tests/ros/test_parameters.py).
    shipped = [path for path in (ROOT / "config").rglob("*.yaml") if path.name != "recon.yaml"]
    assert shipped
    for path in shipped:
        of_training = path.is_relative_to(ROOT / "config" / "train")
        config.load(TrainConfig if of_training else config.CupidConfig, path)


def test_shipped_defaults_are_the_declared_ones() -> None:
    written = (ROOT / "config" / "default.yaml").read_text(encoding="utf-8")
    assert written == config.to_yaml(config.CupidConfig()), "run `cupid config write config/default.yaml`"


def test_top_level_holds_only_what_belongs_there() -> None:
    allowed = {
        "cupid_core", "cupid_ros", "launch", "msg", "srv", "action", "config", "docs", "examples", "benchmarks",
        "tests", "package.xml", "CMakeLists.txt", "setup.py", "pyproject.toml", "Makefile", "README.md", "LICENSE",
    }  # fmt: skip
    ignored = {line.strip().rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    present = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert {name for name in present - allowed if name not in ignored and not name.endswith(".egg-info")} == set()
    for folder in allowed & present:
        if (ROOT / folder).is_dir():
            assert any((ROOT / folder).rglob("*.*")), f"{folder}/ is an empty shell"
