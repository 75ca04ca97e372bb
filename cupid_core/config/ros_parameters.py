"""Settings as ROS parameters: a file, a table, and what a node declares."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cupid_core.config.base import Settings, SettingsT, bounds_of, describe, from_mapping, to_yaml


@dataclass(frozen=True)
class Parameter:
    """One setting, as a node declares it.

    Attributes:
        name: dotted, as everywhere.
        value: bool, int, float or text.
        description: the sentence, with the unit.
        low: smallest value of a number, None without.
        high: largest value of a number, None without.
        constraints: bounds or choices in words, for what a range cannot say.
    """

    name: str
    value: bool | int | float | str
    description: str
    low: float | None
    high: float | None
    constraints: str


def parameters(settings: Settings, prefix: str = "") -> Iterator[Parameter]:
    """All settings as parameters, with their bounds."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from parameters(value, prefix=f"{prefix}{name}.")
            continue
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        yield Parameter(
            name=f"{prefix}{name}",
            value=value,
            description=f"{field.description} [{extra.get('unit', '')}]",
            low=_bound(field.metadata, "ge", "gt"),
            high=_bound(field.metadata, "le", "lt"),
            constraints=bounds_of(field),
        )


def from_parameters(kind: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:
    """Settings from values under dotted names; undoes `parameters`.

    Raises:
        ConfigError: as `from_mapping`.
    """
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *path, leaf = name.split(".")
        section = nested
        for part in path:
            section = section.setdefault(part, {})
        section[leaf] = value
    return from_mapping(kind, nested, origin="the parameters")


def to_ros_yaml(settings: Settings) -> str:
    """A parameter file for any node, with a comment above every value; what `ros2 run --params-file` reads."""
    return "/**:\n  ros__parameters:\n" + textwrap.indent(to_yaml(settings), "    ")


def to_table(settings: Settings, prefix: str = "") -> str:
    """Settings as rows of a Markdown table: name, default, unit, bounds, meaning."""
    lines = ["| Parameter | Default | Unit | Bounds | Meaning |", "|---|---|---|---|---|"]
    for name, value, unit, bounds, description in describe(settings, prefix=prefix):
        shown = f"`{value}`" if value != "" else "empty"
        escaped = bounds.replace("|", "\\|")
        lines.append(f"| `{name}` | {shown} | {unit} | {escaped} | {description} |")
    return "\n".join(lines) + "\n"


def _bound(metadata: list[Any], *keys: str) -> float | None:
    found = [getattr(item, key) for item in metadata for key in keys if getattr(item, key, None) is not None]
    return float(found[0]) if found else None
