"""Reads JSON and YAML text as people and programs write it; knows text, not what it is about.

JSON is tried first, because JSON is not YAML 1.1: tabs, and numbers like 1e-05. YAML is read by the rules of YAML
1.2, where `no`, `on` and `12:30` are words. Nothing is executed.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml


class StructureError(ValueError):
    """The text is neither JSON nor YAML; its message says where it stops being either."""


def parse_values(text: str) -> Any:
    """The first document of a text as mappings, lists, numbers, words, booleans and None.

    Raises:
        StructureError: neither JSON nor YAML.
    """
    return _parse(text, words=False)


def parse_words(text: str) -> Any:
    """The same with every number and word as it is written: `1.50`, `no` and `null` of YAML stay these words.

    Raises:
        StructureError: neither JSON nor YAML.
    """
    return _parse(text, words=True)


def _parse(text: str, *, words: bool) -> Any:
    text = text.removeprefix("\ufeff")  # which editors of Windows put in front
    try:
        return json.loads(text, parse_int=str, parse_float=str) if words else json.loads(text)
    except (ValueError, RecursionError) as error:
        problem: Exception = error
    try:
        # `ros2 topic echo` ends every message with a line of dashes, so an empty document follows.
        documents = list(yaml.load_all(text, Loader=yaml.BaseLoader if words else _Loader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        is_json = text.lstrip()[:1] in ("{", "[")
        raise StructureError(str(problem if is_json else error)) from error
    return documents[0] if documents else None


class _Loader(yaml.SafeLoader):
    """YAML 1.2 core schema: what PyYAML takes for booleans, dates and numbers to base 60 stays a word."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # as PyYAML declares it


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text[2:] if base != 10 else text, base)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
