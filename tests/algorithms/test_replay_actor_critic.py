"""SAC and TD3: one gradient step against references with separate passes, as the papers' code takes them."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from asyncrl.algorithms import SAC, TD3, ActContext
from asyncrl.algorithms.building import build_network
from asyncrl.algorithms.exploration import EnvSlots
from asyncrl.algorithms.optimizers import Optimizer
from asyncrl.algorithms.weight_optimizer import WeightOptimizer
from asyncrl.api import configure
from asyncrl.common.randomness import Stream, generator
from asyncrl.envs import describe
from asyncrl.envs.spaces import Actions, Spaces
from asyncrl.errors import UsageError
from asyncrl.experience import Sample
from asyncrl.networks import NetworkConfig, bind
from asyncrl.networks.critics import SoftActorCritic
from asyncrl.networks.distributions import SquashedGaussian
from asyncrl.runs.config.resolution import resolve

SPACES = Spaces((3,), "float32", Actions(low=(-1.0, -2.0), high=(1.0, 2.0), shape=(2,), dtype="float32"))
SIZE = 16


def sample(number: int = 0) -> Sample:
    random = torch.Generator().manual_seed(3)
    observation, then = (torch.randn(SIZE, 3, generator=random) for _ in range(2))
    action = torch.rand(SIZE, 2, generator=random) * 2 - 1
    reward, weight = torch.randn(1, SIZE, generator=random), torch.rand(SIZE, generator=random)
    over = torch.arange(SIZE) % 5 == 0
    steps = torch.ones(SIZE, dtype=torch.int64)
    return Sample(
        observation,
        action,
        reward,
        then,
        steps,
        over,
        weight,
        steps,
        number=number,
        random=torch.Generator().manual_seed(7),
    )


def networks(algorithm: Any) -> tuple[Any, Any]:
    """A network and another as its target."""
    config = NetworkConfig(hidden=(8,))
    return tuple(algorithm.build(config, SPACES, torch.float32, generator(seed, Stream.NETWORK)) for seed in (1, 2))


def gradients(total: Tensor, module: torch.nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(total, list(module.parameters()), retain_graph=True))


def test_sac_takes_the_steps_of_three_separate_losses() -> None:
    algorithm = SAC(discount=0.9, temperature=0.3, target_entropy=-1.5, critics=3)
    network, target = networks(algorithm)
    batch = sample()
    algorithm.loss(network, target, batch).total.backward()

    noises = torch.Generator().manual_seed(7)
    later, now = (torch.randn(SIZE, 2, generator=noises) for _ in range(2))

    def drawn(observation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        policy = network.policies(observation)
        deviation = policy.raw_log_deviation.clamp(-20, 2).exp()
        raw = policy.mean + deviation * noise
        log_prob = Normal(policy.mean, deviation).log_prob(raw) - torch.log(1 - raw.tanh() ** 2)
        return raw.tanh(), log_prob.sum(-1)

    next_action, next_log_prob = drawn(batch.next_observation, later)
    next_q = torch.stack([critic(batch.next_observation, next_action) for critic in target.critics]).min(0).values
    alive = (~batch.terminated).float()
    y = (batch.reward[0] + 0.9 * alive * (next_q - 0.3 * next_log_prob)).detach()
    critics_loss = sum(
        0.5 * (batch.weight * (critic(batch.observation, batch.action) - y) ** 2).mean() for critic in network.critics
    )
    action, log_prob = drawn(batch.observation, now)
    q = torch.stack([critic(batch.observation, action) for critic in network.critics]).min(0).values
    policy_loss = (0.3 * log_prob - q).mean()

    expected = [*gradients(policy_loss, network.body), *gradients(policy_loss, network.policy)]
    expected += gradients(critics_loss, network.critics)
    found = [parameter.grad for name, parameter in network.named_parameters() if name != "log_temperature"]
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    # α falls while the entropy is above its target
    assert float(network.log_temperature.grad) == pytest.approx(float(-log_prob.detach().mean()) + 1.5, abs=1e-4)


@pytest.mark.parametrize("number", [0, 1])
def test_td3_steps_its_policy_every_second_time(number: int) -> None:
    algorithm = TD3(discount=0.9, target_noise=0.4, target_noise_clip=0.3)
    network, target = networks(algorithm)
    batch = sample(number)
    loss = algorithm.loss(network, target, batch)
    loss.total.backward()

    noise = (0.4 * torch.randn(SIZE, 2, generator=torch.Generator().manual_seed(7))).clamp(-0.3, 0.3)
    next_action = (target.policies(batch.next_observation).mode() + noise).clamp(-1, 1)
    first, second = (critic(batch.next_observation, next_action) for critic in target.critics)
    y = (batch.reward[0] + 0.9 * (~batch.terminated).float() * torch.minimum(first, second)).detach()
    critics_loss = sum(
        (batch.weight * (critic(batch.observation, batch.action) - y) ** 2).mean() for critic in network.critics
    )
    for one, other in zip(network.critics.parameters(), gradients(critics_loss, network.critics), strict=True):
        assert torch.allclose(one.grad, other, atol=1e-5)
    assert algorithm.is_delayed(batch) == (number == 1)
    if number == 0:
        policy_loss = -network.critics[0](batch.observation, network.policies(batch.observation).mode()).mean()
        for one, other in zip(network.policy.parameters(), gradients(policy_loss, network.policy), strict=True):
            assert torch.allclose(one.grad, other, atol=1e-6)


def test_log_probabilities_of_squashed_actions_are_stable_and_add_up_to_one() -> None:
    far = SquashedGaussian(torch.tensor([[30.0]]), torch.tensor([[0.0]])).sample_with_log_prob(torch.Generator())
    assert torch.isfinite(torch.stack([far[0][0, 0], far[1][0]])).all()
    policy = SquashedGaussian(torch.tensor([0.4]), torch.tensor([-0.3]))
    grid = torch.linspace(-1 + 1e-4, 1 - 1e-4, 20_001)
    total = torch.trapezoid(policy.log_prob(grid[:, None]).exp(), grid)
    assert float(total) == pytest.approx(1.0, abs=1e-3)
    action, log_prob = policy.sample_with_log_prob(torch.Generator().manual_seed(1))
    assert float(policy.log_prob(action)) == pytest.approx(float(log_prob), abs=1e-4)


@pytest.mark.parametrize("algorithm", [SAC(), TD3()])
def test_actions_are_random_until_learning_starts_and_within_bounds(algorithm: Any) -> None:
    network, _ = networks(algorithm)
    observation, slots = torch.randn(200, 3), EnvSlots.of(1, 0, 200)
    spread = {}
    for step in (0, 5_000):
        context = ActContext.training(torch.Generator().manual_seed(1), step=step, slots=slots)
        action = algorithm.act(network, observation, torch.zeros(200, 0), context).action
        assert action.abs().max() <= 1
        spread[step] = float(action.detach().std())
    assert spread[0] == pytest.approx(1 / math.sqrt(3), abs=0.05)
    assert spread[5_000] != pytest.approx(spread[0], abs=0.01)
    greedy = ActContext.evaluation(torch.Generator(), greedy=True)
    with torch.no_grad():
        expected = network.policies(observation).mode()
    assert torch.equal(algorithm.act(network, observation, torch.zeros(200, 0), greedy).action, expected)


def test_critics_of_numbers_read_observation_and_action_side_by_side() -> None:
    network, _ = networks(SAC())
    assert isinstance(network, SoftActorCritic)
    assert network.critics[0].dense.layers[0].weight.shape == (8, 3 + 2)


def test_an_encoder_of_your_own_is_in_the_policy_and_in_every_critic_but_heads_of_your_own_are_not() -> None:
    config = NetworkConfig("own_networks:Encoder", hidden=(6,))
    network = SAC().build(config, SPACES, torch.float32, generator(1, Stream.NETWORK))
    assert network.body.features == network.critics[0].body.features == network.critics[1].body.features == 8
    assert network.critics[0].dense.layers[0].weight.shape == (6, 8 + 2)
    with pytest.raises(UsageError, match="own_networks:Policy has its own heads, which sac cannot use; bring an encoder"):
        build_network(SAC(), NetworkConfig("own_networks:Policy"), SPACES, torch.float32, torch.Generator())


@pytest.mark.parametrize("kind", Optimizer)
def test_a_delayed_part_keeps_its_weights_and_moving_averages(kind: Optimizer) -> None:
    config = replace(TD3.optimizer, optimizer=kind)
    weights, gradient = torch.zeros(4), torch.ones(4)
    optimizer = WeightOptimizer(config, weights, gradient, delayed=1)
    optimizer.step(0.1, delay=True)
    assert weights.ne(0).tolist() == [False, True, True, True]
    optimizer.step(0.1)
    assert weights.ne(0).all()
    state = {name: x.clone() for name, x in optimizer.state().items()}
    assert [float(state[name]) for name in ("delayed.step", "step") if name in state] in ([], [1, 2])
    again = WeightOptimizer(config, copy.deepcopy(weights), gradient, delayed=1, statistics=state)
    assert all(torch.equal(x, state[name]) for name, x in again.state().items())


def test_the_policy_comes_first_in_the_weights_of_td3() -> None:
    network, _ = networks(TD3())
    bind(network)
    names = [name.startswith(TD3.delayed) for name, _ in network.named_parameters()]
    assert names == sorted(names, reverse=True)


@pytest.mark.parametrize(
    ("env", "algorithm", "wrong", "sentence"),
    [
        ("CartPole-v1", "sac", {}, "sac needs continuous actions, but the environment has 2 discrete actions"),
        ("Pendulum-v1", "td3", dict(recurrent="lstm"), "samples single steps, so it cannot train --recurrent lstm"),
        ("Pendulum-v1", "td3", dict(noisy=True), "are for methods that learn action values, not for td3"),
        ("Pendulum-v1", "sac", dict(tau=0.0), "--tau must be above 0 and at most 1, not 0"),
        ("Pendulum-v1", "sac", dict(critics=0), "--critics must be"),
        ("Pendulum-v1", "sac", dict(engine="hogwild"), "hogwild: its workers learn from their own rollouts"),
    ],
)
def test_settings_that_do_not_fit_raise(env: str, algorithm: str, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        resolve(configure(env, algorithm, **wrong), describe(env))
