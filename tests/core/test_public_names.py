"""What `import cupid_core` offers."""

import subprocess
import sys

import pytest

import cupid_core


def test_every_public_name_is_there() -> None:
    for name in cupid_core.__all__:
        assert getattr(cupid_core, name).__name__ == name


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="nothing_like_it"):
        cupid_core.nothing_like_it  # noqa: B018


def test_importing_the_package_brings_no_torch() -> None:
    program = "import sys, cupid_core; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
