"""TensorRT engines: which can be used and why not (without TensorRT), and building them without a GPU."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cupid_core.errors import CheckpointError, ConfigError, MissingPackageError
from cupid_core.models.locate import sha256
from cupid_core.runtime.stage import Range
from cupid_core.runtime.tensorrt_build import (
    AHEAD_OF_TIME,
    EngineKey,
    _with_voxels,
    build_engines,
    engine_path,
    tensorrt_package,
    unusable_because,
    voxel_range,
)

KEY = EngineKey("a" * 64, "tensorrt 10.0", "Orin", "float16", {"rows": ((10, 8), (2000, 8), (8192, 8))})


def written(folder: Path, key: EngineKey) -> Path:
    path = engine_path(folder, "mesh_trunk", key.gpu)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"engine")
    path.with_suffix(".json").write_text(json.dumps(asdict(key) | {"engine_sha256": sha256(path)}))
    return path


def test_an_engine_that_fits_is_used(tmp_path: Path) -> None:
    assert unusable_because(written(tmp_path, KEY), KEY) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tensorrt": "tensorrt 10.3"}, "it was built by tensorrt 10.0, this is tensorrt 10.3"),
        ({"gpu": "Thor"}, "it was built for the GPU 'Orin', this is 'Thor'"),
        ({"graph_sha256": "b" * 64}, "the stage was exported anew"),
        ({"precision": "float32"}, "it is float16, not float32"),
        ({"shapes": {"rows": ((1, 8), (2, 8), (3, 8))}}, "it was built for other numbers of voxels"),
    ],
)
def test_a_foreign_engine_is_refused_with_its_reason(tmp_path: Path, change, reason: str) -> None:
    assert unusable_because(written(tmp_path, KEY), replace(KEY, **change)) == reason


def test_other_shapes_can_be_accepted(tmp_path: Path) -> None:
    other = replace(KEY, shapes={"rows": ((1, 8), (2, 8), (3, 8))})
    assert unusable_because(written(tmp_path, KEY), other, any_shapes=True) == ""


def test_a_missing_half_written_or_damaged_engine_is_refused(tmp_path: Path) -> None:
    path = engine_path(tmp_path, "mesh_trunk", "Orin")
    assert unusable_because(path, KEY) == "there is none yet"
    written(tmp_path, KEY)
    path.write_bytes(b"engin")
    assert unusable_because(path, KEY) == "it is damaged: its content is not what was written"
    path.with_suffix(".json").write_text('{"engine_sha256": "x"}')
    assert unusable_because(path, KEY) == "its description is damaged"
    path.with_suffix(".json").unlink()  # as after a build that was ended before it wrote the description
    assert unusable_because(path, KEY) == "there is none yet"


def test_the_profile_is_three_rising_numbers() -> None:
    assert voxel_range("") is None
    assert voxel_range("10,2000,8192") == Range(10, 2000, 8192)
    for text in ("10", "a,b,c", "10,5,20", "0,1,2", "1,2,3,4"):
        with pytest.raises(ConfigError, match="The profile is"):
            voxel_range(text)


def test_the_profile_changes_voxels_and_their_coarser_levels_alone() -> None:
    voxels = Range(10, 1600, 4096)
    assert _with_voxels("rows", ((1, 8), (5, 8), (9, 8)), voxels) == ((10, 8), (1600, 8), (4096, 8))
    assert _with_voxels("down.children", ((1, 8), (5, 8), (9, 8)), voxels) == ((1, 8), (400, 8), (2048, 8))
    assert _with_voxels("key.0", ((1, 2), (1, 2), (8, 2)), voxels) == ((1, 2), (1, 2), (8, 2))


@pytest.fixture
def installed() -> None:
    try:
        tensorrt_package()
    except MissingPackageError:
        pytest.skip("TensorRT is not installed")


def _small(exported, names: Sequence[str]):
    kept = {name: exported.manifest.stages[name] for name in names}
    return replace(exported.manifest, stages=kept)


def test_engines_are_built_without_a_gpu_kept_and_rebuilt_when_damaged(exported, tmp_path, installed) -> None:
    import shutil

    folder = tmp_path / "stages"
    shutil.copytree(exported.folder, folder)
    manifest = _small(exported, ["structure_condition", "slat_encoder"])
    said: list[tuple[str, str]] = []

    def run() -> list[tuple[str, Path]]:
        said.clear()
        return list(build_engines(folder, manifest, on_stage=lambda name, why: said.append((name, why))))

    built = run()
    assert said == [(name, "there is none yet") for name in manifest.stages]
    assert all(path.stat().st_size > 1000 for _, path in built)
    assert run() == built and said == []
    built[0][1].write_bytes(built[0][1].read_bytes()[:-100])
    assert run() == built
    assert said == [("structure_condition", "it is damaged: its content is not what was written")]
    assert AHEAD_OF_TIME in built[0][1].name


def test_every_stage_is_accepted_by_the_parser(exported, installed) -> None:
    trt = tensorrt_package()
    for name, stage in exported.manifest.stages.items():
        logger = trt.Logger(trt.Logger.ERROR)
        network = trt.Builder(logger).create_network(0)
        parser = trt.OnnxParser(network, logger)
        accepted = parser.parse_from_file(str(exported.folder / stage.file))
        errors = [str(parser.get_error(index).desc()) for index in range(parser.num_errors)]
        assert accepted, (name, errors)


def test_a_graph_that_tensorrt_refuses_is_named(exported, tmp_path, installed) -> None:
    import shutil

    folder = tmp_path / "stages"
    shutil.copytree(exported.folder, folder)
    manifest = _small(exported, ["slat_encoder"])
    graph = folder / manifest.stages["slat_encoder"].file
    graph.write_bytes(graph.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"refuses slat_encoder\.onnx"):
        list(build_engines(folder, manifest))
