"""How settings are declared, read, written and described; knows no setting.

Every setting is declared once, in a section of this folder, with type, default, bounds, unit and a sentence. The
command line, the YAML files in `config/` and the ROS parameters all come from these models, under the same dotted
names.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cupid_core.errors import ConfigError
from cupid_core.files import write_text

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
            raise ConfigError(f"{origin}: unknown setting '{name}'.", hint=_nearest(kind, location)) from error
        raise ConfigError(
            f"{origin}: setting '{name}' is {first['input']!r}: {first['msg']}.",
            hint=f"`cupid config describe` lists the bounds of every setting ({error.error_count()} wrong here).",
        ) from error


def load(kind: type[SettingsT], path: Path) -> SettingsT:
    """Read settings from a YAML file; keys that are not in the file keep their defaults.

    Raises:
        ConfigError: the file is missing, is not YAML, is not a mapping, or `from_mapping` refuses it.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.", hint="Give the path of a readable YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}.", hint="Correct the line it names.") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} holds a {type(values).__name__}, not a mapping of settings.",
            hint="Write 'section:' lines with indented 'name: value' lines below.",
        )
    return from_mapping(kind, values, origin=str(path))


def save(settings: Settings, path: Path) -> None:
    """Write `to_yaml` to a file, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    write_text(path, to_yaml(settings))


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
                bounds_of(field),
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
        bounds = bounds_of(field)
        yield f"{indent}# {field.description} [{extra.get('unit', '')}{'; ' + bounds if bounds else ''}]"
        yield f"{indent}{name}: {_one_line(value)}"


def _one_line(value: Any) -> str:
    """A value as YAML on one line; without a width, long lists would be broken over several."""
    return str(yaml.safe_dump(value, default_flow_style=True, width=float("inf"))).splitlines()[0]


def bounds_of(field: Any) -> str:
    """Bounds or choices of a field, as text; empty where it has none."""
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
