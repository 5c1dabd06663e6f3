"""Running statistics: those of all that was observed, in any pieces; and what methods learn in their units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import NormalizeObservation, NormalizeReward
from hypothesis import given
from hypothesis import strategies as st
from small_runs import serial_updates
from tabular_networks import batch

from asyncrl.algorithms import A3C, PPO, EpisodicActorCritic, Impala, Reinforce
from asyncrl.algorithms.normalization import (
    Moments,
    Normalization,
    ObservationStatistics,
    ReturnStatistics,
    ValueStatistics,
)
from asyncrl.algorithms.random import UniformPolicy
from asyncrl.algorithms.reinforce import Baseline
from asyncrl.common.torch_setup import set_torch_threads
from asyncrl.envs import describe
from asyncrl.envs.rewards import Rewards
from asyncrl.envs.spaces import Actions, Spaces
from asyncrl.errors import UsageError
from asyncrl.experience import stack_frames
from asyncrl.experience.rollout import Rollout
from asyncrl.learner import Learner
from asyncrl.networks import ActorCritic, NetworkConfig, NormalizedEncoder
from asyncrl.runs.config.resolution import resolve
from asyncrl.runs.config.settings import configure

NORMALIZED = dict(normalize_observation=True, normalize_return=True)
ALL = dict(NORMALIZED, normalize_value=True)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks as small as these are computed faster by one."""
    before = torch.get_num_threads()
    set_torch_threads(1)
    yield
    set_torch_threads(before)


def updates(env: str, algorithm: str, **settings: Any) -> Iterator[tuple[Learner, list[Rollout]]]:
    """The learner after each update of a serial run, and the rollouts of the update."""
    contract = describe(env, configure(env, algorithm, **settings).environment)
    config = resolve(configure(env, algorithm, **{"engine": "serial", "lag": 1, **settings}), contract)
    return serial_updates(config, contract)


def normalization(learner: Learner) -> Normalization:
    assert learner._normalization is not None
    return learner._normalization


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), min_size=1, max_size=6))
def test_moments_are_those_of_all_pieces_together(pieces: list[list[float]]) -> None:
    moments = Moments((2,))
    for piece in pieces:
        moments.add(np.stack([piece, np.negative(piece) * 3], 1))
    whole = np.concatenate(pieces)
    assert moments.count == len(whole)
    assert np.allclose(moments.mean, [whole.mean(), -3 * whole.mean()], atol=1e-6)
    assert np.allclose(moments.variance, [whole.var(), 9 * whole.var()], rtol=1e-6, atol=1e-3)


def test_pixels_are_summed_exactly() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (700, 3, 5), dtype=np.uint8)
    pixels[:, 0] = 255
    ours, exact = Moments((3, 5)), Moments((3, 5))
    ours.add(pixels)
    exact.add(pixels.astype(np.float64))
    assert ours.count == 700
    assert np.allclose(ours.mean, exact.mean, rtol=1e-14)
    assert np.allclose(ours.variance, exact.variance, rtol=1e-12)
    assert not ours.variance[0].any()


@pytest.mark.parametrize(
    ("algorithm", "own"),
    [("a3c", dict(t_max=7)), ("one-step-sarsa", dict(t_max=7)), ("reinforce", dict(longest_episode=30))],
)
def test_every_observation_of_a_valid_step_is_counted_once(algorithm: str, own: dict[str, Any]) -> None:
    """With steps that two rollouts share (SARSA), and with padding (whole episodes)."""
    seen = []
    own = dict(own, steps=600, actors=2, envs_per_actor=3, normalize_observation=True)
    for current, rollouts in updates("CartPole-v1", algorithm, **own):
        learner = current
        for rollout in rollouts:
            steps = own.get("t_max", len(rollout.reward))
            seen.append(rollout.frames[:steps][rollout.valid[:steps]].clone())
    whole = torch.cat(seen).double()
    statistics = learner.network.body.encoder.normalizer.statistics
    assert float(statistics.count) == len(whole) > 500
    assert torch.allclose(statistics.mean.double(), whole.mean(0), atol=1e-6)
    assert torch.allclose(statistics.spread.double(), (whole.var(0, correction=0) + 1e-8).sqrt(), atol=1e-6)


