"""Divergence: its weights are not kept, and a run can continue from before it, automatically or on request."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from interrupted_runs import Listener, outline, states_of_kills, weights_of

from asyncrl.agents.agent import load
from asyncrl.api import configure
from asyncrl.errors import CheckpointError, DivergenceError, UsageError
from asyncrl.experience import Archive
from asyncrl.launch import newest_checkpoint, resume, start
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.checkpoints.divergence import MAX_REWINDS, recover
from asyncrl.runs.config.run_config import RunConfig
from asyncrl.runs.lookup import open_run
from asyncrl.runs.run import Run

BATCH = 96
SMALL: dict[str, Any] = dict(actors=3, envs_per_actor=4, eval_episodes=0, seed=5, engine="serial")
DIVERGING = SMALL | dict(steps=12 * BATCH, t_max=8, eval_episodes=2, log_every=BATCH, eval_every=3 * BATCH)
DIVERGING |= dict(checkpoint_every=2 * BATCH)
DIVERGING |= dict(gradient_clipping="none", learning_rate_schedule="constant", learning_rate=6.0)


def diverging(**settings: Any) -> RunConfig:
    """Least squares by gradient descent: with too large a rate, weights grow by a factor with every update."""
    return configure("worlds:Corridor-v0", "linear-q", **{**DIVERGING, **settings})


def rewinds(folder: Path) -> list[dict[str, Any]]:
    return [record for record in open_run(folder).records() if record["kind"] == "rewind"]


@pytest.fixture(scope="module")
def diverged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diverged") / "run"
    with pytest.raises(DivergenceError, match=r"norm of .* is saved in .*--resume .* --learning-rate X"):
        start(diverging(), folder)
    return folder


@pytest.fixture(scope="module")
def rewound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run on serial, which goes back twice."""
    folder = tmp_path_factory.mktemp("rewound") / "run"
    start(diverging(on_divergence="rewind"), folder)
    return folder


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        ("a3c", dict(learning_rate=1e30)),
        ("dqn", dict(learning_rate=1e30, learning_starts=100, capacity=600, batch_size=16)),
        ("linear-q", dict(gradient_clipping="none", learning_rate=1e8)),
        ("linear-q", dict(gradient_clipping="none", learning_rate=1e8, engine="hogwild")),
    ],
)
def test_what_diverged_is_neither_kept_nor_marked(tmp_path: Path, algorithm: str, settings: dict[str, Any]) -> None:
    saving = dict(steps=20 * BATCH, checkpoint_every=BATCH, eval_every=BATCH, eval_episodes=2)
    settings = {**SMALL, **saving, **settings}
    with pytest.raises(DivergenceError):
        start(configure("worlds:Corridor-v0", algorithm, **settings), tmp_path / "run")
    run = open_run(tmp_path / "run")
    saved = [checkpoint.load(path) for path in run.checkpoints()]
    assert all(float(one.weights().norm()) < 1e6 for one in saved)
    assert run.marked("latest") == saved[-1].path
    assert f"up to step {saved[-1].step:,} is saved" in (run.path / "log.txt").read_text()
    assert run.marked("best") in (None, *run.checkpoints())


def test_a_run_that_diverged_may_go_on_with_another_learning_rate_and_only_it(diverged: Path, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(diverged, tmp_path / "run")))
    with pytest.raises(DivergenceError):
        resume(run.path)
    view = Listener()
    _, outcome = resume(run.path, view, learning_rate=0.5)
    assert outcome is not None
    assert outcome.step == DIVERGING["steps"]
    said = "The learning rate changes from 6 to 0.5: results differ from the original run."
    assert said in view.said
    assert said in (run.path / "log.txt").read_text()
    assert newest_checkpoint(run).config.optimizer.learning_rate == 0.5
    with pytest.raises(UsageError, match="--learning-rate cannot change unless the run has diverged"):
        resume(run.path, steps=2 * DIVERGING["steps"], learning_rate=0.25)


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -1.0, 0.0])
def test_a_learning_rate_that_is_none_is_refused_before_anything_changes(diverged: Path, rate: float) -> None:
    before = weights_of(diverged), newest_checkpoint(open_run(diverged)).config
    with pytest.raises(UsageError, match="--learning-rate must be"):
        resume(diverged, learning_rate=rate)
    assert (weights_of(diverged), newest_checkpoint(open_run(diverged)).config) == before


def test_a_run_goes_back_and_on_with_half_the_rate_the_same_on_every_engine(rewound: Path, tmp_path: Path) -> None:
    for engine in ("threads", "processes"):
        _, outcome = start(diverging(on_divergence="rewind", engine=engine), tmp_path / engine)
        assert outcome.step == DIVERGING["steps"]
        assert outline(tmp_path / engine) == outline(rewound)
        assert weights_of(tmp_path / engine) == weights_of(rewound)
    back = rewinds(rewound)
    assert [record["number"] for record in back] == [1, 2]
    assert [record["learning_rate"] for record in back] == [3.0, 1.5]
    assert all(record["step"] < record["diverged"] for record in back)
    assert newest_checkpoint(open_run(rewound)).config.optimizer.learning_rate == back[-1]["learning_rate"]
    log = (rewound / "log.txt").read_text()
    assert all(f"with --learning-rate {record['learning_rate']:g} (rewind {record['number']})" in log for record in back)


