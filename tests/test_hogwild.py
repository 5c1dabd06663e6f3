"""Gradients that meet in shared weights: what is promised without an order, and what is refused because of it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from asyncrl.api import configure, newest_checkpoint, resume, start
from asyncrl.config import RunConfig
from asyncrl.envs import Contract, describe
from asyncrl.errors import UsageError
from asyncrl.hogwild import Member
from asyncrl.run import Run

SMALL: dict[str, Any] = dict(engine="hogwild", steps=4_000, actors=2, envs_per_actor=4, eval_episodes=0, seed=5)
OWN = {
    "ppo": dict(t_max=8, epochs=2, minibatches=2),
    "reinforce": dict(longest_episode=10),
    "actor-critic": dict(longest_episode=10),
}


def resolved(algorithm: str = "a3c", **settings: Any) -> tuple[RunConfig, Contract]:
    contract = describe("worlds:Corridor-v0")
    return configure("worlds:Corridor-v0", algorithm, **{**SMALL, **settings}).resolved(contract), contract


def test_two_workers_learn_cartpole(tmp_path: Path) -> None:
    settings = dict(engine="hogwild", actors=2, steps=150_000, target_return=150.0, eval_every=15_000, eval_episodes=10)
    _, outcome = start(configure("CartPole-v1", "a3c", **settings), tmp_path / "run")
    assert outcome.evaluation is not None
    assert outcome.evaluation.mean >= 150


@pytest.mark.parametrize("algorithm", ["one-step-sarsa", "n-step-q", "ppo", "impala", "reinforce", "actor-critic"])
def test_an_algorithm_needs_no_change(tmp_path: Path, algorithm: str) -> None:
    settings = SMALL | dict(steps=400) | OWN.get(algorithm, {})
    run, outcome = start(configure("worlds:Corridor-v0", algorithm, **settings), tmp_path / "run")
    assert outcome.step >= 400
    kinds = [record["kind"] for record in run.records()]
    assert {"train", "episode"} <= set(kinds)
    assert torch.isfinite(newest_checkpoint(run).weights()).all()


class Stop:
    """Sends the signal that a user would, with the third record."""

    heard = 0

    def write(self, record: dict[str, Any]) -> None:
        self.heard += record["kind"] == "train"
        if self.heard == 3:
            signal.raise_signal(signal.SIGTERM)

    def say(self, line: str) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize("optimizer_statistics", ["shared", "own"])
def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path, optimizer_statistics: str) -> None:
    settings = SMALL | dict(steps=40_000, log_every=100, target_every=500, optimizer_statistics=optimizer_statistics)
    run, outcome = start(configure("worlds:Corridor-v0", "n-step-q", **settings), tmp_path / "run", Stop())
    saved = newest_checkpoint(Run.open(run.path))
    assert outcome.signal == signal.SIGTERM
    assert 0 < saved.step == outcome.step < 40_000
    kept = {name.split(".")[1] for name in saved.tensors("optimizer")}
    assert kept == ({"0"} if optimizer_statistics == "shared" else {"0", "1"})
    assert saved.has("target")
    _, again = resume(run.path, steps=saved.step + 400)
    assert again is not None
    assert again.step >= saved.step + 400
    assert again.update > outcome.update


def test_a_saved_state_is_everyones_again() -> None:
    config, contract = resolved("n-step-q", optimizer="adam")
    one, other = Member.alone(config, contract), Member.alone(config, contract)
    for x in (one.shared.weights, one.shared.target, *one.shared.statistics[0].values()):
        x.copy_(torch.rand(x.shape))
    one.pull()
    other.restore({name: dict(tensors) for name, tensors in one.state().items()}, updates=7, step=70)
    other.pull()
    assert torch.equal(one.shared.weights, other.shared.weights)
    assert torch.equal(one.shared.target, other.shared.target)
    assert (other.updates, other.step) == (7, 70)
    for name, x in one.shared.statistics[0].items():
        assert torch.equal(x, other.shared.statistics[0][name])


def test_a_step_of_one_worker_is_seen_by_the_others_and_so_are_shared_statistics() -> None:
    for sharing, seen in (("shared", True), ("own", False)):
        config, contract = resolved(optimizer_statistics=sharing)
        first = Member.alone(config, contract)
        second = Member(config, contract, first.shared, worker=1)
        first._gradient.fill_(1.0)
        first._optimizer.step()
        second.pull()
        assert torch.equal(second.weights, first.shared.weights)
        average = second._optimizer.state[second._optimized]["square_average"]
        assert bool(average.any()) == seen


def test_the_target_network_is_copied_by_whoever_crosses_the_border() -> None:
    config, contract = resolved("n-step-q", target_every=100)
    first = Member.alone(config, contract)
    second = Member(config, contract, first.shared, worker=1)
    first.shared.weights.fill_(1.0)
    first._count(60)
    assert not (first.shared.target == 1).all()
    second._count(60)  # 120 together
    assert (first.shared.target == 1).all()
    assert (first.shared.steps.tolist(), second.step) == ([60, 60], 120)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(schedule="lockstep"), "have no order that could be kept"),
        (dict(device="cuda"), "leave out --device cuda"),
        (dict(rollouts_per_update=2), "leave out --rollouts-per-update"),
        (dict(queue_size=5), "leave out --rollouts-per-update and --queue-size"),
    ],
)
def test_what_has_no_meaning_without_an_order_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        resolved(**settings)


def test_a_run_cannot_change_between_hogwild_and_the_other_engines(tmp_path: Path) -> None:
    run, _ = start(configure("worlds:Corridor-v0", "a3c", **SMALL | dict(steps=400)), tmp_path / "run")
    with pytest.raises(UsageError, match="cannot go on with --engine serial"):
        resume(run.path, steps=800, engine="serial")
