"""A resumed run equals an uninterrupted one: same schedule, same counters, no record twice."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from interrupted_runs import BATCH, SMALL, UPDATES, Listener, damage, recorded, weights_of
from worlds import Corridor

from asyncrl import launch
from asyncrl.api import configure, load
from asyncrl.envs import describe
from asyncrl.errors import CheckpointError, SystemFault, UsageError
from asyncrl.launch import newest_checkpoint, resume, start
from asyncrl.runs.checkpoints import checkpoint
from asyncrl.runs.components import make_learner
from asyncrl.runs.config.changes import annealed_anew
from asyncrl.runs.config.run_config import EngineKind
from asyncrl.runs.lookup import open_run
from asyncrl.runs.run import Run

STOPPED = 7


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after update 7 of 20."""
    folder = tmp_path_factory.mktemp("resume") / "run"
    _, outcome = start(configure("worlds:Corridor-v0", "a3c", **SMALL), folder, Listener(STOPPED))
    assert (outcome.signal, outcome.update) == (signal.SIGTERM, STOPPED)
    return folder


@pytest.fixture
def copied(interrupted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(interrupted, tmp_path / "copy"))


def trained(folder: Path) -> list[dict[str, Any]]:
    return recorded(folder, "train")


def save(path: Path, tensors: dict[str, dict[str, torch.Tensor]], like: checkpoint.Checkpoint) -> None:
    facts: dict[str, Any] = {n: getattr(like, n) for n in ("step", "update", "seconds", "contract", "config", "replay")}
    checkpoint.save(path, {**tensors, "weights": {n: tensors["weights"][n] for n in like.parameters}}, **facts)


SHORT = {**SMALL, "steps": 768, "log_every": 1}
del SHORT["t_max"]
TRANSITIONS: dict[str, Any] = dict(learning_starts=100, capacity=240, batch_size=16, replay_ratio=0.1)
SEQUENCES: dict[str, Any] = dict(recurrent="lstm", recurrent_size=8, sequence_length=4, burn_in=2)
STORED: dict[str, Any] = dict(TRANSITIONS, n_step=3)
NORMALIZED: dict[str, Any] = dict(normalize_observation=True, normalize_return=True)
PIXELS: dict[str, Any] = dict(STORED, steps=120, learning_starts=20, network="a3c-cnn", learner_threads=1, actors=1)


