"""Targets of Q-learning under action masks, from rollouts and from the replay buffer, step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from masked_envs import allowed_by
from torch import Tensor

from asyncrl.acting.actor import Actor
from asyncrl.algorithms import DQN, OneStepQ
from asyncrl.algorithms.dqn import TDLoss
from asyncrl.api import configure
from asyncrl.envs import Contract, describe
from asyncrl.experience import Batch
from asyncrl.experience.rollout import Rollout, Ticket
from asyncrl.learner import Learner
from asyncrl.networks import MaskReader
from asyncrl.runs.components import actor_spec, make_learner
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.run_config import RunConfig

SMALL: dict[str, Any] = dict(steps=960, actors=1, envs_per_actor=4, t_max=8, seed=3, target_every=10_000)
STORED: dict[str, Any] = dict(capacity=800, batch_size=64, learning_starts=100)


def made(algorithm: str, **settings: Any) -> tuple[RunConfig, Contract, Learner]:
    contract = describe("masked_envs:Tied")
    config = resolve(configure("masked_envs:Tied", algorithm, **SMALL, **settings), contract)
    return config, contract, make_learner(config, contract)


def rollouts(config: RunConfig, contract: Contract, learner: Learner) -> Iterator[Rollout]:
    """Rollouts that the learner has learned from, all in one slot."""
    spec = actor_spec(config, contract)
    layout = spec.layout()
    slot = layout.slot(torch.zeros(layout.nbytes, dtype=torch.uint8), 0)
    with closing(Actor(spec, 0)) as actor:
        for number in range(20):
            actor.policy.load(learner.weights)
            actor.collect(Ticket(number, 0, learner.updates, 0, learner.step), slot)
            learner.update([slot])
            yield slot


def plain_values(network: Any, contract: Contract, observation: Tensor) -> Tensor:
    """The action values [N, A] of observations [N, *O], of forbidden actions too."""
    features = MaskReader(contract.spaces).features(observation)
    values: Tensor = network.q(network.body.encoder(features))
    return values


def legal_of(contract: Contract, observation: Tensor) -> np.ndarray:
    """Which actions are allowed, recomputed from the numbers of the observations [N, *O]."""
    return np.stack([allowed_by(seen) for seen in MaskReader(contract.spaces).features(observation).numpy()])


@pytest.mark.parametrize("double", [False, True])
def test_targets_from_replay_are_over_what_the_next_observation_allows(double: bool) -> None:
    config, contract, learner = made("dqn", n_step=2, double=double, **STORED)
    list(rollouts(config, contract, learner))
    algorithm, replay = config.algorithm, learner.replay
    assert isinstance(algorithm, DQN)
    assert replay is not None
    (sample,) = replay.samples(1, torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = algorithm.target_outputs(
            learner.network, algorithm.prepare(learner.network, learner.target_network, sample)
        )
        choosing = learner.network if double else learner.target_network
        choice, value = (plain_values(n, contract, sample.next_observation) for n in (choosing, learner.target_network))
    legal = legal_of(contract, sample.next_observation)
    for i, allowed in enumerate(map(np.flatnonzero, legal)):
        best = max(allowed, key=lambda a, i=i: float(choice[i, a]))
        assert found[i, 0].item() == pytest.approx(value[i, best].item(), abs=1e-6)
    assert not legal[range(len(legal)), value.argmax(-1)].all(), "the mask makes a difference"


@pytest.mark.parametrize("td_loss", TDLoss)
def test_a_forbidden_action_that_does_not_count_leaves_the_loss_finite(td_loss: TDLoss) -> None:
    """The action of a reset step in a recorded sequence means nothing, and its weight is 0."""
    config, contract, learner = made("dqn", td_loss=td_loss, **STORED)
    list(rollouts(config, contract, learner))
    algorithm, replay = config.algorithm, learner.replay
    assert isinstance(algorithm, DQN)
    assert replay is not None
    (sample,) = replay.samples(1, torch.Generator().manual_seed(1))
    legal, action, weight = legal_of(contract, sample.observation), sample.action.clone(), sample.weight.clone()
    action[0], weight[0] = int(np.flatnonzero(~legal[0])[0]), 0.0
    sample = dataclasses.replace(sample, action=action, weight=weight)
    loss = algorithm.loss(
        learner.network, learner.target_network, algorithm.prepare(learner.network, learner.target_network, sample)
    )
    assert loss.total.isfinite()


def test_a_rollouts_targets_are_over_what_each_observation_allows() -> None:
    config, contract, learner = made("one-step-q")
    algorithm = config.algorithm
    assert isinstance(algorithm, OneStepQ)
    for slot in rollouts(config, contract, learner):
        batch = Batch.of([slot])
        loss = algorithm.loss(learner.network, learner.target_network, batch)
        targets = []
        for t, n in batch.valid.nonzero().tolist():
            later = batch.observation[t + 1, n][None]
            with torch.no_grad():
                q = plain_values(learner.target_network, contract, later)[0]
            allowed = np.flatnonzero(legal_of(contract, later)[0])
            bootstrap = 0.0 if batch.terminated[t, n] else max(float(q[a]) for a in allowed)
            targets.append(float(batch.reward[t, n]) + algorithm.discount * bootstrap)
        assert loss.metrics["target"].item() == pytest.approx(np.mean(targets), abs=1e-5)
