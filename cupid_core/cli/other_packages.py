"""Commands that other packages add to `cupid` by an entry point of the group `cupid.commands`.

A package announces `name = "module:function"`; tyro reads the arguments of the function as it does for the
commands of `cupid_core.cli`, and the function returns the exit code. Nothing is imported before it is called.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, distributions

GROUP = "cupid.commands"


def announced_commands() -> dict[str, EntryPoint]:
    """Entry points by the name of the command; the first distribution on the path wins.

    `importlib.metadata.entry_points` reads only the first of several distributions with one name, and a colcon
    workspace puts one without entry points before that of pip.
    """
    first: dict[str, EntryPoint] = {}
    for distribution in distributions():
        for entry in distribution.entry_points:
            if entry.group == GROUP:
                first.setdefault(entry.name, entry)
    return first
