"""CartPole in a few calls against Gymnasium's class: equal in every bit, and with the same complaints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncrl.envs import Environments, describe
from asyncrl.envs.families.cartpole import SeededCartPole
from asyncrl.envs.seeding import next_seed


class ByGymnasium(SeededCartPole):
    """The same episodes, stepped by Gymnasium's class."""

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        began = np.flatnonzero(self.prev_done).tolist()
        result = CartPoleVectorEnv.step(self, action)
        for i in began:
            self._begin(i, next_seed(self._seeds[i]))
        result[0][began] = self.state[:, began].T
        return result


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 35), st.integers(3, 40), st.booleans(), st.integers(0, 10**6))
def test_steps_are_gymnasiums(envs: int, longest: int, sutton_barto: bool, seed: int) -> None:
    options: dict[str, Any] = dict(max_episode_steps=longest, sutton_barto_reward=sutton_barto)
    one, other = SeededCartPole(envs, **options), ByGymnasium(envs, **options)
    assert np.array_equal(one.reset(seed=seed)[0], other.reset(seed=seed)[0])
    random = np.random.default_rng(seed)
    for _ in range(100):
        action = random.integers(0, 2, envs)
        for found, expected in zip(one.step(action)[:4], other.step(action)[:4], strict=True):
            assert found.dtype == expected.dtype
            assert found.strides == expected.strides  # on which the last bits of a matrix product depend
            assert found.tobytes() == expected.tobytes()
        assert one.state.tobytes() == other.state.tobytes()
        assert np.array_equal(one.seeds_and_steps, other.seeds_and_steps)


@pytest.mark.parametrize(
    "action",
    [np.array([0, 2]), np.array([-1, 0]), np.array([0]), np.array([0.0, 1.0]), "left"],
    ids=["too large", "negative", "too few", "real", "no array"],
)
def test_invalid_actions_are_refused(action: Any) -> None:
    environment = SeededCartPole(2)
    environment.reset(seed=1)
    with pytest.raises(AssertionError, match="invalid"):
        environment.step(action)


def test_poles_can_be_restarted_one_by_one_also_before_the_first_reset() -> None:
    assert Environments(describe("CartPole-v1"), 2).can_restart


def test_narrow_integers_and_another_integrator_are_left_to_gymnasium() -> None:
    one, other = SeededCartPole(2), ByGymnasium(2)
    for environment in (one, other):
        environment.kinematics_integrator = "semi-implicit euler"
        environment.reset(seed=1)
    for dtype in (np.int64, np.int32):
        action = np.array([0, 1], dtype)
        assert np.array_equal(one.step(action)[0], other.step(action)[0])
