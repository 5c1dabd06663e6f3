"""Environments that draw from global random generators; ids are `global_rng_envs:Name`."""

from __future__ import annotations

import random
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces


class Careless(gymnasium.Env[np.ndarray, int]):
    """Draws from `sources` in its constructor, in `reset`, and in every step but the first two; episodes have eight steps.

    Its spaces are class attributes, and its `reset` ignores the seed. `goal` is a space that Gymnasium does not know of.
    """

    goal_space: ClassVar = spaces.Box(0.0, 1.0, (2,), np.float64)
    observation_space: ClassVar = spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space: ClassVar = spaces.Discrete(2)
    metadata: ClassVar = {"render_modes": []}
    length = 8

    def __init__(
        self, sources: str = "numpy normal python gauss torch space goal own", render_mode: str | None = None
    ) -> None:
        self.render_mode = render_mode
        self._sources = sources.split()
        self._made = self._draw()
        self._age = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self._age, self._begun = 0, self._draw()
        return self._see(0.0), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._age += 1
        drawn = self._draw() if self._age > 2 else 0.0
        return self._see(drawn), drawn + float(action), self._age >= self.length, False, {}

    def _see(self, drawn: float) -> np.ndarray:
        return np.array([self._made, self._begun, drawn], np.float32)

    def _draw(self) -> float:
        import torch

        draws = {
            "numpy": lambda: np.random.random(),
            "normal": lambda: np.random.randn(),
            "python": random.random,
            "gauss": lambda: random.gauss(0.0, 1.0),
            "torch": lambda: float(torch.rand((), dtype=torch.float64)),
            "space": lambda: float(self.observation_space.sample()[0]),
            "goal": lambda: float(self.goal_space.sample()[1]),
            "own": lambda: float(self.np_random.random()),
        }
        return float(np.tanh(sum(draws[name]() for name in self._sources)))


class Together(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """A vector environment that draws from NumPy's global generator."""

    metadata: ClassVar = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs: int = 1) -> None:
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = Careless.observation_space, Careless.action_space
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        return self._see(), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        never = np.zeros(self.num_envs, dtype=bool)
        return self._see(), np.random.random(self.num_envs), never, never, {}

    def _see(self) -> np.ndarray:
        return np.random.random((self.num_envs, 3)).astype(np.float32)


gymnasium.register("CarelessTogether-v0", entry_point=Careless, vector_entry_point=Together)
