"""A run made by the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import TRAIN, command_here


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made by `asyncrl train`; tests that change it copy it."""
    folder = tmp_path_factory.mktemp("commands")
    done = command_here(*TRAIN, "--run-dir", "run", "--seed", 3, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "mean return" in done.stdout
    assert "asyncrl play run" in done.stdout
    assert done.stderr == ""
    return folder / "run"