@pytest.mark.parametrize(
    ("env", "algorithm", "settings"),
    [
        ("worlds:Corridor-v0", "a3c", dict(steps=480, lag=2, publish_every=2)),
        ("CartPole-v1", "a3c", dict(t_max=8, recurrent="lstm", recurrent_size=8, engine="processes")),
        ("CartPole-v1", "one-step-sarsa", dict(steps=480)),
        ("CartPole-v1", "reinforce", dict(steps=2000, longest_episode=50)),
        ("CartPole-v1", "pqn", dict(recurrent="gru", recurrent_size=8, t_max=8, minibatches=2)),
        ("CartPole-v1", "pqn", dict(noisy=True, t_max=8, minibatches=2)),
        ("CartPole-v1", "dqn", dict(STORED, steps=400, prioritized=True, noisy=True)),
        (
            "CartPole-v1",
            "c51",
            dict(STORED, steps=60, env_backend="async", envs_per_actor=1, actors=1, learning_starts=20),
        ),
        ("Pendulum-v1", "ppo", dict(epochs=2, t_max=8)),
        ("CartPole-v1", "iqn", dict(STORED, steps=400, quantile_samples=8, target_samples=8, munchausen=True)),
        ("CartPole-v1", "dqn", dict(TRANSITIONS, **SEQUENCES, steps=400, prioritized=True)),
        ("Pendulum-v1", "td3", dict(TRANSITIONS, steps=400, policy_delay=3)),
        ("Pendulum-v1", "sac", dict(TRANSITIONS, steps=400, prioritized=True)),
        ("masked_envs:Moves", "sac-discrete", dict(TRANSITIONS, steps=400)),
        ("CartPole-v1", "ppo", dict(epochs=2, t_max=8, learning_rate_schedule="kl", target_kl=1e-4)),
        ("masked_envs:Moves", "ppo", dict(epochs=2, t_max=7, recurrent="lstm", recurrent_size=8)),
        ("masked_envs:ByObservation", "dqn", dict(STORED, steps=400, prioritized=True)),
        ("CartPole-v1", "ppo", dict(epochs=2, t_max=8, normalize_value=True, **NORMALIZED)),
        ("CartPole-v1", "one-step-sarsa", dict(steps=480, lag=2, **NORMALIZED)),
        ("CartPole-v1", "dqn", dict(STORED, steps=400, target_every=0, tau=0.1, **NORMALIZED)),
        ("VizdoomBasic-v1", "dqn", dict(PIXELS, envs_per_actor=1)),
        ("ALE/Breakout-v5", "dqn", dict(PIXELS, t_max=8, envs_per_actor=2, life_loss=True, noop_max=5)),
    ],
)
def test_a_run_that_was_interrupted_is_the_run_that_was_not(
    tmp_path: Path, env: str, algorithm: str, settings: dict[str, Any]
) -> None:
    """The same weights and the same episodes with the same returns, after two stops in mid-episode."""
    config = configure(env, algorithm, **{**SHORT, **settings})
    start(config, tmp_path / "whole")
    run, outcome = start(config, tmp_path / "stopped", Listener(3))
    assert outcome.signal == signal.SIGTERM
    _, outcome = resume(run.path, Listener(6))
    assert outcome is not None
    assert outcome.signal == signal.SIGTERM
    resume(run.path)
    assert weights_of(run.path) == weights_of(tmp_path / "whole")
    played, whole = (
        [(r["step"], r["actor"], r["env"], r["return"], r["length"]) for r in recorded(folder, "episode")]
        for folder in (run.path, tmp_path / "whole")
    )
    assert played == whole


def test_a_run_whose_checkpoint_failed_halfway_is_saved_again_and_resumes_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure("CartPole-v1", "dqn", **{**SHORT, **STORED, "steps": 400})
    start(config, tmp_path / "whole")
    mark, full = Run.mark, [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]

    def mark_once_full(self: Run, name: str, path: Path) -> None:
        if path.name == "000000000192" and full:
            raise full.pop()
        mark(self, name, path)

    monkeypatch.setattr(Run, "mark", mark_once_full)
    with pytest.raises(SystemFault, match="resume from step 192"):
        start(config, tmp_path / "failed")
    assert not full
    resume(tmp_path / "failed")
    assert weights_of(tmp_path / "failed") == weights_of(tmp_path / "whole")


@pytest.mark.parametrize("update", [1, 2])
def test_a_run_that_was_interrupted_before_every_actor_was_heard_is_the_run_that_was_not(
    tmp_path: Path, update: int
) -> None:
    """Actors whose first rollout was not consumed yet start again from their first seeds."""
    config = configure("worlds:Corridor-v0", "a3c", **{**SHORT, "rollouts_per_update": 1})
    start(config, tmp_path / "whole")
    run, _ = start(config, tmp_path / "stopped", Listener(update))
    view = Listener()
    resume(run.path, view)
    assert weights_of(run.path) == weights_of(tmp_path / "whole")
    assert not [line for line in view.said if line.startswith("New episodes")]


@pytest.mark.parametrize("env", ["worlds:Forgetful", "masked_envs:Unseeded"])
def test_environments_that_do_not_come_back_begin_new_episodes_and_it_is_said(tmp_path: Path, env: str) -> None:
    config = configure(env, "dqn", **{**SHORT, **STORED})
    run, _ = start(config, tmp_path / "run", Listener(STOPPED))
    view = Listener()
    _, outcome = resume(run.path, view)
    assert outcome is not None
    assert outcome.step >= SHORT["steps"]
    said = [line for line in view.said if line.startswith("New episodes")]
    assert said == ["New episodes for actors 0, 1, 2: their environments cannot be restored."]