def test_where_a_run_goes_back_to_does_not_depend_on_when_it_was_interrupted(rewound: Path, tmp_path: Path) -> None:
    """It is stopped twice before it goes back, and once between that and the next time."""
    run, outcome = start(diverging(on_divergence="rewind"), tmp_path / "stopped", Listener(3))
    assert outcome.signal == signal.SIGTERM
    for update in (7, 10):
        resume(run.path, Listener(update))
    assert len(rewinds(run.path)) == 1
    resume(run.path)
    assert outline(run.path) == outline(rewound)
    assert weights_of(run.path) == weights_of(rewound)


def test_wherever_a_run_that_goes_back_is_killed_it_ends_as_the_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rare = dict(checkpoint_every=4 * BATCH, log_every=4 * BATCH, eval_every=6 * BATCH, eval_episodes=1, learning_rate=4.0)
    states = states_of_kills(diverging(on_divergence="rewind", **rare), tmp_path, monkeypatch)
    expected, weights = outline(tmp_path / "run"), weights_of(tmp_path / "run")
    assert [record["number"] for record in expected["others"] if record["kind"] == "rewind"] == [1]
    lengths = [len(open_run(folder).records()) for folder in states]
    back = next(i for i, (before, after) in enumerate(itertools.pairwise(lengths)) if after < before)
    for folder in states[back - 4 : back + 3]:
        resume(folder)
        assert outline(folder) == expected
        assert weights_of(folder) == weights


def test_it_goes_back_a_bounded_number_of_times(tmp_path: Path) -> None:
    config = configure("worlds:Exploding-v0", "a3c", on_divergence="rewind", **SMALL, steps=10 * BATCH)
    with pytest.raises(DivergenceError, match="not finite at update 0"):
        start(config, tmp_path / "run")
    assert [record["number"] for record in rewinds(tmp_path / "run")] == list(range(1, MAX_REWINDS + 1))


@pytest.mark.parametrize("keep", [1, 2])
def test_it_goes_back_only_to_checkpoints_whose_replay_files_are_there(tmp_path: Path, keep: int) -> None:
    """The best checkpoint may lack them: its weights are kept for acting."""
    replayed = dict(learning_starts=48, capacity=96, batch_size=8, checkpoint_every=BATCH, on_divergence="rewind")
    config = configure("worlds:Corridor-v0", "dqn", **SMALL | replayed, keep_checkpoints=keep, steps=6 * BATCH)
    run, _ = start(replace(config, steps=BATCH, eval_episodes=2), tmp_path / "run")
    resume(run.path, steps=config.steps, eval_episodes=0)
    best = checkpoint.load(run.path / "checkpoints" / run.marked("best").name)
    assert best.step == BATCH
    with pytest.raises(CheckpointError, match="is missing"):
        Archive.verify(run.replay_folder, best.replay)
    for _ in range(keep + 2):
        newest = newest_checkpoint(run)
        back = recover(run, newest.config, DivergenceError("The weights exploded.", newest.update + 1, newest.step + BATCH))
        assert back is not None
        Archive.verify(run.replay_folder, back.replay)
        assert newest_checkpoint(run) == back
    assert len(back.rewinds) == keep + 2


def test_a_run_that_is_to_go_back_but_has_no_scheduled_checkpoint_goes_back_to_another_one(tmp_path: Path) -> None:
    """It was made without `--on-divergence rewind`, and kept only the checkpoints of its end and its best evaluation."""
    config = diverging(checkpoint_every=100 * BATCH, keep_checkpoints=1, eval_every=BATCH)
    run, _ = start(replace(config, steps=2 * BATCH), tmp_path / "run")
    assert not any(checkpoint.load(path).scheduled for path in run.checkpoints())
    _, outcome = resume(run.path, steps=config.steps, on_divergence="rewind")
    assert outcome is not None
    assert outcome.step == config.steps
    assert rewinds(run.path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_weights_that_have_diverged_are_not_played_with(tmp_path: Path, value: float) -> None:
    """Whoever wrote them: their hashes are right."""
    run, _ = start(
        configure("worlds:Corridor-v0", "a3c", steps=2 * BATCH, checkpoint_every=BATCH, **SMALL), tmp_path / "run"
    )
    newest = newest_checkpoint(run)
    names = [name.removesuffix(".safetensors") for name in newest.files]
    tensors = {name: newest.tensors(name) for name in names}
    tensors["weights"] = {name: torch.full_like(tensors["weights"][name], value) for name in newest.parameters}
    facts: dict[str, Any] = {n: getattr(newest, n) for n in ("step", "update", "seconds", "contract", "config")}
    checkpoint.save(newest.path, tensors, **facts)
    with pytest.raises(
        CheckpointError,
        match=r"weights.safetensors (holds weights of a run that diverged|has numbers in .* that are not finite)",
    ):
        load(newest.path)
    assert newest_checkpoint(run).step < newest.step
    manifest = json.loads((newest.path / "manifest.json").read_text())
    assert manifest["step"] == newest.step
