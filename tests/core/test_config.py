"""Settings: one declaration each, closed to unknown keys, the same after a trip through YAML."""

import numbers
import pickle
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from cupid_core import config, errors
from cupid_core.config import CupidConfig, Settings, setting


class Solver(Settings):
    """A section to test with."""

    steps: int = setting(25, "count", "Number of steps.", ge=1, le=100)
    strength: float = setting(7.5, "1", "Guidance strength.", ge=0.0)


class Example(Settings):
    """Settings to test with."""

    solver: Solver = Solver()
    name: str = setting("plain", "name", "A name.")


def all_fields(settings: Settings) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        rows += (
            all_fields(value) if isinstance(value, Settings) else [(f"{type(settings).__name__}.{name}", field)]
        )
    return rows


def test_every_setting_says_what_it_is() -> None:
    fields = all_fields(CupidConfig())
    assert fields
    for name, field in fields:
        assert field.description and field.description.endswith("."), f"{name} has no sentence"
        assert isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("unit"), (
            f"{name} has no unit"
        )
        types = get_args(field.annotation) or (field.annotation,)
        if any(isinstance(kind, type) and issubclass(kind, numbers.Number) and kind is not bool for kind in types):
            assert config.bounds_of(field), f"{name} is a number without bounds"


def test_yaml_round_trip(tmp_path: Path) -> None:
    settings = Example(solver=Solver(steps=3, strength=0.125), name="yes: no")
    path = tmp_path / "settings.yaml"
    config.save(settings, path)
    assert config.load(Example, path) == settings
    assert "# Number of steps. [count; >= 1, <= 100]" in path.read_text()


def test_long_lists_survive_yaml(tmp_path: Path) -> None:
    class Long(Settings):
        values: tuple[int, ...] = setting((), "count", "Many numbers.")

    settings = Long(values=tuple(range(10_000, 10_200)))
    config.save(settings, tmp_path / "long.yaml")
    assert config.load(Long, tmp_path / "long.yaml") == settings


def test_missing_keys_take_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("solver: {steps: 2}\n")
    assert config.load(Example, path) == Example(solver=Solver(steps=2))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"solver": {"step": 3}}, "Did you mean 'solver.steps'?"),
        ({"strenght": 3}, "Did you mean 'solver.strength'?"),
        ({"solvr": {"steps": 3}}, "Did you mean 'solver'?"),
        ({"solver": {"qqqqqq": 3}}, "lists all settings"),
    ],
)
def test_unknown_key_names_the_nearest(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(errors.ConfigError, match="unknown setting") as caught:
        config.from_mapping(Example, values, origin="x.yaml")
    assert expected in str(caught.value) and "x.yaml" in str(caught.value)


@pytest.mark.parametrize("values", [{"solver": {"steps": 0}}, {"solver": {"steps": "many"}}, {"solver": 3}])
def test_wrong_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigError, match="solver"):
        config.from_mapping(Example, values)


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "7"])
def test_files_that_hold_no_settings_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(errors.ConfigError, match=r"settings\.yaml"):
        config.load(Example, path)


def test_settings_may_be_json_with_tabs_and_yaml_with_exponents(tmp_path):
    path = tmp_path / "settings"
    path.write_text('\ufeff{\n\t"refine": {\n\t\t"iterations": 7\n\t}\n}', encoding="utf-8")
    assert config.load(config.CupidConfig, path).refine.iterations == 7
    path.write_text("refine: {depth_noise: 1e-02}\nros: {topics: {image: on}}\n", encoding="utf-8")
    assert config.load(config.CupidConfig, path, ["refine.depth_noise=2e-02"]).refine.depth_noise == 0.02


def test_a_binary_or_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    with pytest.raises(errors.ConfigError, match="File not found"):
        config.load(Example, path)
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(errors.ConfigError, match="neither YAML nor JSON"):
        config.load(Example, path)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Example().name = "other"  # type: ignore[misc]


def every_error(kind: type[errors.CupidError] = errors.CupidError) -> list[type[errors.CupidError]]:
    deeper = [each for child in kind.__subclasses__() for each in every_error(child)]
    ours = kind.__module__.startswith(("cupid_core", "cupid_ros"))  # tests may have some of their own
    return [kind, *deeper] if ours else deeper


def test_error_codes_are_unique_and_survive_pickling() -> None:
    codes = [kind.code for kind in every_error()]
    assert len(set(codes)) == len(codes)
    for kind in every_error():
        error = kind("It broke.", hint="Mend it.")
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind and str(again) == "It broke. Mend it." and again.hint == "Mend it."


def test_assignments_change_single_values_under_their_dotted_names() -> None:
    settings = Example(solver=Solver(strength=0.5))
    changed = config.assign(settings, ["solver.steps=3", "name=-", "solver.steps = 4"])
    assert changed == Example(solver=Solver(steps=4, strength=0.5), name="-")
    assert config.assign(settings, []) == settings
    assert config.load(Example, None, ["solver.strength=1e-3"]).solver.strength == 0.001


def test_an_assignment_turns_an_optional_section_on() -> None:
    assert config.AssetSampleConfig().crop is None
    crop = config.assign(config.AssetSampleConfig(), ["crop.buckets=3"]).crop
    assert crop == config.ViewCropConfig(buckets=3)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("scene.refine.iterations=5", "Did you mean 'refine.iterations'?"),
        ("refine.iteration=5", "Did you mean 'refine.iterations'?"),
        ("structure.steps=5", "Did you mean 'structure_sampler.steps'?"),
        ("refine.iterations.deeper=5", "refine.iterations"),
        ("refine.iterations=0", "refine.iterations"),
        ("refine.iterations=many", "refine.iterations"),
        ("refine.iterations=[", "not YAML"),
        ("refine=5", "refine"),
        ("refine.iterations", "NAME=VALUE"),
        ("=5", "NAME=VALUE"),
    ],
)
def test_wrong_assignments_are_refused_with_a_hint(assignment: str, expected: str) -> None:
    with pytest.raises(errors.ConfigError, match="--set") as caught:
        config.assign(CupidConfig(), [assignment])
    assert expected in str(caught.value)
