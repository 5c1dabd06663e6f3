"""Runs at a glance, and as the table of `asyncrl list runs`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from asyncrl.cli.run_table import run_table
from asyncrl.common.file_lock import file_lock
from asyncrl.errors import UsageError
from asyncrl.runs.overview import find_runs, overview
from asyncrl.runs.run_state import RunState


def record(step: int, kind: str, **values: Any) -> dict[str, Any]:
    return {"step": step, "update": step // 10, "time": 1.0, "kind": kind, **values}


def made(path: Path, *records: dict[str, Any], **config: Any) -> Path:
    path.mkdir(parents=True)
    facts = {"env": "CartPole-v1", "steps": 1_000, "seed": 3, "algorithm": {"name": "my_module:NotImported"}, **config}
    (path / "config.json").write_text(json.dumps({"config": facts}))
    (path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


HALF = (record(500, "train", mean_return=20.0), record(500, "eval", mean=30.0))
WHOLE = (*HALF, record(1_000, "train", mean_return=25.0), record(1_000, "eval", mean=28.0))


@pytest.mark.parametrize(
    ("records", "config", "state"),
    [
        (WHOLE, {}, RunState.FINISHED),
        (HALF, {}, RunState.CRASHED),
        ((), {}, RunState.CRASHED),
        (HALF, {"target_return": 29.0}, RunState.FINISHED),
        ((*HALF, record(500, "stop", reason="enough")), {}, RunState.STOPPED),
        ((*HALF, record(500, "stop", reason="enough"), record(500, "eval", mean=31.0)), {}, RunState.STOPPED),
        ((*HALF, record(500, "stop", reason="the mean return 30 reached …")), {"target_return": 29.0}, RunState.FINISHED),
        ((*HALF[:1], record(400, "stop", reason="enough"), *HALF[1:]), {}, RunState.CRASHED),
        ((record(0, "pretrain"),), {}, RunState.CRASHED),
    ],
)
def test_the_state_follows_from_the_last_records(tmp_path: Path, records: Any, config: Any, state: RunState) -> None:
    assert overview(made(tmp_path / "run", *records, **config)).state is state


def test_an_imitation_is_finished_once_its_weights_are_saved_and_goes_on_as_training(tmp_path: Path) -> None:
    imitated = made(tmp_path / "imitated", record(0, "pretrain"))
    (imitated / "latest").write_text("000000000000\n")
    assert overview(imitated).state is RunState.FINISHED
    continued = made(tmp_path / "continued", record(0, "pretrain"), *HALF)
    (continued / "latest").write_text("000000000500\n")
    assert overview(continued).state is RunState.CRASHED


def test_a_run_that_was_extended_is_finished_at_its_new_end(tmp_path: Path) -> None:
    run = made(tmp_path / "run", *WHOLE)
    facts = json.loads((run / "config.json").read_text())
    resumed = [{"step": 1_000, "changes": {"steps": [1_000, 2_000]}}]
    (run / "config.json").write_text(json.dumps(facts | {"resumed": resumed}))
    found = overview(run)
    assert (found.steps, found.state) == (2_000, RunState.CRASHED)


def test_a_locked_run_is_running_and_one_stopped_by_a_signal_interrupted(tmp_path: Path) -> None:
    run = made(tmp_path / "run", *HALF)
    (run / "interrupted").write_text("SIGTERM\n")
    assert overview(run).state is RunState.INTERRUPTED
    with file_lock(run / ".lock"):
        assert overview(run).state is RunState.RUNNING


def test_scores_are_those_of_evaluations_or_else_of_training(tmp_path: Path) -> None:
    found = overview(made(tmp_path / "one", *WHOLE))
    assert (found.best, found.last, found.step, found.steps, found.seed) == (30.0, 28.0, 1_000, 1_000, 3)
    found = overview(made(tmp_path / "two", HALF[0]))
    assert (found.best, found.last) == (20.0, 20.0)


def test_runs_are_found_below_a_folder_the_newest_first(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "study/runs/CartPole-v1/ppo/seed-1", "old")):
        run = made(tmp_path / name, *WHOLE)
        for file in run.iterdir():
            os.utime(file, (1e9 - age, 1e9 - age))
    assert [str(run.path.relative_to(tmp_path)) for run in find_runs(tmp_path)] == [
        "new",
        "study/runs/CartPole-v1/ppo/seed-1",
        "old",
    ]


def test_the_table_fits_into_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    made(tmp_path / "a-run-with-a-long-name-that-says-what-was-tried-in-it", *WHOLE, env="SomePackage/WithALongName-v0")
    made(tmp_path / "b", *HALF)
    lines = list(run_table(find_runs(tmp_path), tmp_path))
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["run", "algorithm", "environment", "steps", "best", "last", "state", "age"]
    assert "1k/1k" in "".join(lines)
    assert "crashed" in "".join(lines)


def test_a_folder_without_runs_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there are no runs in .*: asyncrl train ALGO ENV makes one"):
        find_runs(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(UsageError, match=r"there is no folder .*rums; did you mean .*runs"):
        find_runs(tmp_path / "rums")
