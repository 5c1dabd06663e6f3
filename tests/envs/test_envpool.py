"""EnvPool: its dynamics are Gymnasium's, its episodes end and begin as ours do, its seeds are the environments' own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from asyncrl import train
from asyncrl.envs import Backend, Environments, EnvOptions, Step, describe
from asyncrl.errors import UsageError

if find_spec("envpool") is None:  # not imported here: Procgen's Qt goes first
    pytest.skip("pip install 'asyncrl[envpool]'", allow_module_level=True)
POOLED = EnvOptions(env_backend=Backend.ENVPOOL)


def play(env: str, seeds: list[int], steps: int) -> tuple[np.ndarray, list[Step]]:
    environments, random = Environments(describe(env, POOLED), len(seeds)), np.random.default_rng(0)
    first = environments.reset(seeds).copy()
    actions = [environments.contract.spaces.actions.random(random, 1).repeat(len(seeds), 0) for _ in range(steps)]
    return first, [environments.step(action) for action in actions]


def place(env: Any, observation: np.ndarray) -> None:
    """Put a Gymnasium environment into the state of an observation."""
    if env.spec.id.startswith("Pendulum"):
        cos, sin, speed = map(float, observation)
        env.unwrapped.state = np.array([np.arctan2(sin, cos), speed])
    else:
        env.unwrapped.state = tuple(map(float, observation))


@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCar-v0", "Pendulum-v1"])
def test_from_the_same_state_the_same_actions_lead_to_the_same_states(name: str) -> None:
    """Beginnings come from another generator; the dynamics are the same."""
    pooled = Environments(describe(name, POOLED), 1)
    single, random = gymnasium.make(name), np.random.default_rng(1)
    single.reset(seed=1)
    place(single, pooled.reset([4])[0])
    for _ in range(200):
        action = pooled.contract.spaces.actions.random(random, 1)
        seen = single.step(pooled.contract.spaces.actions.for_environment(action)[0])
        ours = pooled.step(action)
        np.testing.assert_allclose(ours.observation[0], seen[0], atol=1e-3)
        assert ours.reward[0] == pytest.approx(float(seen[1]), abs=1e-3)
        assert (ours.terminated[0], ours.done[0]) == (seen[2], seen[2] or seen[3])
        if ours.done[0]:
            break
    assert ours.done[0]


def test_the_step_after_an_episode_ends_only_resets() -> None:
    _, played = play("CartPole-v1", [2, 4], 80)
    ends = [(t, env) for t, step in enumerate(played[:-1]) for env in np.flatnonzero(step.done)]
    assert len(ends) >= 3
    for t, env in ends:
        assert (np.abs(played[t].observation[env]) > 0.05).any()
        assert (np.abs(played[t + 1].observation[env]) <= 0.05).all()
        assert (played[t + 1].reward[env], played[t + 1].done[env]) == (0, False)


def test_episodes_depend_on_the_seed_and_not_on_the_index() -> None:
    first, played = play("CartPole-v1", [2, 9], 60)
    other, again = play("CartPole-v1", [9, 2], 60)
    assert np.array_equal(first, other[::-1])
    assert all(np.array_equal(a.observation, b.observation[::-1]) for a, b in zip(played, again, strict=True))
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize(
    ("env", "options", "sentence"),
    [
        ("worlds:Corridor-v0", POOLED, "EnvPool has no environment 'worlds:Corridor-v0'"),
        ("ALE/Pong-v5", POOLED, "--env-backend envpool is not possible"),
        ("CoinrunEasy-v0", EnvOptions(env_backend=Backend.SYNC), "--env-backend sync is not possible"),
        ("CartPole-v1", EnvOptions(env_backend=Backend.ENVPOOL, env_kwargs='{"nonsense": 1}'), "no setting 'nonsense'"),
    ],
)
def test_impossible_requests_are_refused_with_a_reason(env: str, options: EnvOptions, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        describe(env, options)


def test_procgen_trains_from_pixels(tmp_path: Path) -> None:
    try:
        contract = describe("CoinrunEasy-v0")
    except UsageError as problem:
        pytest.skip(str(problem))  # Qt 5 and libGL are the system's
    assert contract.spaces.observation_shape == (3, 64, 64)
    run = train("CoinrunEasy-v0", "a3c", steps=300, actors=1, envs_per_actor=4, eval_episodes=0, run_dir=tmp_path / "run")
    assert (run.path / "latest").exists()
