"""Crash capsules reproduce what they were written for, and damaged ones are refused."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from envs.supervised_workers import earlier_objects_are_left_out, nothing_is_left, played, supervised  # noqa: F401

from asyncrl.cli import main
from asyncrl.errors import EnvironmentFault


@pytest.fixture(scope="module")
def capsule_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("capsules")
    with supervised("Aborting", capsules=str(folder), restarts=0) as vector, contextlib.suppress(EnvironmentFault):
        played(vector, 5)
    (path,) = folder.iterdir()
    return path.read_text()


@pytest.fixture
def crashed(capsule_text: str, tmp_path: Path) -> Path:
    """A capsule of an abort in the fifth step."""
    path = tmp_path / "capsule.json"
    path.write_text(capsule_text)
    return path


def test_a_capsule_reproduces_the_crash(crashed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = json.loads(crashed.read_text())
    assert held["contract"]["env"] == "failing_envs:Aborting"
    assert (held["seed"], held["steps"], held["what"]) == (7, 5, "died with signal SIGABRT")
    assert len(held["actions"]) == 5
    assert "failing_envs.py" in held["traceback"], "Python's own words on a crash in native code"
    assert main(["repro", str(crashed)]) == 0
    printed = capsys.readouterr().out
    assert "failing_envs:Aborting died with signal SIGABRT (step 5 of the episode with seed 7)" in printed
    assert "in fail" in printed


def test_a_capsule_that_does_not_reproduce_is_reported(crashed: Path) -> None:
    crashed.write_text(
        crashed.read_text().replace('"kwargs": {}', '"kwargs": {"at": 4}').replace('"numpy": "', '"numpy": "0')
    )
    line = [sys.executable, "-m", "asyncrl", "repro", str(crashed), "--trust"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "This is a different failure: in the capsule it died with signal SIGABRT in step 5." in done.stdout
    assert "with numpy 0" in done.stdout
    crashed.write_text(crashed.read_text().replace('"at": 4', '"at": 9'))
    assert main(["repro", str(crashed), "--trust"]) == 1


DAMAGE = {
    "cannot be read as JSON": lambda text: text[:100],
    "is not a crash capsule: it lacks 'contract'": lambda text: "{}",
    "is not a crash capsule: it does not hold a JSON object": lambda text: "[1]",
    "seed: expected a whole number, got '7'": lambda text: text.replace('"seed": 7', '"seed": "7"'),
    "'kind' cannot be 'tired'": lambda text: text.replace('"kind": "died"', '"kind": "tired"'),
    "actions do not fit Discrete(3)": lambda text: text.replace('"actions": [', '"actions": ["left", '),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_damaged_capsule_is_refused_with_a_reason(
    crashed: Path, capsys: pytest.CaptureFixture[str], message: str
) -> None:
    crashed.write_text(DAMAGE[message](crashed.read_text()))
    assert main(["repro", str(crashed), "--trust"]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