def test_what_follows_depends_on_the_checkpoint_alone_on_every_engine(interrupted: Path, tmp_path: Path) -> None:
    hashes = []
    for i, engine in enumerate([EngineKind.SERIAL, EngineKind.SERIAL, EngineKind.PROCESSES, EngineKind.PROCESSES]):
        folder = Path(shutil.copytree(interrupted, tmp_path / str(i)))
        resume(folder, engine=engine)
        hashes.append(weights_of(folder))
    assert len(set(hashes)) == 1, hashes
    assert hashes[0] != weights_of(interrupted)


def test_counters_time_and_annealing_go_on_where_they_stopped(copied: Path) -> None:
    _, outcome = resume(copied)
    assert outcome is not None
    assert (outcome.update, outcome.step) == (UPDATES, BATCH * UPDATES)
    records = trained(copied)
    assert [r["update"] for r in records] == list(range(1, UPDATES + 1))
    assert [r["step"] for r in records] == [BATCH * r["update"] for r in records]
    assert [r["learning_rate"] for r in records] == pytest.approx(
        [7e-4 * (1 - k / UPDATES) for k in range(UPDATES)], rel=1e-5
    )
    times = [r["time"] for r in records]
    assert times == sorted(times)


def test_a_learner_that_was_restored_is_saved_as_the_same_files(copied: Path, tmp_path: Path) -> None:
    found = newest_checkpoint(open_run(copied))
    config = found.config
    learner = make_learner(dataclasses.replace(config, seed=99), found.contract)
    learner.restore({name: found.tensors(name) for name in ("weights", "optimizer")}, found.update, found.step)
    save(tmp_path / "again", learner.state(), found)
    again = checkpoint.load(tmp_path / "again")
    of_others = {"recent.safetensors", "actors.safetensors", "episodes.safetensors"}
    assert again.files == {name: facts for name, facts in found.files.items() if name not in of_others}


def test_a_checkpoint_holds_the_older_weights_that_rollouts_in_the_making_were_ordered_with(copied: Path) -> None:
    before, newest = map(checkpoint.load, open_run(copied).checkpoints()[-2:])
    recent = newest.tensors("recent")
    assert (before.update, newest.update, list(recent)) == (STOPPED - 1, STOPPED, [str(STOPPED - 1)])
    assert torch.equal(recent[str(STOPPED - 1)], before.weights())


@pytest.mark.parametrize("forgotten", ["optimizer", "recent"])
def test_everything_that_is_saved_is_needed_to_go_on(interrupted: Path, tmp_path: Path, forgotten: str) -> None:
    whole, forgetful = (Path(shutil.copytree(interrupted, tmp_path / name)) for name in ("whole", "forgetful"))
    found = newest_checkpoint(open_run(forgetful))
    state = {name: found.tensors(name) for name in ("weights", "optimizer", "recent")}
    state[forgotten] = {name: torch.zeros_like(x) for name, x in state[forgotten].items()}
    save(found.path, state, found)
    for folder in (whole, forgetful):
        resume(folder)
    assert weights_of(whole) != weights_of(forgetful)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken_and_no_update_is_recorded_twice(copied: Path) -> None:
    before, newest = open_run(copied).checkpoints()[-2:]
    bad, view = damage(newest), Listener()
    assert newest_checkpoint(open_run(copied)).path == before
    resume(copied, view)
    assert any(str(bad) in line and "damaged" in line and "the one before" in line for line in view.said), view.said
    assert [r["update"] for r in trained(copied)] == list(range(1, UPDATES + 1))


def test_without_a_whole_checkpoint_there_is_nothing_to_go_on_with(copied: Path) -> None:
    files = [damage(path) for path in open_run(copied).checkpoints()]
    with pytest.raises(CheckpointError) as caught:
        resume(copied)
    assert all(str(file) in str(caught.value) for file in files)
    assert str(caught.value).endswith(f"; asyncrl train --config {copied}/config.toml starts the run again")


