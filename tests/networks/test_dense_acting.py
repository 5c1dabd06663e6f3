"""Networks that act with dense bodies against the modules that they stand for: equal in every bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces as gym
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import asked, contract_of, serial_updates

import asyncrl.algorithms.policy
from asyncrl.algorithms import A3C, C51, DQN, PPO, PQN, SAC, TD3, ActContext, Algorithm, Policy
from asyncrl.algorithms.exploration import EnvSlots
from asyncrl.envs.space_reading import spaces_of
from asyncrl.envs.spaces import Actions, MaskSource, Spaces
from asyncrl.networks import ActorCritic, NetworkConfig, Recurrent, WeightLoader, copy_into, use_dense_bodies
from asyncrl.networks.build import keep_in_compute_dtype
from asyncrl.networks.dense_acting import DenseBody
from asyncrl.networks.encoders import Activation
from asyncrl.runs.config.resolution import resolve

DISCRETE = Actions((3,), (0,))
CONTINUOUS = Actions(low=(-1.0, -2.0), high=(1.0, 2.0), shape=(2,), dtype="float32")
MASKED = spaces_of("Some-v0", gym.Box(-1.0, 1.0, (3,), np.float32), gym.Discrete(4), MaskSource.INFO)


@st.composite
def configs(draw: st.DrawFn) -> NetworkConfig:
    return NetworkConfig(
        hidden=tuple(draw(st.lists(st.sampled_from([1, 3, 8, 33, 64, 130]), min_size=1, max_size=3))),
        activation=draw(st.sampled_from(Activation)),
        layer_norm=draw(st.booleans()),
    )


def networks(config: NetworkConfig, spaces: Spaces, dtype: torch.dtype = torch.float32) -> tuple[ActorCritic, ActorCritic]:
    """A network as the learner has it, and one that only acts, with the same weights."""
    plain, dense = (ActorCritic(config, spaces, dtype, torch.Generator().manual_seed(1)) for _ in range(2))
    dense.requires_grad_(False)
    keep_in_compute_dtype(dense)
    use_dense_bodies(dense)
    return plain, dense


@settings(deadline=None)
@given(configs(), st.integers(1, 3), st.integers(1, 17), st.integers(1, 40), st.booleans(), st.integers(0, 99))
def test_a_dense_body_computes_what_the_modules_compute(
    config: NetworkConfig, steps: int, envs: int, inputs: int, across: bool, seed: int
) -> None:
    spaces = Spaces((inputs,), "float32", DISCRETE)
    plain, dense = networks(config, spaces)
    assert isinstance(dense.body, DenseBody)
    assert isinstance(dense.value_body, DenseBody)
    random = torch.Generator().manual_seed(seed)
    for _ in range(2):
        weights = torch.randn(sum(x.numel() for x in plain.parameters()), generator=random)
        copy_into(plain, weights)
        WeightLoader(dense)(weights)  # the dense bodies follow what is loaded
        observation = torch.randn(steps, envs, inputs, generator=random)
        if across:  # numbers of one environment far apart in memory, as CartPole gives them
            observation = observation.transpose(1, 2).contiguous().transpose(1, 2)
        state = torch.zeros(envs, 0)
        expected, found = plain(observation, state), dense(observation, state)
        assert torch.equal(expected.policy.logits, found.policy.logits)
        assert torch.equal(expected.value, found.value)
        assert torch.equal(plain.policies(observation, state)[0].logits, dense.policies(observation, state)[0].logits)


@pytest.mark.parametrize(
    ("spaces", "config"),
    [
        (Spaces((2, 3), "int64", DISCRETE), NetworkConfig()),
        (MASKED, NetworkConfig()),
        (Spaces((4,), "float32", CONTINUOUS), NetworkConfig(normalize_value=True)),
    ],
    ids=["integers", "masked", "continuous"],
)
def test_other_observations_and_heads_get_dense_bodies_too(spaces: Spaces, config: NetworkConfig) -> None:
    plain, dense = networks(config, spaces)
    assert isinstance(dense.body, DenseBody)
    shape = 1, 5, *spaces.observation_shape
    observation = torch.randint(0, 2, shape).to(getattr(torch, spaces.observation_dtype))
    expected, found = (network(observation, torch.zeros(5, 0)) for network in (plain, dense))
    assert torch.equal(expected.value, found.value)
    assert torch.equal(expected.policy.mode(), found.policy.mode())


@pytest.mark.parametrize(
    ("spaces", "config", "dtype"),
    [
        (Spaces((4,), "float32", DISCRETE), NetworkConfig(), torch.bfloat16),
        (Spaces((4,), "float32", DISCRETE), NetworkConfig(recurrent=Recurrent.LSTM, recurrent_size=8), torch.float32),
        (Spaces((4,), "float32", DISCRETE), NetworkConfig(noisy=True), torch.float32),
        (Spaces((4,), "float32", DISCRETE), NetworkConfig(normalize_observation=True), torch.float32),
        (Spaces((4,), "float32", DISCRETE), NetworkConfig("radial"), torch.float32),
        (Spaces((4, 84, 84), "uint8", DISCRETE), NetworkConfig("a3c-cnn"), torch.float32),
    ],
    ids=["bfloat16", "recurrent", "noisy", "normalized", "radial", "images"],
)
def test_bodies_that_are_not_only_dense_layers_stay(spaces: Spaces, config: NetworkConfig, dtype: torch.dtype) -> None:
    _, dense = networks(config, spaces, dtype)
    assert not any(isinstance(module, DenseBody) for module in dense.modules())


def test_parameters_keep_their_names_and_order() -> None:
    plain, dense = networks(NetworkConfig(layer_norm=True), Spaces((4,), "float32", DISCRETE))
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in dense.named_parameters()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_loader_does_what_copy_into_does(dtype: torch.dtype) -> None:
    one, other = (networks(NetworkConfig("a3c-cnn"), Spaces((4, 84, 84), "uint8", DISCRETE), dtype)[1] for _ in range(2))
    weights = torch.randn(sum(x.numel() for x in one.parameters()))
    copy_into(one, weights)
    WeightLoader(other)(weights)
    assert all(torch.equal(x, y) for x, y in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    "algorithm", [A3C(), PPO(), PQN(), DQN(), C51(), SAC(), TD3()], ids=lambda algorithm: str(algorithm.name)
)
def test_actions_are_those_of_the_modules(algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch) -> None:
    spaces = Spaces((4,), "float32", CONTINUOUS if isinstance(algorithm, SAC | TD3) else DISCRETE)
    dense = Policy(algorithm, algorithm.network_config, spaces, torch.float32)
    monkeypatch.setattr(asyncrl.algorithms.policy, "use_dense_bodies", lambda network: None)
    plain = Policy(algorithm, algorithm.network_config, spaces, torch.float32)
    contexts = [
        ActContext.training(torch.Generator().manual_seed(3), step=10**6, slots=EnvSlots.of(1, 0, 8)) for _ in range(2)
    ]
    observations = torch.Generator().manual_seed(2)
    for _ in range(20):
        seen, state = torch.randn(8, 4, generator=observations), plain.initial_state(8)
        one, other = (p.act(seen, state, c) for p, c in zip((dense, plain), contexts, strict=True))
        assert torch.equal(one.action, other.action)
        assert all(torch.equal(one.extras[name], other.extras[name]) for name in other.extras)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["a3c", "ppo", "pqn", "dqn", "sac"])
def test_short_runs_end_with_the_weights_of_the_modules(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def weights() -> Any:
        config = asked(algorithm, {"layer_norm": True})
        *_, (learner, _) = serial_updates(resolve(config, contract_of(config)), contract_of(config))
        return learner.weights.detach().clone()

    dense = weights()
    monkeypatch.setattr(asyncrl.algorithms.policy, "use_dense_bodies", lambda network: None)
    assert torch.equal(dense, weights())
