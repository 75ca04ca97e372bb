"""Every setting of the package, declared once: type, default, bounds, unit and a sentence.

The command line, the YAML files in `config/` and the ROS parameters all come from these models, under the same
dotted names (`pose.robust_scale_px`). This module knows values, not what is done with them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cupid_core.errors import ConfigError

SettingsT = TypeVar("SettingsT", bound="Settings")


def setting(default: Any, unit: str, description: str, **bounds: Any) -> Any:
    """Declare one setting.

    Args:
        default: the only place where the default stands.
        unit: physical unit, or "1" for a pure number, "count", "switch", "choice", "name".
        description: one sentence for people.
        bounds: `ge`, `gt`, `le`, `lt` for numbers, as pydantic names them.
    """
    return Field(default, description=description, json_schema_extra={"unit": unit}, **bounds)


class Settings(BaseModel):
    """Base of all settings: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class SamplerConfig(Settings):
    """One sampling run of a flow network."""

    steps: int = setting(25, "count", "Number of solver steps from noise to data.", ge=1, le=1000)
    solver: Literal["euler", "heun"] = setting(
        "euler", "choice", "Solver; heun is of second order and calls the network twice per step."
    )
    guidance_strength: float = setting(
        3.0, "1", "Guidance s in (1 + s) conditional - s unconditional; 0 switches it off.", ge=0.0, le=100.0
    )
    guidance_from_t: float = setting(
        0.5, "1", "Lowest flow time with guidance; 0 is data, 1 is noise.", ge=0.0, le=1.0
    )
    guidance_to_t: float = setting(1.0, "1", "Highest flow time with guidance.", ge=0.0, le=1.0)
    rescale_t: float = setting(
        3.0, "1", "Shift of the schedule towards noise; 1 is uniform in time.", gt=0.0, le=100.0
    )

    @model_validator(mode="after")
    def _interval_has_an_inside(self) -> SamplerConfig:
        if self.guidance_from_t > self.guidance_to_t:
            raise ValueError(f"guidance_from_t {self.guidance_from_t} is above guidance_to_t {self.guidance_to_t}")
        return self


class StructureSamplerConfig(SamplerConfig):
    """The sampling run of stage 1 (CUPID's evaluation settings)."""

    guidance_strength: float = setting(
        7.5, "1", "Guidance s in (1 + s) conditional - s unconditional; 0 switches it off.", ge=0.0, le=100.0
    )


class SimilarityConfig(Settings):
    """Robust alignment of two point sets (`geometry.similarity.align_robust`)."""

    hypotheses: int = setting(
        512, "count", "Minimal three-point alignments drawn to find a start.", ge=1, le=100_000
    )
    finest_noise: float = setting(
        0.005,
        "1",
        "Finest noise tried for the start, as a fraction of the size of the target points; doublings follow.",
        gt=0.0,
        le=1.0,
    )
    max_iterations: int = setting(30, "count", "Reweighting rounds after the start.", ge=1, le=1000)
    min_inlier_ratio: float = setting(
        0.1, "1", "Alignments supported by a smaller fraction of the points are refused.", ge=0.0, le=1.0
    )
    seed: int = setting(0, "count", "Seed of the draws, where the caller brings no generator.", ge=0)


class CropConfig(Settings):
    """The square cut around an object before the networks see it (`image.crop`)."""

    margin: float = setting(
        1.2, "1", "Side of the square, as a multiple of the longer side of the mask's box.", ge=1.0, le=4.0
    )
    alpha_threshold: float = setting(
        0.8, "1", "Pixels with more opacity than this belong to the object.", ge=0.0, lt=1.0
    )


class CupidConfig(Settings):
    """All settings of the package, one section per room."""

    similarity: SimilarityConfig = SimilarityConfig()
    structure_sampler: StructureSamplerConfig = StructureSamplerConfig()
    appearance_sampler: SamplerConfig = SamplerConfig()
    crop: CropConfig = CropConfig()


def from_mapping(kind: type[SettingsT], values: dict[str, Any], origin: str = "the settings") -> SettingsT:
    """Validate a nested mapping.

    Args:
        kind: the settings model to build.
        values: nested plain values, as read from YAML; missing keys take their defaults.
        origin: what to call the source in an error message, e.g. the file name.

    Raises:
        ConfigError: unknown key (with the nearest known one), wrong type, or out of bounds.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        location = tuple(str(part) for part in first["loc"])
        name = ".".join(location) or kind.__name__
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{origin}: unknown setting '{name}'.", cure=_nearest(kind, location)) from error
        raise ConfigError(
            f"{origin}: setting '{name}' is {first['input']!r}: {first['msg']}.",
            cure=f"`cupid config describe` lists the bounds of every setting ({error.error_count()} wrong here).",
        ) from error


def load(kind: type[SettingsT], path: Path) -> SettingsT:
    """Read settings from a YAML file; keys that are not in the file keep their defaults.

    Raises:
        ConfigError: the file is missing, is not YAML, is not a mapping, or `from_mapping` refuses it.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.", cure="Give the path of a readable YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}.", cure="Correct the line it names.") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} holds a {type(values).__name__}, not a mapping of settings.",
            cure="Write 'section:' lines with indented 'name: value' lines below.",
        )
    return from_mapping(kind, values, origin=str(path))


def save(settings: Settings, path: Path) -> None:
    """Write `to_yaml` to a file.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        path.write_text(to_yaml(settings), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.", cure="Give a path in a writable folder.") from error


def to_yaml(settings: Settings) -> str:
    """Write settings as YAML with a comment (meaning, unit, bounds) above every value; `load` reads it back."""
    return "\n".join(_yaml_lines(settings, indent="")) + "\n"


def describe(settings: Settings, prefix: str = "") -> Iterator[tuple[str, Any, str, str, str]]:
    """Walk all settings: (dotted name, value, unit, bounds as text, description)."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from describe(value, prefix=f"{prefix}{name}.")
        else:
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            yield (
                f"{prefix}{name}",
                value,
                str(extra.get("unit", "")),
                _bounds(field),
                field.description or "",
            )


def _yaml_lines(settings: Settings, indent: str) -> Iterator[str]:
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield f"{indent}{name}:"
            yield from _yaml_lines(value, indent + "  ")
            continue
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        bounds = _bounds(field)
        yield f"{indent}# {field.description} [{extra.get('unit', '')}{'; ' + bounds if bounds else ''}]"
        yield f"{indent}{name}: {yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}"


def _bounds(field: Any) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    parts = [
        f"{sign} {getattr(item, key)}"
        for item in field.metadata
        for key, sign in signs.items()
        if getattr(item, key, None) is not None
    ]
    choices = getattr(field.annotation, "__args__", ()) if "Literal" in str(field.annotation) else ()
    return ", ".join(parts) or " | ".join(str(choice) for choice in choices)


def _nearest(kind: type[Settings], location: tuple[str, ...]) -> str:
    """Name the known setting that is spelled most like the unknown one, in its own section if there is one."""
    *section, leaf = location
    settings = [name.split(".") for name, *_ in describe(kind())]
    known = [name[:depth] for name in settings for depth in range(1, len(name) + 1)]
    for candidates in ([name for name in known if name[:-1] == section], known):
        by_leaf = {name[-1]: ".".join(name) for name in candidates}
        close = difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=0.6)
        if close:
            return f"Did you mean '{by_leaf[close[0]]}'?"
    return "`cupid config describe` lists all settings."
