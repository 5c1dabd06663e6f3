"""Where a run comes from stands in its config.json, and how it went on."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asyncrl.api import configure
from asyncrl.launch import resume, start
from asyncrl.runs import provenance as module
from asyncrl.runs.lookup import open_run
from asyncrl.runs.provenance import describe_provenance, provenance

SMALL: dict[str, Any] = dict(steps=192, actors=3, envs_per_actor=4, t_max=8, eval_episodes=0, engine="serial")


def git(folder: Path, *words: str) -> str:
    options = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    return subprocess.run(["git", *options, *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_of_the_working_directory_is_noted_and_whether_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance()["git"] is None
    git(tmp_path, "init", "-q")
    assert provenance()["git"] is None, "there is no commit yet"
    (tmp_path / "train.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    assert provenance()["git"] == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "train.py").write_text("2")
    assert provenance()["git"]["dirty"] is True


@pytest.mark.parametrize("script", ["exec sleep 60", "exit 3", None])
def test_a_run_does_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None) -> None:
    if script is not None:
        (tmp_path / "git").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin" if script else str(tmp_path))
    monkeypatch.setattr(module, "_GIT_TIMEOUT", 0.2)
    assert provenance()["git"] is None


def test_a_run_notes_where_it_comes_from_and_each_time_it_goes_on(tmp_path: Path) -> None:
    run, _ = start(configure("worlds:Corridor-v0", "a3c", **SMALL), tmp_path / "run")
    made = json.loads((run.path / "config.json").read_text())
    assert made["command"] == sys.orig_argv
    assert datetime.datetime.fromisoformat(made["date"]).tzinfo is not None
    assert {"python", "os", "cpu", "cores"} <= made["machine"].keys()
    resume(run.path, steps=384, engine="threads")
    resume(run.path, steps=480)
    noted = json.loads((run.path / "config.json").read_text())
    assert {name: noted[name] for name in made} == made
    assert [entry["changes"] for entry in noted["resumed"]] == [
        {"steps": [192, 384], "engine": ["serial", "threads"]},
        {"steps": [384, 480]},
    ]
    assert [entry["step"] for entry in noted["resumed"]] == [192, 384]
    assert all({"date", "command", "git", "machine", "packages"} <= entry.keys() for entry in noted["resumed"])
    first, second = (line for line in describe_provenance(noted) if line.startswith("resumed"))
    assert first.endswith(", steps 192 → 384, engine serial → threads")
    assert "at step 384, " in second
    noted["resumed"] = [{"step": 14_336, "date": "now", "changes": {"steps": [200_000, None]}}]
    assert describe_provenance(noted)[-1].endswith(" at step 14,336, now, steps 200,000 → None")


@pytest.mark.parametrize(
    "facts",
    [{}, {"git": 3, "machine": [], "command": {}, "resumed": 7}, {"resumed": [3, {"changes": []}], "date": "\x1b[2J"}],
)
def test_old_and_foreign_folders_are_described_as_far_as_they_say_something(facts: dict[str, Any]) -> None:
    assert all(line.isprintable() for line in describe_provenance(facts))


def test_a_run_whose_config_json_says_nothing_of_that_goes_on(tmp_path: Path) -> None:
    run, _ = start(configure("worlds:Corridor-v0", "a3c", **SMALL), tmp_path / "run")
    (run.path / "config.json").write_text('{"asyncrl": "0.1.0"}')
    resume(run.path, steps=384)
    assert open_run(run.path).facts()["resumed"][0]["step"] == 192
