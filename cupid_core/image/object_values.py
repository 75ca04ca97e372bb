"""What is said about objects by their id: names, sizes, which are wanted; in the forms that people have them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from cupid_core.errors import InputError

# From a pill to a truck; beyond, the number is in another unit.
_LONGEST_SIDES_M = (0.001, 20.0)


def as_names(names: Mapping[int, str] | Sequence[str] | None) -> dict[int, str]:
    """Names by id; those of a list belong to 1, 2, ...

    Raises:
        InputError: an id or a name of another type.
    """
    if names is None:
        return {}
    if isinstance(names, list | tuple):
        names = dict(enumerate(names, start=1))
    if not isinstance(names, Mapping) or not all(isinstance(name, str) for name in names.values()):
        raise InputError(f"Names were given as {names!r}.", hint="Give names by id: {1: 'mug', 2: 'box'}.")
    return {as_id(id_): name for id_, name in names.items()}


def as_sizes(sizes_m: Mapping[int, float] | None) -> dict[int, float]:
    """Longest sides in metres by id.

    Raises:
        InputError: an id or a size of another type, or no size of an object (`check_longest_side`).
    """
    if sizes_m is None:
        return {}
    if not isinstance(sizes_m, Mapping):
        raise InputError(f"Sizes were given as {sizes_m!r}.", hint="Give metres by id: {1: 0.19, 2: 0.08}.")
    for id_, size in sizes_m.items():
        check_longest_side(as_id(id_), size)
    return {as_id(id_): float(size) for id_, size in sizes_m.items()}


def as_ids(only: Collection[int] | None) -> frozenset[int] | None:
    """Ids of the objects that are wanted; one id is taken for itself alone. None: all.

    Raises:
        InputError: something else than whole numbers from 1.
    """
    if only is None:
        return None
    ids: Any = [only] if isinstance(only, int | np.integer) else only
    if isinstance(ids, str | bytes) or not isinstance(ids, Collection):
        raise InputError(f"Wanted objects were given as {only!r}.", hint="Give their ids: [1, 3].")
    return frozenset(as_id(id_) for id_ in ids)


def as_id(key: Any) -> int:
    """The id of an object.

    Raises:
        InputError: no whole number from 1.
    """
    if isinstance(key, bool) or not isinstance(key, int | np.integer) or int(key) < 1:
        raise InputError(f"{key!r} is not the id of an object.", hint="Give whole numbers from 1.")
    return int(key)


def check_longest_side(id_: int, size_m: float) -> None:
    """Make sure that an object can be this long.

    Raises:
        InputError: not a positive number, or no size of an object: below 1 mm or beyond 20 m.
    """
    shortest, longest = _LONGEST_SIDES_M
    is_number = isinstance(size_m, int | float | np.integer | np.floating) and not isinstance(size_m, bool)
    if not is_number or not math.isfinite(size_m) or not shortest <= size_m <= longest:
        raise InputError(
            f"Object {id_} has a longest side of {size_m} m; expected {shortest:g} to {longest:g} m.",
            hint="Give the longest side in metres: 0.19 for 19 cm.",
        )
