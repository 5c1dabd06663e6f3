"""Losses on stored sequences against networks that are stepped one observation at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from asyncrl.algorithms import C51, DQN, IQN, QRDQN
from asyncrl.algorithms.dqn import TDLoss
from asyncrl.algorithms.replay_based import current_outputs
from asyncrl.common.randomness import Stream, generator
from asyncrl.envs.spaces import Actions, Spaces
from asyncrl.experience import Sample, Unroll
from asyncrl.networks import NetworkConfig, Recurrent

SPACES = Spaces((3,), "float32", Actions((2,), (0,)))
BURN_IN, LENGTH, N_STEP, COUNT = 2, 4, 2, 3
WIDTH = BURN_IN + LENGTH + N_STEP


def networks(algorithm: Any, **config: Any) -> tuple[Any, Any]:
    shape = NetworkConfig(hidden=(8,), recurrent=Recurrent.LSTM, recurrent_size=4, **config)
    return tuple(algorithm.build(shape, SPACES, torch.float32, generator(seed, Stream.NETWORK)) for seed in (1, 2))


def sequences() -> Sample:
    """Three sequences, of which the second one's episode is cut off in its fifth step, and another begins."""
    random = torch.Generator().manual_seed(3)
    valid = torch.ones(WIDTH, COUNT, dtype=torch.bool)
    valid[4, 1] = False
    steps = torch.full((LENGTH, COUNT), 2)
    steps[1, 1] = 1  # ends with the episode
    learned = valid[BURN_IN : BURN_IN + LENGTH].flatten()
    numbers = torch.arange(LENGTH * COUNT)
    return Sample(
        observation=torch.zeros(0, 3),
        action=torch.randint(2, (LENGTH * COUNT,), generator=random),
        reward=torch.randn(2, LENGTH * COUNT, generator=random),
        next_observation=torch.zeros(0, 3),
        steps=steps.flatten(),
        terminated=numbers == 10,
        weight=learned * torch.rand(COUNT, generator=random).repeat(LENGTH),
        index=torch.arange(COUNT),
        random=torch.Generator().manual_seed(7),
        unroll=Unroll(
            observation=torch.randn(WIDTH, COUNT, 3, generator=random),
            state=torch.randn(COUNT, 8, generator=random),
            valid=valid,
            learned=learned,
            later=numbers + COUNT * steps.flatten(),
            burn_in=BURN_IN,
            length=LENGTH,
        ),
    )


def stepped(network: Any, unroll: Unroll, column: int) -> list[Tensor]:
    """Q [A] at every step of a sequence; no gradient passes from the steps after the burn-in into it."""
    state, found = unroll.state[column : column + 1], []
    for t in range(WIDTH):
        seen, valid = unroll.observation[t : t + 1, column : column + 1], unroll.valid[t : t + 1, column : column + 1]
        if t == BURN_IN:
            state = state.detach()
        q, _, state = network(seen, state, valid)
        found.append(q[0, 0])
    return found


def test_dqn_learns_from_sequences_as_from_steps_with_the_state_of_their_past() -> None:
    algorithm = DQN(discount=0.9, n_step=N_STEP, double=True, td_loss=TDLoss.SQUARED)
    network, target = networks(algorithm)
    sample = sequences()
    unroll = sample.unroll
    assert unroll is not None
    with torch.no_grad():
        prepared = algorithm.prepare(network, target, sample)
    loss = algorithm.loss(network, target, prepared)

    total = torch.zeros(())
    for column in range(COUNT):
        online, frozen = stepped(network, unroll, column), stepped(target, unroll, column)
        for t in range(LENGTH):
            n = t * COUNT + column
            steps = int(sample.steps[n])
            y = sample.reward[0, n] + 0.9 * sample.reward[1, n]
            if not sample.terminated[n]:
                best = int(online[BURN_IN + t + steps].argmax())
                y = y + 0.9**steps * frozen[BURN_IN + t + steps][best]
            error = y.detach() - online[BURN_IN + t][sample.action[n]]
            total = total + sample.weight[n] * error**2 / (LENGTH * COUNT)
    assert loss.total.item() == pytest.approx(total.item(), rel=1e-5)
    parameters = list(network.parameters())
    for one, other in zip(torch.autograd.grad(loss.total, parameters), torch.autograd.grad(total, parameters), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_conservative_penalty_leaves_out_reset_steps() -> None:
    network, target = networks(DQN(cql_alpha=1.0))
    sample = sequences()
    assert sample.unroll is not None
    losses = {}
    for action in (0, 1):  # in the place of a reset step's action, which has no effect
        changed = torch.where(sample.unroll.learned, sample.action, action)
        prepared = DQN(cql_alpha=1.0).prepare(network, target, replace(sample, action=changed))
        losses[action] = DQN(cql_alpha=1.0).loss(network, target, prepared).total.item()
    assert not sample.unroll.learned.all()
    assert losses[0] == losses[1]


@pytest.mark.parametrize("algorithm", [C51(atoms=5, n_step=N_STEP), QRDQN(quantiles=4, n_step=N_STEP), IQN(n_step=N_STEP)])
def test_what_a_recurrent_network_sees_before_an_episode_has_no_effect_on_it(algorithm: Any) -> None:
    """Distributional losses of the steps after a reset are the same for any beginning of the sequence."""
    network, target = networks(algorithm)
    found = []
    for offset in (0.0, 1.0):
        sample = sequences()
        assert sample.unroll is not None
        sample.unroll.observation[:5, 1] += offset
        with torch.no_grad():
            prepared = algorithm.prepare(network, target, sample)
            errors = algorithm.loss(network, target, prepared).td_errors.view(LENGTH, COUNT)
        found.append(errors)
    assert torch.equal(found[0][3, 1], found[1][3, 1])
    assert not torch.equal(found[0][0, 1], found[1][0, 1])
    assert torch.equal(found[0][:, [0, 2]], found[1][:, [0, 2]])


@pytest.mark.parametrize("algorithm", [DQN(), C51(atoms=5), QRDQN(quantiles=4), IQN()])
def test_metrics_leave_out_reset_steps(algorithm: Any) -> None:
    network, target = networks(algorithm)
    found = []
    for offset in (0.0, 1.0):  # in the place of a reset step's reward
        sample = sequences()
        assert sample.unroll is not None
        with torch.no_grad():
            changed = replace(sample, reward=sample.reward + offset * ~sample.unroll.learned)
            found.append(algorithm.loss(network, target, algorithm.prepare(network, target, changed)).metrics)
            largest = current_outputs(network, sequences()).q[0].amax(-1)
        mean = pytest.approx(float(largest[sample.unroll.learned].mean()))
        assert algorithm.draws_in_loss or float(found[-1]["q"]) == mean
    assert torch.equal(found[0]["target"], found[1]["target"])