@pytest.mark.parametrize(
    ("env", "options", "normalized"),
    [
        ("CartPole-v1", {}, 1),
        ("ALE/Pong-v5", {"frame_stack": 3, "network": "a3c-cnn"}, 1),
        ("space_envs:SpaceEnv", {"env_kwargs": '{"kind": "keys"}'}, 2),  # and a discrete part
        ("masked_envs:ByObservation", {}, 1),
        ("space_envs:SpaceEnv", {"env_kwargs": '{"kind": "scalar"}'}, 1),
        ("space_envs:SpaceEnv", {"env_kwargs": '{"kind": "gray"}', "network": "a3c-cnn"}, 1),
        ("space_envs:SpaceEnv", {"env_kwargs": '{"kind": "float image"}', "network": "a3c-cnn"}, 1),
    ],
)
def test_encoders_see_every_number_with_mean_0_and_spread_1(env: str, options: dict[str, Any], normalized: int) -> None:
    observations, common = [], dict(steps=96, actors=1, envs_per_actor=4, t_max=8, normalize_observation=True)
    for current, rollouts in updates(env, "a3c", **common, **options):
        learner = current
        observations.append(stack_frames(rollouts)[:-1][rollouts[0].valid])
    network, seen = learner.network, []
    encoders = [module for module in network.body.modules() if isinstance(module, NormalizedEncoder)]
    for encoder in encoders:
        encoder.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    whole = torch.cat(observations)
    network(whole[None], torch.zeros(len(whole), network.state_size))
    assert len(seen) == len(encoders) == normalized
    for x in seen:
        newest = (x[:, -1] if "frame_stack" in options else x).reshape(len(x), -1).double()
        changes = newest.var(0) > 0
        assert changes.any()
        assert newest.mean(0).abs().max() < 1e-2
        assert torch.allclose(newest.var(0, correction=0)[changes].median(), torch.tensor(1.0).double(), atol=1e-2)


def test_returns_are_summed_over_each_environments_episodes() -> None:
    """Against sums over each environment's steps, one at a time; lost lives end returns, reset steps do not count."""
    random = np.random.default_rng(0)
    discount, actors, envs, steps = 0.9, 2, 3, 7
    statistics, current, seen = ReturnStatistics(discount, actors, envs), np.zeros((actors, envs)), []
    for number in range(8):
        actor = number % actors
        rollout = some_rollout(random, actor, envs, steps)
        statistics.add(rollout, Rewards(scale=2.0))
        for env in range(envs):
            for t in range(steps):
                if rollout.valid[t, env]:
                    current[actor, env] = discount * current[actor, env] + 2 * float(rollout.reward[t, env])
                    seen.append(current[actor, env])
                if rollout.terminated[t, env] or rollout.done[t, env]:
                    current[actor, env] = 0
    assert statistics.spread == pytest.approx(np.sqrt(np.var(seen) + 1e-8), rel=1e-9)
    assert np.allclose(statistics.discounted, current)


def some_rollout(random: np.random.Generator, actor: int, envs: int, steps: int) -> Rollout:
    """Rewards, ends and reset steps at random; other fields are empty."""
    empty = torch.zeros(0)
    reset = torch.from_numpy(random.random((steps + 1, envs)) < 0.2)
    fields: dict[str, Any] = dict.fromkeys(Rollout.__dataclass_fields__, empty)
    fields |= dict(
        reward=torch.from_numpy(random.normal(size=(steps, envs))).float(),
        terminated=torch.from_numpy(random.random((steps, envs)) < 0.1) & ~reset[:-1],
        reset=reset,
        stamp=torch.tensor([0, actor, 0]),
        starts_reset=torch.tensor([False]),
    )
    return Rollout(**fields)


