"""How settings are declared, read, changed, written and described.

Every setting is declared once, in a section of this folder, with type, default, bounds, unit and a sentence. The
command line, the YAML files in `config/` and the ROS parameters all come from these models, under the same dotted
names.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from cupid_core.errors import ConfigError
from cupid_core.files import write_text
from cupid_core.structured_text import StructureError, parse_values

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


def load(kind: type[SettingsT], path: Path | None, assignments: Sequence[str] = ()) -> SettingsT:
    """Read settings from a YAML or JSON file; keys that are not in the file keep their defaults.

    Args:
        kind: the settings model to build.
        path: the file; None takes the defaults.
        assignments: changes made after reading, see `assign`.

    Raises:
        ConfigError: the file is missing, is neither YAML nor JSON, is not a mapping, or `from_mapping` or `assign`
            refuses it.
    """
    settings = kind() if path is None else from_mapping(kind, _read_yaml(path), origin=str(path))
    return assign(settings, assignments)


def assign(settings: SettingsT, assignments: Sequence[str], origin: str = "--set") -> SettingsT:
    """Settings with some values replaced.

    Args:
        settings: the values to start from.
        assignments: texts like "refine.iterations=5". Values are written as in YAML, but the value of a text
            setting is taken literally.
        origin: what to call the source in an error message.

    Raises:
        ConfigError: not of this form, an unknown name (with the nearest known one), wrong type, or out of bounds.
    """
    values = settings.model_dump()
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        location = tuple(name.strip().split("."))
        if not separator or not name.strip():
            raise ConfigError(
                f"{origin} '{assignment}' is not NAME=VALUE.", hint="Write for example refine.iterations=5."
            )
        field = _field_at(type(settings), location)
        if field is None:
            hint = _nearest(type(settings), location)
            raise ConfigError(f"{origin}: unknown setting '{'.'.join(location)}'.", hint=hint)
        section: dict[str, Any] = values
        for part in location[:-1]:
            if section[part] is None:  # an optional section that is off; naming a value in it turns it on
                section[part] = {}
            section = section[part]
        section[location[-1]] = text.strip() if field.annotation is str else _parse_value(text, assignment, origin)
    return from_mapping(type(settings), values, origin=origin) if assignments else settings


def _field_at(kind: type[Settings], location: tuple[str, ...]) -> FieldInfo | None:
    """The declaration of a setting by its dotted name, split at the dots; None where there is none."""
    *sections, leaf = location
    for section in sections:
        field = kind.model_fields.get(section)
        types = () if field is None else (field.annotation, *get_args(field.annotation))
        inner = [item for item in types if isinstance(item, type) and issubclass(item, Settings)]
        if not inner:
            return None
        kind = inner[0]
    return kind.model_fields.get(leaf)


def _parse_value(text: str, assignment: str, origin: str) -> Any:
    try:
        return parse_values(text)
    except StructureError as error:
        raise ConfigError(
            f"{origin} '{assignment}': the value is not YAML.", hint="Write it as in a settings file."
        ) from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = parse_values(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"File not found: {path}.", hint="Check the path.") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.", hint="Give the path of a readable YAML file.") from error
    except (StructureError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is neither YAML nor JSON: {error}.", hint="Correct the line it names."
        ) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} holds a {type(values).__name__}, not a mapping of settings.",
            hint="Write 'section:' lines with indented 'name: value' lines below.",
        )
    return values


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
    """Name the known setting spelled most like the unknown one: in its section, else anywhere."""
    *section, leaf = location
    settings = [name.split(".") for name, *_ in describe(kind())]
    known = [name[:depth] for name in settings for depth in range(1, len(name) + 1)]
    for candidates in ([name for name in known if name[:-1] == section], known):
        leaves = difflib.get_close_matches(leaf, [name[-1] for name in candidates], n=1, cutoff=0.6)
        if leaves:
            names = [".".join(name) for name in candidates if name[-1] == leaves[0]]
            (nearest,) = difflib.get_close_matches(".".join(location), names, n=1, cutoff=0.0)
            return f"Did you mean '{nearest}'?"
    return "`cupid config describe` lists all settings."
