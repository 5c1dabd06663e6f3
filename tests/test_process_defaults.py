"""Defaults that the calling process has set for torch and NumPy do not change a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from algorithm_worlds import world_of

import asyncrl
from asyncrl.acting.actor import Actor
from asyncrl.algorithms import ALGORITHMS
from asyncrl.api import configure
from asyncrl.common.torch_setup import set_torch_threads
from asyncrl.envs import describe
from asyncrl.experience.rollout import Ticket
from asyncrl.runs.components import actor_spec, make_learner
from asyncrl.runs.config.resolution import resolve

REPLAY = dict(learning_starts=40, capacity=300, batch_size=16)
STORED = REPLAY | dict(target_every=80)
OWN: dict[str, dict[str, Any]] = {
    "dqn": STORED | dict(double=True, dueling=True, n_step=3, prioritized=True, target_every=0, tau=0.01),
    "c51": STORED | dict(noisy=True),
    "qr-dqn": STORED,
    "iqn": STORED | dict(munchausen=True, noisy=True),
    "sac": REPLAY,
    "sac-discrete": REPLAY,
    "td3": REPLAY,
    "ppo": dict(t_max=8, minibatches=2, epochs=2, recurrent="gru", recurrent_size=4),
    "a3c": dict(recurrent="lstm", recurrent_size=4),
    "reinforce": dict(longest_episode=10),
    "actor-critic": dict(longest_episode=10),
}
CONTINUOUS = ("a3c", "impala", "ppo", "reinforce", "actor-critic")


@contextmanager
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def another_device() -> Iterator[None]:
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def no_gradients() -> Iterator[None]:
    torch.set_grad_enabled(False)
    try:
        yield
    finally:
        torch.set_grad_enabled(True)


@contextmanager
def strict_numpy() -> Iterator[None]:
    with np.errstate(all="raise"), np.printoptions(precision=1, threshold=2):
        yield


def learned(env: str, algorithm: str, **settings: Any) -> torch.Tensor:
    """The weights after four rollouts and updates."""
    small = dict(steps=160, actors=1, envs_per_actor=4, engine="serial", seed=5)
    config, contract = configure(env, algorithm, **small | OWN.get(algorithm, {}) | settings), describe(env)
    config = resolve(config, contract)
    set_torch_threads(1)
    learner, spec = make_learner(config, contract), actor_spec(config, contract)
    actor, layout = Actor(spec, 0), spec.layout()
    slot = layout.slot(torch.zeros(layout.nbytes, dtype=torch.uint8), 0)
    with contextlib.closing(actor):
        for number in range(4):
            actor.policy.load(learner.weights)
            slot.stamp.copy_(torch.tensor([number, 0, number]))
            actor.collect(Ticket(number, 0, number, 0, learner.step), slot)
            learner.update([slot])
    return learner.weights.detach().clone()


@pytest.mark.parametrize(
    ("algorithm", "env"),
    [(name, world_of(name)) for name in ALGORITHMS] + [(name, "Pendulum-v1") for name in CONTINUOUS],
)
def test_every_algorithm_learns_the_same_where_the_default_dtype_is_float64(algorithm: str, env: str) -> None:
    expected = learned(env, algorithm)
    with double_precision():
        found = learned(env, algorithm)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_so_does_a_policy_whose_variance_is_the_same_for_all_observations() -> None:
    expected = learned("Pendulum-v1", "a3c", adaptive_std=False)
    with double_precision():
        found = learned("Pendulum-v1", "a3c", adaptive_std=False)
    assert torch.equal(found, expected)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    return weights(tmp_path_factory.mktemp("defaults") / "run")


@contextmanager
def autocast() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16):
        yield


@pytest.mark.parametrize("defaults", [another_device, no_gradients, torch.inference_mode, autocast, strict_numpy])
def test_other_defaults_of_torch_and_numpy_change_no_run(
    defaults: Callable[[], AbstractContextManager[None]], expected: torch.Tensor, tmp_path: Path
) -> None:
    with defaults():
        found = weights(tmp_path / "found")
    assert torch.equal(found, expected)


def test_the_callers_number_of_threads_is_restored(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        asyncrl.train("CartPole-v1", "a3c", run_dir=tmp_path / "run", steps=64, learner_threads=1, eval_episodes=0)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def weights(folder: Path) -> torch.Tensor:
    """The weights of a run that was evaluated, loaded and used to act."""
    small = dict(steps=160, actors=1, envs_per_actor=4, t_max=8, epochs=2, engine="serial", eval_episodes=1)
    run = asyncrl.train("worlds:Corridor-v0", "ppo", run_dir=folder, **small)
    agent = asyncrl.load(run.path)
    agent.act(np.zeros(6, np.float32))
    return agent.checkpoint.weights()
