"""IQN and Munchausen targets against loops over transitions, quantiles and actions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tabular_networks import QTable
from torch import Tensor

from asyncrl.algorithms import DQN, IQN
from asyncrl.algorithms.dqn import TDLoss
from asyncrl.algorithms.munchausen import Munchausen
from asyncrl.algorithms.replay_based import q_outputs
from asyncrl.common.randomness import Stream, generator
from asyncrl.envs.spaces import Actions, Spaces
from asyncrl.experience import Sample
from asyncrl.networks import ImplicitQuantileNetwork, NetworkConfig

SPACES = Spaces((3,), "float32", Actions((3,), (0,)))
SIZE = 5


def sample(observation: Tensor, then: Tensor) -> Sample:
    """Two-step transitions: the second one ends after one step, the last one terminates."""
    action = torch.tensor([0, 2, 1, 0, 2])
    reward = torch.tensor([[1.0, -1.0, 0.5, 0.0, 2.0], [0.5, 0.0, 1.0, 1.0, 0.0]])
    steps, over = torch.tensor([2, 1, 2, 2, 2]), torch.tensor([False, False, False, False, True])
    weight = torch.tensor([1.0, 0.5, 1.0, 0.25, 1.0])
    return Sample(observation, action, reward, then, steps, over, weight, steps, random=torch.Generator().manual_seed(7))


def softmax_policy(q: Tensor, temperature: float) -> list[float]:
    powers = [math.exp((float(x) - float(q.max())) / temperature) for x in q]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("double", [False, True])
def test_munchausen_dqn_agrees_with_the_papers_equation(double: bool) -> None:
    q, other = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.3, 0.1]]), torch.tensor([[0.5, 0.4, 1.0], [-0.2, 0.1, 0.3]])
    states = torch.tensor([[0.0], [1.0], [0.0], [1.0], [0.0]])
    batch = sample(states, 1 - states)
    options = Munchausen(munchausen=True, munchausen_scale=0.8, munchausen_temperature=0.5, munchausen_clip=-0.6)
    algorithm = DQN(discount=0.9, n_step=2, double=double, td_loss=TDLoss.SQUARED, munchausen_targets=options)
    network, target = QTable(q), QTable(other)
    with torch.no_grad():
        prepared = algorithm.prepare(network, target, batch)
    loss = algorithm.loss(network, target, prepared)
    total = 0.0
    for i in range(SIZE):
        s, then, a = int(states[i]), 1 - int(states[i]), int(batch.action[i])
        log_policy = math.log(softmax_policy(other[s], 0.5)[a])
        y = 0.8 * max(-0.6, 0.5 * log_policy) + sum(0.9**k * float(batch.reward[k, i]) for k in range(2))
        if not batch.terminated[i]:
            policy = softmax_policy((q if double else other)[then], 0.5)
            soft = sum(p * (float(other[then, b]) - 0.5 * math.log(p)) for b, p in enumerate(policy))
            y += 0.9 ** int(batch.steps[i]) * soft
        total += float(batch.weight[i]) * (y - float(q[s, a])) ** 2 / SIZE
    assert loss.total.item() == pytest.approx(total, rel=1e-5)


def test_an_action_that_is_not_allowed_has_no_part_in_the_soft_value() -> None:
    q = torch.tensor([[1.0, torch.finfo(torch.float32).min, 2.0]])
    options = Munchausen(munchausen_temperature=0.5)
    found = options.soft_value(q, torch.tensor([[[1.0], [9.0], [2.0]]]))
    policy = softmax_policy(torch.tensor([1.0, 2.0]), 0.5)
    assert found.item() == pytest.approx(sum(p * (x - 0.5 * math.log(p)) for p, x in zip(policy, (1, 2), strict=True)))
    assert options.bonus(q, torch.tensor([2])).item() == pytest.approx(0.9 * 0.5 * math.log(policy[1]))


def networks(algorithm: IQN, **config: Any) -> list[ImplicitQuantileNetwork]:
    shape = NetworkConfig(hidden=(8,), **config)
    return [algorithm.build(shape, SPACES, torch.float32, generator(seed, Stream.NETWORK)) for seed in (1, 2)]


def quantiles(network: ImplicitQuantileNetwork, observation: Tensor, fraction: Tensor) -> Tensor:
    """The quantiles [A] of one observation at one fraction, from the network's layers."""
    features, _ = network.body(observation[None, None], torch.zeros(1, 0))
    cosines = torch.stack([torch.cos(math.pi * i * fraction) for i in range(1, len(network.frequencies) + 1)])
    hidden = (network.dense(features[0, 0] * network.embedding(cosines).relu())).relu()
    out = network.q(hidden)
    return out if network.value is None else network.value(hidden) + out - out.mean()


@pytest.mark.parametrize("dueling", [False, True])
def test_iqn_agrees_with_a_loop_over_fractions(dueling: bool) -> None:
    algorithm = IQN(discount=0.9, n_step=2, quantile_samples=3, target_samples=2, acting_quantiles=4, cosines=5)
    network, target = networks(algorithm, dueling=dueling)
    random = torch.Generator().manual_seed(3)
    batch = sample(torch.randn(SIZE, 3, generator=random), torch.randn(SIZE, 3, generator=random))
    with torch.no_grad():
        prepared = algorithm.prepare(network, target, batch)
        loss = algorithm.loss(network, target, prepared)

        draws = torch.Generator().manual_seed(7)
        later, now = torch.rand(SIZE, 2, generator=draws), torch.rand(SIZE, 3, generator=draws)
        wanted = []
        for i in range(SIZE):
            fixed = [quantiles(target, batch.next_observation[i], torch.tensor((k + 0.5) / 4)) for k in range(4)]
            best = int(torch.stack(fixed).mean(0).argmax())
            total = 0.0
            for tau in now[i]:
                value = float(quantiles(network, batch.observation[i], tau)[batch.action[i]])
                for other in later[i]:
                    y = float(batch.reward[0, i] + 0.9 * batch.reward[1, i])
                    if not batch.terminated[i]:
                        y += 0.9 ** int(batch.steps[i]) * float(quantiles(target, batch.next_observation[i], other)[best])
                    u = y - value
                    huber = 0.5 * u * u if abs(u) <= 1 else abs(u) - 0.5
                    total += abs(float(tau) - (u < 0)) * huber / 2
            wanted.append(total)
    assert loss.td_errors.tolist() == pytest.approx(wanted, rel=1e-4)
    assert loss.total.item() == pytest.approx(sum(float(w) * x for w, x in zip(batch.weight, wanted, strict=True)) / SIZE)


def test_action_values_of_iqn_need_no_random_numbers() -> None:
    network, _ = networks(IQN(acting_quantiles=4))
    observation = torch.randn(6, 3)
    with torch.no_grad():
        assert torch.equal(q_outputs(network, observation).q, q_outputs(network, observation).q)
        assert q_outputs(network, observation).outputs.shape == (1, 6, 3, 4)
