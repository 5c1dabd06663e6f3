"""Runs for the tests of storages."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator

import pytest
from faulty_storage import FaultyStorage
from stored_runs import train

from asyncrl.launch import resume
from asyncrl.runs.run import Run


@pytest.fixture(autouse=True)
def faults() -> Iterator[type[FaultyStorage]]:
    yield FaultyStorage
    FaultyStorage.left = math.inf
    FaultyStorage.answers.set()


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The undisturbed run."""
    return train(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="session")
def states(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """A run after each of its checkpoints, each in a separate folder."""
    folder = tmp_path_factory.mktemp("states")
    found = []
    for steps in (32, 64, 96):
        run = train(folder / "run", steps=steps) if not found else resume(folder / "run", steps=steps)[0]
        found.append(Run(shutil.copytree(run.path, folder / f"after-{steps}" / "run")))
    return found