def test_without_its_replay_buffer_a_run_leaves_its_weights(tmp_path: Path) -> None:
    run, _ = start(configure("worlds:Corridor-v0", "dqn", **SHORT, **TRANSITIONS), tmp_path / "run")
    for file in run.replay_folder.iterdir():
        file.write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        resume(run.path, steps=2 * SHORT["steps"])
    assert str(caught.value).endswith(f"; --init-from {run.checkpoints()[-1]} starts a new run from its weights")


def test_a_damaged_agent_is_refused_with_the_name_of_one_that_is_not(copied: Path) -> None:
    run = Run(copied)
    *_, before, newest = run.checkpoints()
    damage(newest)
    with pytest.raises(CheckpointError, match=f"{newest}/weights.* {before} is not damaged: name it instead$"):
        load(f"{copied}/latest")


@pytest.mark.parametrize("content", [None, "", "[]"], ids=["missing", "empty", "a list"])
def test_a_run_that_lost_its_configuration_gets_it_back_from_its_checkpoint(copied: Path, content: str | None) -> None:
    before = Run(copied).facts()
    (copied / "config.json").unlink()
    if content is not None:
        (copied / "config.json").write_text(content)
    assert load(copied).checkpoint.step == STOPPED * BATCH
    run, _ = resume(copied)
    assert [run.facts()[name] for name in ("config", "contract")] == [before[name] for name in ("config", "contract")]
    assert run.is_signed_by_user
    assert newest_checkpoint(run).update == UPDATES


def test_a_damaged_newer_checkpoint_does_not_crowd_out_the_ones_that_are_made_after_it(tmp_path: Path) -> None:
    config = configure("worlds:Corridor-v0", "a3c", **{**SMALL, "keep_checkpoints": 2})
    run, _ = start(config, tmp_path / "run")
    damage(run.checkpoints()[-1])
    resume(run.path, Listener(UPDATES - 1), keep_checkpoints=1)
    assert newest_checkpoint(run).update == UPDATES - 1


def test_a_run_that_a_signal_reaches_in_its_last_update_is_complete(tmp_path: Path) -> None:
    run, outcome = start(configure("worlds:Corridor-v0", "a3c", **SMALL), tmp_path / "run", Listener(UPDATES))
    assert outcome.signal == signal.SIGTERM
    assert run.interrupted
    assert resume(run.path)[1] is None
    assert not run.interrupted


def test_steps_lengthen_a_run_and_a_complete_one_says_so(copied: Path) -> None:
    resume(copied)
    complete = weights_of(copied)
    assert resume(copied)[1] is None
    assert weights_of(copied) == complete
    _, outcome = resume(copied, steps=BATCH * (UPDATES + 5))
    assert outcome is not None
    assert outcome.update == UPDATES + 5
    last = trained(copied)[-1]
    assert last["learning_rate"] == pytest.approx(7e-4 * (1 - (UPDATES + 4) / (UPDATES + 5)), rel=1e-5)


def test_a_learning_rate_that_rises_again_with_more_steps_is_said_to_change_the_results(copied: Path) -> None:
    resume(copied)
    view = Listener()
    resume(copied, view, steps=2 * BATCH * UPDATES)
    sentence = (
        "The learning rate, which falls over the whole run, rises from 3.5e-05 to 0.00035: results differ from those of a "
        f"run of {2 * BATCH * UPDATES:,} steps."
    )
    assert sentence in view.said
    assert open_run(copied).facts()["resumed"][-1]["notes"] == [sentence]


@pytest.mark.parametrize("settings", [dict(learning_rate_schedule="constant"), dict(anneal_steps=BATCH * 30)])
def test_one_that_does_not_depend_on_the_steps_is_not(settings: dict[str, Any]) -> None:
    before = configure("worlds:Corridor-v0", "a3c", **SMALL, **settings)
    longer = dataclasses.replace(before, steps=2 * before.steps)
    assert annealed_anew(before, longer, before.steps) == annealed_anew(before, before, before.steps) == []


