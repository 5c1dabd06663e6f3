"""Callbacks, sinks and patience: they see every record, and may end a run but not change its weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asyncrl
from asyncrl import Evaluate, Save, SinkWarning, Stop, UsageError
from asyncrl.runs.overview import overview
from asyncrl.runs.run_state import RunState

ENV = "worlds:Corridor-v0"
BATCH = 48
SETTINGS: dict[str, Any] = dict(
    steps=BATCH * 10, actors=2, envs_per_actor=3, t_max=8, rollouts_per_update=2, eval_episodes=2, seed=5, log_every=BATCH
)
SETTINGS |= dict(engine="serial", eval_every=BATCH * 3)


def weights_of(run: asyncrl.Run) -> str:
    latest = run.marked("latest")
    assert latest is not None
    return str(json.loads((latest / "manifest.json").read_text())["weights_sha256"])


def at(kind: str, step: int, answer: Any) -> Callable[[dict[str, Any]], Any]:
    """A callback with an answer to the first record of a kind at or after a step."""
    given = []

    def callback(record: dict[str, Any]) -> Any:
        if not given and record["kind"] == kind and record["step"] >= step:
            given.append(record)
            return answer
        return None

    return callback


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> asyncrl.Run:
    return asyncrl.train(ENV, "a3c", run_dir=tmp_path_factory.mktemp("callbacks") / "run", **SETTINGS)


def test_a_callback_sees_every_record_in_order_and_cannot_change_it(tmp_path: Path, plain: asyncrl.Run) -> None:
    seen = []

    def spoil(record: dict[str, Any]) -> None:
        record.get("returns", []).append(1e9)
        record.clear()

    run = asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", callbacks=[spoil, seen.append], **SETTINGS)
    assert seen == run.records()
    assert {record["kind"] for record in seen} == {"train", "episode", "eval", "stages", "verdict"}
    assert weights_of(run) == weights_of(plain)


def test_a_stopped_run_says_why_and_goes_on_as_if_it_had_not_been(tmp_path: Path, plain: asyncrl.Run) -> None:
    callback = at("train", 4 * BATCH, Stop("enough"))
    run = asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", callbacks=[callback], **SETTINGS)
    assert [record["step"] for record in run.records() if record["kind"] == "stop"] == [4 * BATCH]
    assert [record["kind"] for record in run.records()[-2:]] == ["eval", "verdict"]  # of the last weights
    assert run.stopped_because == "enough"
    assert not run.interrupted
    again = asyncrl.resume(run)
    assert again.stopped_because is None
    assert weights_of(again) == weights_of(plain)


def test_a_callback_may_ask_for_an_evaluation_and_a_checkpoint(tmp_path: Path, plain: asyncrl.Run) -> None:
    callbacks = [at("train", BATCH, Evaluate()), at("train", 2 * BATCH, Save())]
    run = asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", callbacks=callbacks, keep_checkpoints=10, **SETTINGS)
    assert run.metrics("eval")["step"][:2] == [BATCH, 3 * BATCH]
    assert run.checkpoint_path(2 * BATCH) in run.checkpoints()
    assert weights_of(run) == weights_of(plain)


def test_an_evaluation_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    settings = {**SETTINGS, "eval_episodes": 0}
    del settings["eval_every"]
    with pytest.raises(UsageError, match="a callback asks for an evaluation, but --eval-episodes is 0"):
        asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", callbacks=[at("train", 0, Evaluate())], **settings)


@pytest.mark.parametrize("kind", [LookupError, ConnectionRefusedError, StopIteration])
def test_what_a_callback_raises_is_raised_after_the_run_is_saved(
    tmp_path: Path, plain: asyncrl.Run, kind: type[Exception]
) -> None:
    def fail(record: dict[str, Any]) -> None:
        if record["kind"] == "train" and record["step"] == 4 * BATCH:
            raise kind("no such thing")

    with pytest.raises(kind, match="no such thing") as caught:
        asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", callbacks=[fail], **SETTINGS)
    assert caught.value.__notes__[0].endswith(f"fail at step {4 * BATCH:,}")
    assert weights_of(asyncrl.resume(tmp_path / "run")) == weights_of(plain)


@pytest.mark.parametrize("answer", [True, "stop", Stop])
def test_an_answer_that_is_none_is_refused(tmp_path: Path, answer: Any) -> None:
    with pytest.raises(UsageError, match=r'must return None, Stop\("reason"\), Evaluate\(\) or Save\(\), not'):
        asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", callbacks=[at("train", 0, answer)], **SETTINGS)


def test_what_is_no_callback_and_no_sink_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a callback is a function of a record"):
        asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", callbacks=[Stop("now")], **SETTINGS)  # type: ignore[list-item]
    with pytest.raises(UsageError, match=r"callbacks is a list: callbacks=\[…\], not <built-in function print>"):
        asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", callbacks=print, **SETTINGS)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"a sink is an object with the method write\(record\), not \[\]"):
        asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", sinks=[[]], **SETTINGS)  # type: ignore[list-item]
    assert not (tmp_path / "run").exists()


class Listing:
    """A sink that keeps what it gets, and fails at a record of a kind."""

    def __init__(self, fails_at: str = "") -> None:
        self.records: list[dict[str, Any]] = []
        self.closed = False
        self._fails_at = fails_at

    def write(self, record: dict[str, Any]) -> None:
        if record["kind"] == self._fails_at:
            raise RuntimeError("out of paper")
        self.records.append(record)

    def close(self) -> None:
        self.closed = True


def test_a_sink_that_raises_is_dropped_and_the_others_get_everything(tmp_path: Path, plain: asyncrl.Run) -> None:
    failing, whole = Listing("eval"), Listing()
    with pytest.warns(SinkWarning, match="the sink Listing raised RuntimeError: out of paper; it gets no more") as warned:
        run = asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", sinks=[failing, whole], **SETTINGS)
    assert len(warned) == 1
    assert whole.records == run.records()
    assert 0 < len(failing.records) < len(whole.records)
    assert (failing.closed, whole.closed) == (False, True)
    assert weights_of(run) == weights_of(plain)


def test_patience_ends_a_run_and_more_of_it_continues_the_run(tmp_path: Path) -> None:
    """A random policy does not get better: evaluations of one seed are all the same."""
    settings = dict(steps=480, actors=1, envs_per_actor=2, engine="serial", eval_episodes=2, eval_every=48)
    run = asyncrl.train(ENV, "random", run_dir=tmp_path / "run", patience=3, **settings)
    steps = run.metrics("eval")["step"]
    assert len(steps) == 4
    assert run.stopped_because == "3 evaluations in a row without a better mean return (--patience)"
    assert asyncrl.resume(run).metrics("eval")["step"] == steps  # it is complete
    assert len(asyncrl.resume(run, patience=5).metrics("eval")["step"]) == 6


@pytest.mark.parametrize("engine", ["serial", pytest.param("hogwild", marks=pytest.mark.slow)])
def test_a_target_return_ends_a_run_that_says_so(tmp_path: Path, engine: str) -> None:
    settings: dict[str, Any] = dict(
        steps=200_000, actors=1, envs_per_actor=2, engine=engine, eval_episodes=2, eval_every=48
    )
    run = asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", target_return=-10.0, patience=1, **settings)
    steps, means = run.metrics("eval")["step"], run.metrics("eval")["mean"]
    assert len(steps) == 1
    assert run.stopped_because == f"the mean return {means[0]:g} reached the target -10 (--target-return)"
    assert run.metrics("stop")["step"] == steps
    assert f"Stopped at step {steps[0]:,}: {run.stopped_because}" in (run.path / "log.txt").read_text()
    assert overview(run.path).state is RunState.FINISHED
    again = asyncrl.resume(run, target_return=1e9, patience=None, steps=2 * steps[0])
    assert again.stopped_because is None


def test_a_target_that_the_last_evaluation_reaches_ends_nothing_early(tmp_path: Path) -> None:
    settings: dict[str, Any] = dict(steps=480, actors=1, envs_per_actor=2, engine="serial", eval_episodes=2, eval_every=480)
    run = asyncrl.train(ENV, "random", run_dir=tmp_path / "run", target_return=-10.0, **settings)
    assert len(run.metrics("eval")["step"]) == 1
    assert (run.stopped_because, run.metrics("stop")) == (None, {})


def test_patience_survives_a_stop(tmp_path: Path) -> None:
    settings: dict[str, Any] = dict(steps=480, actors=1, envs_per_actor=2, engine="serial", eval_episodes=2, eval_every=48)
    callback = at("eval", 96, Stop("for now"))
    run = asyncrl.train(ENV, "random", run_dir=tmp_path / "run", patience=3, callbacks=[callback], **settings)
    assert run.stopped_because == "for now"
    assert len(asyncrl.resume(run).metrics("eval")["step"]) == 4


def test_patience_without_evaluations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--patience has no effect without evaluations during the run; add --eval-every N"):
        asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", patience=3, steps=480)


def test_so_is_patience_in_a_resumed_run(plain: asyncrl.Run) -> None:
    with pytest.raises(UsageError, match=r"--patience has no effect without evaluations during the run; add --eval-every"):
        asyncrl.resume(plain, steps=BATCH * 20, patience=3, eval_every=0)


@pytest.mark.slow
def test_a_callback_ends_hogwild_too(tmp_path: Path) -> None:
    settings = SETTINGS | dict(engine="hogwild", steps=200_000, eval_every=0)
    del settings["rollouts_per_update"]
    callback = at("train", BATCH, Stop("enough"))
    run = asyncrl.train(ENV, "a3c", run_dir=tmp_path / "run", callbacks=[callback], **settings)
    assert run.stopped_because == "enough"
    stop = run.metrics("stop")["step"][0]
    assert int(run.checkpoints()[-1].name) == stop < 200_000


def test_metrics_are_columns_of_equal_length(plain: asyncrl.Run) -> None:
    table = plain.metrics("train")
    assert table["step"] == [BATCH * (update + 1) for update in range(10)]
    assert {len(column) for column in table.values()} == {10}
    assert np.array(table["mean_return"], dtype=float).dtype == float  # None becomes NaN
    assert plain.metrics("rewind") == {}
