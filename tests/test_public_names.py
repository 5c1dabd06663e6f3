"""The public names of `asyncrl`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_training_does_not_import_the_compiler_of_torch(tmp_path: Path) -> None:
    """It takes more than a second, and nothing is compiled."""
    words = [
        "train",
        "a3c",
        "CartPole-v1",
        "--engine",
        "serial",
        "--steps",
        "320",
        "--quiet",
        "--run-dir",
        str(tmp_path / "run"),
    ]
    code = f"import sys; from asyncrl.cli import main; sys.exit(main({words}) or 'torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