class Replayed(gymnasium.Env[Any, Any]):
    """Gives recorded observations and rewards again."""

    action_space: ClassVar = gymnasium.spaces.Discrete(1)

    def __init__(self, observations: list[np.ndarray], rewards: list[float]) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, observations[0].shape, np.float32)
        self._observations, self._rewards = iter(observations), iter(rewards)

    def reset(self, **how: Any) -> tuple[np.ndarray, dict[str, Any]]:
        return next(self._observations), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return next(self._observations), next(self._rewards), False, False, {}


def test_the_numbers_are_those_of_gymnasiums_wrappers() -> None:
    """One environment within one episode: its wrappers do not end returns where episodes are truncated."""
    observations, rewards = [], []
    own = dict(steps=192, actors=1, envs_per_actor=1, t_max=16, discount=0.99, reward_scale=1.0)
    for current, (rollout,) in updates("Pendulum-v1", "a3c", **own, **ALL):
        learner = current
        observations += list(rollout.frames[:-1, 0].numpy().copy())
        rewards += rollout.reward[:, 0].tolist()
    env = NormalizeReward(NormalizeObservation(Replayed([*observations, observations[-1]], rewards)), gamma=0.99)
    theirs, _ = env.reset()
    for _ in observations[1:]:
        theirs, *_ = env.step(0)
    _, reward, *_ = env.step(0)
    encoder = learner.network.body.encoder
    assert isinstance(encoder, NormalizedEncoder)
    assert np.allclose(encoder.normalizer(torch.from_numpy(observations[-1][None]))[0], theirs, atol=1e-3)
    returns = normalization(learner).returns
    assert returns is not None
    assert rewards[-1] / returns.spread == pytest.approx(reward, rel=1e-4)


def test_rewards_are_divided_after_they_are_scaled_and_clipped() -> None:
    rewards = Rewards(scale=2.0, clip=5.0, spread=0.25)
    learned = rewards.learned(torch.tensor([0.5, -1.0, 4.0]), torch.zeros(3, dtype=torch.bool))
    assert learned.tolist() == [4.0, -8.0, 10.0]


@given(st.lists(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=4), min_size=1, max_size=8))
def test_value_statistics_are_the_papers_averages(batches: list[list[float]]) -> None:
    """Van Hasselt et al. (2016), equation 6, with the first and second moments that the paper averages."""
    statistics, first, second = ValueStatistics(), 0.0, 0.0
    for t, targets in enumerate(batches, 1):
        statistics.add((torch.tensor([targets]), torch.ones(1, len(targets), dtype=torch.bool)))
        statistics.end_update()
        rate = 3e-4 / (1 - (1 - 3e-4) ** t)
        first = (1 - rate) * first + rate * float(np.mean(np.float64(targets)))
        second = (1 - rate) * second + rate * float(np.mean(np.square(np.float64(targets))))
    assert statistics.mean == pytest.approx(first, abs=1e-6)
    assert statistics.variance == pytest.approx(second - first**2, abs=1e-5)


@pytest.mark.parametrize("target", [0.0, 0.1, -3.3])
def test_equal_value_targets_have_the_spread_1_until_some_differ(target: float) -> None:
    statistics, valid = ValueStatistics(), torch.ones(3, 4, dtype=torch.bool)
    for _ in range(2):
        statistics.add((torch.full((3, 4), target), valid))
        statistics.end_update()
    assert (statistics.mean, statistics.spread) == (pytest.approx(target), 1.0)
    statistics.add((target + 0.1 * torch.randn(3, 4), valid))
    statistics.end_update()
    assert 0.01 < statistics.spread < 0.3


SPACES = Spaces((1,), "float32", Actions((3,), (0,)))
METHODS = [
    A3C(),
    Impala(),
    PPO(normalize_advantage=False, value_clip_range=0.1),
    EpisodicActorCritic(normalize_advantage=False),
    Reinforce(baseline=Baseline.LEARNED),
]


