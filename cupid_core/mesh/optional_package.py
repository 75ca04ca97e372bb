"""Brings in a package that an extra of the installation holds; must not know what is done with it."""

from __future__ import annotations

import importlib
from types import ModuleType

from cupid_core.errors import MissingPackageError


def optional_package(name: str, extra: str) -> ModuleType:
    """A package that is not always there.

    Args:
        name: of the package.
        extra: of this project's installation that brings it.

    Raises:
        MissingPackageError: it is not installed, or cannot be loaded; the text names the extra.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise MissingPackageError(
            f"The package '{name}' cannot be loaded: {error}.", hint=f"Run `pip install 'cupid_ros[{extra}]'`."
        ) from error
