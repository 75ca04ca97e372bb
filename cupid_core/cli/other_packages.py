"""Commands that other packages add to `cupid` by an entry point of the group `cupid.commands`; knows none of them.

A package announces `name = "module:function"`; the function is read by tyro as those of this room are, and returns
the exit code. It is imported only when it is called, or when all commands are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from importlib.metadata import EntryPoint, distributions

from rich.console import Console

GROUP = "cupid.commands"


def other_commands(words: Sequence[str], own: Collection[str]) -> dict[str, Callable[..., int]]:
    """Commands of other packages, as far as the words of the command line need them.

    Args:
        words: after `cupid`.
        own: names of the commands that are known; a package cannot replace them.

    Returns:
        Functions by name; one whose package cannot be imported is told and left out.
    """
    if words and words[0] in own:
        return {}
    found: dict[str, Callable[..., int]] = {}
    for announced in _announced():
        if announced.name in own:
            continue
        try:
            found[announced.name] = announced.load()
        except (ImportError, AttributeError) as error:
            Console(stderr=True).print(f"`cupid {announced.name}` cannot be loaded: {error}", markup=False)
    return found


def _announced() -> Iterable[EntryPoint]:
    """Announcements, the first of each name.

    `importlib.metadata.entry_points` reads only the first of several distributions with one name, and a colcon
    workspace puts one without announcements before that of pip.
    """
    first: dict[str, EntryPoint] = {}
    for distribution in distributions():
        for announced in distribution.entry_points:
            if announced.group == GROUP:
                first.setdefault(announced.name, announced)
    return first.values()