@pytest.mark.parametrize("algorithm", METHODS, ids=lambda algorithm: algorithm.name)
def test_losses_do_not_depend_on_the_unit_of_rewards(algorithm: Any) -> None:
    """Rewards a thousand times larger, with the statistics that follow from them, give the same loss and gradient."""
    config = NetworkConfig(hidden=(8,), normalize_value=True)
    losses, gradients, targets = [], [], []
    for unit in (1.0, 1000.0):
        network = ActorCritic(config, SPACES, torch.float32, torch.Generator().manual_seed(1))
        network.value.statistics.assign(1, torch.tensor(0.5 * unit), torch.tensor(2.0 * unit))
        rewards = [unit * reward for reward in (1.0, -2.0, 0.0, 3.0)]
        acted = batch([0, 1, 2, 3, 1], [0, 2, 1, 0], rewards, [False, True, False, False], log_prob=[-1.0] * 4)
        with torch.no_grad():
            prepared = algorithm.prepare(network, network, replace(acted, state=torch.zeros(1, 0)))
        loss = algorithm.loss(network, network, prepared)
        loss.total.backward()
        losses.append(loss.total.item())
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
        targets.append(loss.value_targets[0] / unit)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-5)
    assert torch.allclose(*targets, atol=1e-5)


def test_statistics_change_after_the_update_that_they_are_computed_in() -> None:
    """Version 0 acts on raw observations; every version is normalized as its own weights say."""
    runs = updates("CartPole-v1", "a3c", steps=400, actors=1, envs_per_actor=4, t_max=20, lag=0, **ALL)
    counts = [int(learner.network.body.encoder.normalizer.statistics.count) for learner, _ in runs]
    assert 70 < counts[0] <= 80
    assert counts == sorted(set(counts))


@pytest.mark.parametrize("optimizer", ["rmsprop", "rmsprop-outside", "adam", "sgd"])
def test_no_optimizer_and_no_average_of_weights_changes_statistics(optimizer: str) -> None:
    """A target network that moves by τ has those of the network in its last gradient step, not an average."""
    common: dict[str, Any] = dict(actors=1, envs_per_actor=4, steps=200, learning_starts=40, tau=0.1, target_every=0)
    means = []
    for learner, _ in updates("CartPole-v1", "dqn", optimizer=optimizer, momentum=0.5, **common, **NORMALIZED):
        means.append(learner.network.body.encoder.normalizer.statistics.mean.clone())
    observation = normalization(learner).observation
    assert observation is not None
    assert torch.equal(means[-1], torch.from_numpy(observation.moments[0].mean).float())
    assert torch.equal(means[-2], learner.target_network.body.encoder.normalizer.statistics.mean)


def test_a_target_network_keeps_its_values_when_the_statistics_change() -> None:
    config = NetworkConfig(hidden=(8,), normalize_value=True)
    networks = [ActorCritic(config, SPACES, torch.float32, torch.Generator().manual_seed(i)) for i in (1, 2)]
    observation, state = torch.randn(1, 6, 1), torch.zeros(6, 0)
    before = [network(observation, state).value for network in networks]
    statistics = Normalization(value=ValueStatistics())
    targets, valid = torch.tensor([[400.0, 600.0, 1e9]]), torch.tensor([[True, True, False]])
    assert statistics.add_targets((targets, valid), *networks)
    assert not statistics.add_targets((targets, valid), *networks)
    statistics.end_update([], *networks)
    for network, value in zip(networks, before, strict=True):
        assert float(network.value.statistics.mean) == 500
        assert float(network.value.statistics.spread) == pytest.approx(100)
        assert torch.allclose(network(observation, state).value, value, atol=1e-3)


@pytest.mark.parametrize("option", ["--normalize-observation", "--normalize-value"])
def test_a_network_without_a_place_for_statistics_is_refused(option: str) -> None:
    """As one of the user's own algorithms may have."""
    contract = describe("CartPole-v1")
    observed = Normalization(observation=ObservationStatistics(contract))
    needed = observed if "observation" in option else Normalization(value=ValueStatistics())
    with pytest.raises(UsageError, match=f"{option} needs .*, which UniformPolicy does not have; leave it out"):
        needed.check(UniformPolicy(NetworkConfig(), contract.spaces, torch.float32, torch.Generator()))
