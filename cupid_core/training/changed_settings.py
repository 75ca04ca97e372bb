"""Which settings of a run have changed since its state was saved; knows their text, not their meaning."""

from __future__ import annotations

# What may change between the parts of a run without another word: it does not change what a step learns.
_SHARED = ("seed", "data", "tabletop", "assets")
_FREE = (
    "run.steps",
    "run.log_every",
    "run.validate_every",
    "run.sheet_every",
    "run.save_minutes",
    "run.spare_seconds",
    "run.prefetch",
    "run.start_from",
    "run.mismatch",
    "validation_",
    "tabletop.resident",
)


def changed_settings(saved: str, given: str, stage: str) -> list[str]:
    """What differs, as "name: before -> now", among settings that change what the steps of a stage learn.

    Settings that one of the texts does not have are passed over: they are newer or older than the other. The
    length of the run may change, and so may other stages, where figures are measured and how often.

    Args:
        saved: YAML of all settings, as `config.to_yaml` writes it; empty where nobody kept it.
        given: the same of today.
        stage: name of the stage.
    """
    before, now = _flat(saved), _flat(given)
    section = stage.replace("-", "_")
    return [
        f"{name}: {value} -> {now[name]}"
        for name, value in before.items()
        if name in now and now[name] != value and _matters(name, section)
    ]


def _matters(name: str, section: str) -> bool:
    top, _, rest = name.partition(".")
    if top not in (section, *_SHARED):
        return False
    return not (rest if top == section else name).startswith(_FREE)


def _flat(text: str) -> dict[str, str]:
    """Dotted names and values of nested "name: value" lines, two spaces a level; comments are passed over."""
    values: dict[str, str] = {}
    path: list[str] = []
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not colon or line.lstrip().startswith("#"):
            continue
        path = [*path[: (len(name) - len(name.lstrip())) // 2], name.strip()]
        if value.strip():
            values[".".join(path)] = value.strip()
    return values
