"""What a run folder holds at every moment at which the run may be killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from interrupted_runs import BATCH, SMALL, damage, outline, recorded, states_of_kills, weights_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from asyncrl.api import configure
from asyncrl.launch import resume, start
from asyncrl.runs.checkpoints import checkpoint


@pytest.mark.parametrize("engine", ["serial", "hogwild"])
def test_the_metrics_of_a_checkpoint_are_on_disk_before_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    left: dict[int, list[str]] = {}
    write = checkpoint.save

    def save(path: Path, tensors: Any, *, update: int, **facts: Any) -> None:
        left[update] = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        write(path, tensors, update=update, **facts)

    monkeypatch.setattr(checkpoint, "save", save)
    settings = {**SMALL, "engine": engine, "log_every": 10_000, "steps": 4_000, "checkpoint_every": 200}
    run, _ = start(configure("worlds:Corridor-v0", "a3c", **settings), tmp_path / "run")
    whole = [json.dumps(record) for record in run.records() if record["kind"] != "verdict"]  # is the last
    assert len(left) > 3
    assert len(whole) > 100
    for update, lines in left.items():
        assert lines == [line for line in whole if json.loads(line)["update"] <= update]


def test_tensorboard_forgets_what_was_drawn_after_the_checkpoint_that_a_run_goes_on_from(tmp_path: Path) -> None:
    run, _ = start(configure("worlds:Corridor-v0", "a3c", **SMALL), tmp_path / "run")
    for newer in run.checkpoints()[1:]:
        damage(newer)
    resume(run.path)
    events = EventAccumulator(str(run.path / "tensorboard")).Reload().Scalars("train/loss")
    assert [event.step for event in events] == [record["step"] for record in recorded(run.path, "train")]


@pytest.mark.parametrize("target_return", [None, -1.0])
def test_wherever_a_run_is_killed_it_ends_as_the_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target_return: float | None
) -> None:
    settings = SMALL | dict(
        log_every=2 * BATCH, steps=4 * BATCH, eval_every=2 * BATCH, checkpoint_every=3 * BATCH, eval_episodes=2
    )
    config = configure("worlds:Corridor-v0", "a3c", **settings, target_return=target_return)
    states = states_of_kills(config, tmp_path, monkeypatch)
    assert len(states) > (20 if target_return is None else 8)
    expected, weights = outline(tmp_path / "run"), weights_of(tmp_path / "run")
    for folder in states:
        resume(folder)
        assert outline(folder) == expected
        assert weights_of(folder) == weights
        assert resume(folder)[1] is None, "nothing is left to do"


@pytest.mark.parametrize("engine", ["serial", "hogwild"])
def test_a_run_is_complete_when_its_last_weights_are_evaluated(tmp_path: Path, engine: str) -> None:
    config = configure("worlds:Corridor-v0", "a3c", **{**SMALL, "eval_episodes": 3, "engine": engine})
    run, _ = start(config, tmp_path / "run")
    expected = outline(run.path)
    lines = (run.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert [json.loads(line)["kind"] for line in lines[-2:]] == ["eval", "verdict"]
    (run.path / "metrics.jsonl").write_text("".join(lines[:-2]))
    (run.path / "best").unlink()
    _, outcome = resume(run.path)
    assert outcome is not None
    assert outline(run.path) == expected
    assert resume(run.path)[1] is None
    _, outcome = resume(run.path, eval_episodes=4)
    assert outcome is not None
    assert outcome.evaluation is not None
    assert len(outcome.evaluation.returns) == 4, "as many as are asked for now"
