"""Noisy observation: hold a drone at a height in gusts of wind, with sensors that are never exact."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

STEP = 0.1


class NoisyObservation(gymnasium.Env[np.ndarray, int]):
    """Three thrusts; a reward of 1 per step near the target height, less with distance. A crash ends the episode."""

    def __init__(self, limit: int = 200, noise: float = 0.2) -> None:
        self.limit, self.noise = limit, noise
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.height, self.target = self.np_random.uniform(1.0, 4.0, 2)
        self.speed, self.wind, self.steps = 0.0, 0.0, 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.wind = 0.95 * self.wind + self.np_random.normal(0, 0.15)
        self.speed += STEP * (3.0 * (int(action) - 1) + self.wind - 0.2 * self.speed)
        self.height += STEP * self.speed
        self.steps += 1
        crashed = not 0.0 < self.height < 5.0
        reward = -10.0 if crashed else float(np.exp(-abs(self.height - self.target)))
        return self._observe(), reward, crashed, self.steps >= self.limit, {}

    def _observe(self) -> np.ndarray:
        exact = np.array([self.height - self.target, self.speed, self.height])
        return (exact + self.np_random.normal(0, self.noise, 3)).astype(np.float32)
