"""Several learners make the updates of one, and a run of theirs is as repeatable; one that dies ends the run."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from small_runs import asked, refusal

from asyncrl.algorithms import Loss
from asyncrl.algorithms.ppo import PPO
from asyncrl.api import configure
from asyncrl.common.sharding import current_shard
from asyncrl.engines.completed import TIMEOUT
from asyncrl.engines.learners import _connect
from asyncrl.errors import LearnerDied
from asyncrl.experience import PreparedBatch
from asyncrl.launch import newest_checkpoint, resume, start
from asyncrl.networks import ActorCritic
from asyncrl.runs.checkpoints.checkpoint import Checkpoint
from asyncrl.runs.lookup import open_run

SMALL: dict[str, Any] = dict(actors=3, envs_per_actor=4, eval_episodes=0, seed=5, engine="serial", learner_threads=1)
EPOCHS: dict[str, Any] = dict(SMALL, steps=288, t_max=8, epochs=2, minibatches=3)
REPLAY: dict[str, Any] = dict(SMALL, steps=240, learning_starts=96, capacity=700, batch_size=16, t_max=4)
UNROLLED: dict[str, Any] = dict(recurrent="lstm", recurrent_size=8)


def weights_after(folder: Path, env: str, algorithm: str, **settings: Any) -> Checkpoint:
    start(configure(env, algorithm, **settings), folder)
    return newest_checkpoint(open_run(folder))


@pytest.mark.parametrize(
    ("algorithm", "settings", "learners"),
    [
        ("ppo", dict(EPOCHS, normalize_value=True, normalize_observation=True, learning_rate_schedule="kl"), 2),
        ("ppo", dict(EPOCHS, **UNROLLED, minibatches=6), 3),  # learners without a sequence in a minibatch
        ("a3c", dict(SMALL, steps=288, t_max=8, **UNROLLED), 2),
        ("dqn", dict(REPLAY, **UNROLLED, sequence_length=3, burn_in=1, prioritized=True, noisy=True, n_step=2), 2),
        ("sac", dict(REPLAY, batch_size=17, replay_ratio=0.25), 2),
        ("sac-discrete", dict(REPLAY, batch_size=17, replay_ratio=0.25), 2),
    ],
)
def test_their_updates_are_those_of_one(algorithm: str, settings: Mapping[str, Any], learners: int, tmp_path: Path) -> None:
    env = "Pendulum-v1" if algorithm == "sac" else "worlds:Corridor-v0"
    one = weights_after(tmp_path / "one", env, algorithm, **settings)
    several = weights_after(tmp_path / "several", env, algorithm, **settings, learners=learners)
    torch.testing.assert_close(several.weights(), one.weights(), rtol=1e-5, atol=2e-6)


def test_a_first_learner_that_was_suspended_for_an_hour_does_not_lose_the_others(tmp_path: Path) -> None:
    store, cpu = str(tmp_path / "store"), torch.device("cpu")
    with ThreadPoolExecutor() as pool:
        first, other = pool.map(lambda rank: _connect(store, rank, 2, cpu), range(2))
    assert first.options._timeout == timedelta(seconds=TIMEOUT)
    assert other.options._timeout > timedelta(hours=1)


def killed_at(count: int) -> None:
    """Kill this process at its `count`th call."""
    killed_at.calls = getattr(killed_at, "calls", 0) + 1  # type: ignore[attr-defined]
    if killed_at.calls == count:  # type: ignore[attr-defined]
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Mortal(PPO):
    """PPO whose second learner dies at the minibatch that the environment names."""

    name: ClassVar[str] = "mortal"

    def loss(self, network: ActorCritic, target: ActorCritic, batch: PreparedBatch) -> Loss:
        shard = current_shard()
        if shard is not None and shard.rank == 1:
            killed_at(int(os.environ.get("DIES_AT", "0")))
        return super().loss(network, target, batch)


def test_one_that_dies_ends_the_run_before_its_update_and_the_resumed_run_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dict(EPOCHS, learners=2, normalize_return=True)
    whole = weights_after(tmp_path / "whole", "worlds:Corridor-v0", "test_learners:Mortal", **settings)
    monkeypatch.setenv("DIES_AT", "16")  # the fourth of six minibatches of the third update
    with pytest.raises(LearnerDied, match=r"^learner 1 died \(killed by SIGKILL\)"):
        weights_after(tmp_path / "run", "worlds:Corridor-v0", "test_learners:Mortal", **settings)
    assert newest_checkpoint(open_run(tmp_path / "run")).update == 2
    monkeypatch.delenv("DIES_AT")
    resume(tmp_path / "run", trust=True)
    assert newest_checkpoint(open_run(tmp_path / "run")).weights_sha256 == whole.weights_sha256


def test_a_run_with_replay_that_was_stopped_resumes_with_the_same_weights(tmp_path: Path) -> None:
    settings = dict(REPLAY, prioritized=True, learners=2, log_every=48)
    whole = weights_after(tmp_path / "whole", "worlds:Corridor-v0", "dqn", **settings)

    def stop(record: Mapping[str, Any]) -> None:
        if record["kind"] == "train" and record["step"] == 144:
            signal.raise_signal(signal.SIGTERM)

    start(configure("worlds:Corridor-v0", "dqn", **settings), tmp_path / "run", callbacks=[stop])
    assert newest_checkpoint(open_run(tmp_path / "run")).step == 144
    resume(tmp_path / "run")
    assert newest_checkpoint(open_run(tmp_path / "run")).weights_sha256 == whole.weights_sha256


@pytest.mark.parametrize(
    ("algorithm", "settings", "sentence"),
    [
        ("a3c", dict(learners=5), "--learners 5: a batch of 4 environments cannot be divided among so many; lower it"),
        ("dqn", dict(learners=5), "--learners 5: a batch of 4 samples (--batch-size) cannot be divided among so many"),
        ("a3c", dict(learners=2, engine="hogwild"), "--learners 2: with --engine hogwild every worker is a learner"),
        ("a3c", dict(learners=0), "--learners must be 1 or more"),
    ],
)
def test_what_cannot_be_divided_is_refused(algorithm: str, settings: Mapping[str, Any], sentence: str) -> None:
    assert sentence in str(refusal(asked(algorithm, settings)))


def test_a_random_agent_has_nothing_to_divide() -> None:
    assert "--learners has no effect on random" in str(refusal(asked("random", dict(learners=2)), "learners"))