@pytest.mark.parametrize("completed", [False, True])
def test_a_run_does_not_become_shorter_than_it_is(copied: Path, completed: bool) -> None:
    step = BATCH * STOPPED
    if completed:
        resume(copied)
        step = BATCH * UPDATES
    weights = weights_of(copied)
    with pytest.raises(
        UsageError,
        match=f"^--steps 10: the run has taken {step:,} steps already; --steps is its whole length "
        rf"\(it was {BATCH * UPDATES:,}\)$",
    ):
        resume(copied, steps=10)
    assert weights_of(copied) == weights
    assert newest_checkpoint(open_run(copied)).config.steps == BATCH * UPDATES


@pytest.mark.parametrize(
    ("env", "engine", "after", "said"),
    [
        ("ALE/Pong-v5", "processes", "ray", ["on the CPU and no longer on the GPU (--engine ray)"]),
        ("ALE/Pong-v5", "ray", "serial", ["on the GPU and no longer on the CPU (--engine serial)"]),
        ("ALE/Pong-v5", "serial", "processes", []),
        ("CartPole-v1", "serial", "ray", []),
    ],
)
def test_an_engine_that_acts_on_another_device_is_said_to_change_the_results(
    env: str, engine: str, after: str, said: list[str], tmp_path: Path
) -> None:
    before, now = (configure(env, "a3c", engine=one, device="cuda") for one in (engine, after))
    notes = launch._consequences(Run(tmp_path), before, now, describe(env, now.environment), {})
    assert notes == [f"Actions are chosen {how}: results differ from the original run." for how in said]


def test_a_run_is_not_continued_under_another_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def world(cap: int) -> EnvSpec:
        return EnvSpec("Changing-v0", entry_point=Corridor, max_episode_steps=cap)

    monkeypatch.setitem(gymnasium.registry, "Changing-v0", world(9))
    run, _ = start(configure("Changing-v0", "a3c", **SMALL), tmp_path / "run")
    monkeypatch.setitem(gymnasium.registry, "Changing-v0", world(8))
    with pytest.raises(UsageError, match="a different contract: episode_cap: 9, not 8"):
        resume(run.path, steps=BATCH * (UPDATES + 5))


@pytest.mark.parametrize(
    ("algorithm", "settings", "forgotten"),
    [
        ("n-step-q", dict(target_every=5 * BATCH), "target"),
        ("ppo", dict(epochs=2, minibatches=2), "optimizer"),
        ("a3c", dict(publish_every=3, lag=2, t_max=8), "recent"),
        ("dqn", dict(TRANSITIONS, n_step=2, prioritized=True), "replay"),
    ],
)
def test_target_networks_moments_priorities_and_published_weights_come_back(
    tmp_path: Path, algorithm: str, settings: dict[str, Any], forgotten: str
) -> None:
    config = configure("worlds:Corridor-v0", algorithm, **{**SMALL, **settings})
    run, _ = start(config, tmp_path / "run", Listener(STOPPED))
    whole, forgetful = (Path(shutil.copytree(run.path, tmp_path / name)) for name in ("whole", "forgetful"))
    found = newest_checkpoint(open_run(forgetful))
    state = {name.removesuffix(".safetensors"): found.tensors(name.removesuffix(".safetensors")) for name in found.files}
    forget = torch.sign if forgotten == "replay" else torch.zeros_like  # priorities: all alike
    state[forgotten] = {name: forget(x) for name, x in state[forgotten].items()}
    save(found.path, state, found)
    for folder in (whole, forgetful):
        resume(folder)
    assert weights_of(whole) != weights_of(forgetful)
    again = Path(shutil.copytree(run.path, tmp_path / "again"))
    resume(again)
    assert weights_of(again) == weights_of(whole)
