"""Actors continue where they were, also between two episodes."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from asyncrl.testing import check_resume


class Clockwork(gymnasium.Env[Any, Any]):
    """Every episode has seven steps, so that with its reset it takes eight."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, actions: str) -> None:
        self.action_space = {
            "one": gymnasium.spaces.Discrete(2),
            "two": gymnasium.spaces.MultiDiscrete([2, 3]),
            "numbers": gymnasium.spaces.Box(-1, 1, (1,), np.float32),
        }[actions]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self._observe(), float(np.sum(action)), self.steps == 7, False, {}

    def _observe(self) -> np.ndarray:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)


@pytest.mark.parametrize("actions", ["one", "two", "numbers"])
def test_a_run_is_resumed_where_every_episode_has_just_begun(actions: str) -> None:
    check_resume(Clockwork, env_kwargs={"actions": actions}, t_max=8, engines=["serial"])
