"""An environment's state is restored by its seed and the actions since."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncrl.envs import Environments, EnvOptions, describe
from asyncrl.envs.families import atari_wrappers
from asyncrl.envs.family_options import read_options
from asyncrl.envs.options import Backend
from asyncrl.envs.seeding import next_seed

SEEDS = [10, 20, 30]


def play(environments: Environments, steps: int, random: np.random.Generator) -> tuple[Any, np.ndarray]:
    """Return the last step and the actions of each environment."""
    actions = environments.contract.spaces.actions
    assert actions.count is not None
    past = []
    for _ in range(steps):
        past.append(random.integers(actions.count, size=environments.num_envs))
        step = environments.step(past[-1])
    return step, np.array(past).T


def come_back(env: str, steps: int, **options: Any) -> None:
    """A copy that was restored to another's state gives the same steps from there on."""
    contract = describe(env, read_options(env, options))
    one, other = Environments(contract, len(SEEDS)), Environments(contract, len(SEEDS))
    try:
        one.reset(SEEDS)
        step, past = play(one, steps, np.random.default_rng(steps))
        assert one.seeds_and_steps is not None
        seeds, since = one.seeds_and_steps.tolist()
        restored = other.replay_to(seeds, [own[len(own) - n :] for own, n in zip(past, since, strict=True)])
        assert restored is not None
        observation, done = restored
        assert np.array_equal(observation, step.observation)
        assert np.array_equal(done, step.done)
        for seed in range(60):
            mine, its = (play(each, 1, np.random.default_rng(seed))[0] for each in (one, other))
            assert all(np.array_equal(a, b) for a, b in zip(mine, its, strict=True))
        assert np.array_equal(one.seeds_and_steps, other.seeds_and_steps)
    finally:
        one.close()
        other.close()


@settings(deadline=None, max_examples=30)
@given(steps=st.integers(1, 120), backend=st.sampled_from([Backend.NATIVE, Backend.SYNC]))
def test_cartpole_is_restored(steps: int, backend: Backend) -> None:
    come_back("CartPole-v1", steps, env_backend=backend)


@pytest.mark.parametrize(
    ("env", "steps", "options"),
    [
        ("CartPole-v1", 77, dict(env_backend=Backend.ASYNC)),
        ("MiniGrid-Empty-8x8-v0", 50, {}),
        ("VizdoomBasic-v1", 90, {}),
    ],
)
def test_other_families(env: str, steps: int, options: dict[str, Any]) -> None:
    come_back(env, steps, **options)


@pytest.mark.parametrize(("seeded_every", "steps"), [(60, 401), (20_000, 250)])
def test_atari_is_restored_across_many_games(monkeypatch: pytest.MonkeyPatch, seeded_every: int, steps: int) -> None:
    monkeypatch.setattr(atari_wrappers, "RESEED_AFTER", seeded_every)
    come_back("ALE/Breakout-v5", steps, life_loss=True)


def test_native_and_single_cartpole_play_the_same_episodes() -> None:
    ours, theirs = (
        Environments(describe("CartPole-v1", EnvOptions(env_backend=backend)), len(SEEDS))
        for backend in (Backend.NATIVE, Backend.SYNC)
    )
    assert np.array_equal(ours.reset(SEEDS), theirs.reset(SEEDS))
    for seed in range(300):
        mine, its = (play(each, 1, np.random.default_rng(seed))[0] for each in (ours, theirs))
        assert all(np.array_equal(a, b) for a, b in zip(mine, its, strict=True)), seed


@given(st.integers(0, 2**31 - 1))
def test_training_and_evaluation_seeds_never_coincide(seed: int) -> None:
    later = next_seed(seed)
    assert 0 <= later < 2**31
    assert later != seed
    assert later % 2 == seed % 2
