"""The public names of `asyncrl`."""

from __future__ import annotations

import subprocess
import sys

import asyncrl


def test_every_public_name_is_there_and_sorted() -> None:
    assert sorted(asyncrl.__all__) == asyncrl.__all__
    assert all(hasattr(asyncrl, name) for name in asyncrl.__all__)


def test_all_lists_every_public_name() -> None:
    modules = {name for name, value in vars(asyncrl).items() if type(value).__name__ == "module"}
    public = (
        {name for name in vars(asyncrl) if not name.startswith("_")} - modules - {"annotations", "Any", "TYPE_CHECKING"}
    )
    assert public <= set(asyncrl.__all__)


def test_importing_the_package_does_not_import_torch() -> None:
    """Environment workers and `asyncrl --version` do not need torch."""
    code = "import sys, asyncrl, asyncrl.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
