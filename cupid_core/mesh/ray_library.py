"""Brings open3d in when it is first needed: its import takes seconds, and a library of the system may be absent.

Knows how the package is loaded; must not know what is done with it.
"""

from __future__ import annotations

import ctypes
import importlib
from functools import cache
from types import ModuleType

from cupid_core.errors import MissingPackageError


@cache
def open3d() -> ModuleType:
    """The package open3d.

    Its wheels link with libusb for cameras that are not used here. A bare machine has none, so the copy of the
    package `libusb_package` is taken where the system's is missing.

    Raises:
        MissingPackageError: it is not installed, or cannot be loaded.
    """
    try:
        return importlib.import_module("open3d")
    except ImportError as error:
        if "libusb" not in str(error):
            raise _missing(error) from error
    try:
        path = importlib.import_module("libusb_package").get_library_path()
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
        return importlib.import_module("open3d")
    except (ImportError, OSError) as error:
        raise _missing(error) from error


def _missing(error: Exception) -> MissingPackageError:
    return MissingPackageError(
        f"open3d cannot be loaded: {error}.", hint="Run `pip install open3d libusb-package` in this environment."
    )
