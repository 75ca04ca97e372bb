"""Imports of packages that may be missing or slow to load, when they are first needed."""

from __future__ import annotations

import ctypes
import importlib
from functools import cache
from types import ModuleType

from cupid_core.errors import MissingPackageError


def optional_package(name: str, extra: str) -> ModuleType:
    """Import a package that belongs to an extra of this installation.

    Args:
        name: of the package or module.
        extra: the extra in pyproject.toml that installs it.

    Raises:
        MissingPackageError: it is not installed, or cannot be loaded; the hint names the extra.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise MissingPackageError(
            f"The package '{name}' cannot be loaded: {error}.", hint=f"Run `pip install 'cupid_ros[{extra}]'`."
        ) from error


@cache
def open3d() -> ModuleType:
    """Import open3d, which takes seconds.

    Its wheels link with libusb for cameras that are not used here. Where the system has no libusb, the copy in the
    package `libusb_package` is loaded first.

    Raises:
        MissingPackageError: it is not installed, or cannot be loaded.
    """
    try:
        return importlib.import_module("open3d")
    except ImportError as error:
        if "libusb" not in str(error):
            raise _no_open3d(error) from error
    try:
        path = importlib.import_module("libusb_package").get_library_path()
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
        return importlib.import_module("open3d")
    except (ImportError, OSError) as error:
        raise _no_open3d(error) from error


def _no_open3d(error: Exception) -> MissingPackageError:
    return MissingPackageError(
        f"open3d cannot be loaded: {error}.", hint="Run `pip install open3d libusb-package` in this environment."
    )
