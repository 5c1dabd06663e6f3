"""Discrete SAC: one gradient step against a reference with separate passes, and action masks."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor

from asyncrl.algorithms import ActContext, DiscreteSAC
from asyncrl.algorithms.exploration import EnvSlots
from asyncrl.algorithms.policy import Policy
from asyncrl.api import configure
from asyncrl.common.randomness import Stream, generator
from asyncrl.envs import describe
from asyncrl.envs.space_reading import spaces_of
from asyncrl.envs.spaces import MaskSource, Spaces
from asyncrl.errors import UsageError
from asyncrl.experience import Sample
from asyncrl.networks import DiscreteSoftActorCritic, NetworkConfig
from asyncrl.runs.config.resolution import resolve

NUMBERS = gymnasium.spaces.Box(-9, 9, (3,), np.float32)
SPACES, MASKED = (
    spaces_of("Some-v0", NUMBERS, gymnasium.spaces.Discrete(4), source) for source in (MaskSource.NONE, MaskSource.INFO)
)
SIZE = 16


def network(algorithm: DiscreteSAC, seed: int, spaces: Spaces = SPACES) -> Any:
    return algorithm.build(NetworkConfig(hidden=(8,)), spaces, torch.float32, generator(seed, Stream.NETWORK))


def masked(numbers: Tensor, mask: Tensor) -> Tensor:
    """Observations that contain an action mask."""
    return torch.cat([numbers.view(torch.uint8), mask.to(torch.uint8)], -1)


def mask_of(observation: Tensor, i: int) -> list[int]:
    """The allowed actions in state i."""
    return [a for a in range(4) if observation.dtype is torch.float32 or observation[i, -4 + a]]


def sample(spaces: Spaces = SPACES) -> Sample:
    random = torch.Generator().manual_seed(3)
    observation, then = (torch.randn(SIZE, 3, generator=random) for _ in range(2))
    if spaces.is_masked:  # one or two of four actions are allowed
        masks = torch.eye(4)[torch.arange(SIZE) % 4] + torch.eye(4)[0]
        observation, then = masked(observation, masks), masked(then, masks.roll(1, 0))
    action = torch.arange(SIZE) % 4
    reward, weight = torch.randn(1, SIZE, generator=random), torch.rand(SIZE, generator=random)
    steps = torch.ones(SIZE, dtype=torch.int64)
    return Sample(observation, action, reward, then, steps, torch.arange(SIZE) % 5 == 0, weight, steps)


def gradients(total: Tensor, *modules: torch.nn.Module) -> list[Tensor]:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return list(torch.autograd.grad(total, parameters, retain_graph=True))


@pytest.mark.parametrize("spaces", [SPACES, MASKED], ids=["all actions", "masked"])
def test_it_takes_the_steps_of_three_separate_losses(spaces: Spaces) -> None:
    algorithm = DiscreteSAC(discount=0.9, temperature=0.3, target_entropy_scale=0.7, critics=3)
    learned, target = network(algorithm, 1, spaces), network(algorithm, 2, spaces)
    batch = sample(spaces)
    algorithm.loss(learned, target, batch).total.backward()
    state = torch.zeros(SIZE, 0)

    def policy(observation: Tensor, i: int) -> Tensor:
        """The probabilities of the allowed actions in state i."""
        logits = learned.policy(learned.body(observation[None], state)[0])[0, i]
        return logits[mask_of(observation, i)].softmax(-1)

    def least(critics: Any, observation: Tensor, i: int) -> Tensor:
        """The smallest critic's values of the allowed actions in state i."""
        values = torch.stack([critic(observation[None], state).outputs[0, i, :, 0] for critic in critics])
        return values.min(0).values[mask_of(observation, i)]

    critic_loss, policy_loss, entropy, largest = torch.zeros(()), torch.zeros(()), 0.0, 0.0
    for i in range(SIZE):
        p = policy(batch.next_observation, i)
        value = float((p * (least(target.critics, batch.next_observation, i) - 0.3 * p.log())).detach().sum())
        y = float(batch.reward[0, i]) + (0.0 if batch.terminated[i] else 0.9 * value)
        for critic in learned.critics:
            q = critic(batch.observation[None], state).outputs[0, i, int(batch.action[i]), 0]
            critic_loss = critic_loss + 0.5 * batch.weight[i] * (q - y) ** 2 / SIZE
        p = policy(batch.observation, i)
        policy_loss = (
            policy_loss + (p * (0.3 * p.log() - least(learned.critics, batch.observation, i).detach())).sum() / SIZE
        )
        entropy -= float((p * p.log()).detach().sum()) / SIZE
        largest += math.log(len(p)) / SIZE

    expected = gradients(policy_loss, learned.body, learned.policy) + gradients(critic_loss, learned.critics)
    found = [parameter.grad for name, parameter in learned.named_parameters() if name != "log_temperature"]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert float(learned.log_temperature.grad) == pytest.approx(entropy - 0.7 * largest, abs=1e-5)


def test_a_fixed_temperature_gets_no_gradient() -> None:
    algorithm = DiscreteSAC(temperature=0.3, learn_temperature=False)
    learned = network(algorithm, 1)
    loss = algorithm.loss(learned, network(algorithm, 2), sample())
    loss.total.backward()
    assert learned.log_temperature.grad is None
    assert float(loss.metrics["temperature"]) == pytest.approx(0.3)


def test_actions_are_random_and_allowed_until_learning_starts_and_the_policys_afterwards() -> None:
    algorithm = DiscreteSAC()
    built = network(algorithm, 1, MASKED)
    assert isinstance(built, DiscreteSoftActorCritic)
    torch.nn.init.constant_(built.policy.bias, 0.0)
    built.policy.bias.data[1] = 50.0
    acting = Policy(algorithm, NetworkConfig(hidden=(8,)), MASKED, torch.float32)
    acting.load(torch.cat([parameter.detach().flatten() for parameter in built.parameters()]))
    observation = masked(torch.zeros(300, 3), torch.tensor([1, 1, 0, 1]).expand(300, 4))
    for step, expected in ((0, [0.33, 0.33, 0, 0.33]), (5_000, [0, 1, 0, 0])):
        context = ActContext.training(torch.Generator().manual_seed(1), step=step, slots=EnvSlots.of(1, 0, 300))
        acted = acting.act(observation, torch.zeros(300, 0), context)
        shares = torch.bincount(acted.action, minlength=4) / 300
        assert shares.tolist() == pytest.approx(expected, abs=0.1)
        assert (acted.explored is not None) == (step == 0)


@pytest.mark.parametrize(
    ("env", "wrong", "sentence"),
    [
        ("Pendulum-v1", {}, "sac-discrete needs one discrete action per step, but the .*; use sac, td3 or ppo"),
        (
            "worlds:Toolbox-v0",
            {},
            "sac-discrete needs one discrete action per step, but the .*; use a3c, impala or ppo",
        ),
        ("CartPole-v1", dict(target_entropy_scale=1.5), "--target-entropy-scale must be between 0 and 1, not 1.5"),
        ("CartPole-v1", dict(temperature=0.0), "--temperature must be positive, not 0.0"),
        ("CartPole-v1", dict(recurrent="lstm"), "samples single steps, so it cannot train --recurrent lstm"),
    ],
)
def test_settings_that_do_not_fit_raise(env: str, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        resolve(configure(env, "sac-discrete", **wrong), describe(env))
