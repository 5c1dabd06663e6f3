"""Delayed reward: manage a field over a season; only the harvest on the last day pays."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class DelayedReward(gymnasium.Env[np.ndarray, int]):
    """Each day the farmer waits, waters or fertilizes. Plants grow best at a moderate moisture, and rain is random."""

    def __init__(self, days: int = 40) -> None:
        self.days = days
        self.observation_space = spaces.Box(0.0, np.inf, (4,), np.float32)
        self.action_space = spaces.Discrete(3)  # wait, water, fertilize

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.day, self.size = 0, 0.1
        self.moisture, self.nutrients = self.np_random.uniform(0.2, 0.8, 2)
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        rain = self.np_random.exponential(0.3) if self.np_random.random() < 0.15 else 0.0
        self.moisture = min(1.0, 0.85 * self.moisture + 0.3 * (action == 1) + rain)
        self.nutrients = min(1.0, 0.9 * self.nutrients + 0.4 * (action == 2))
        health = np.exp(-20 * (self.moisture - 0.6) ** 2) * min(1.0, 2 * self.nutrients)
        self.size += 0.16 * health * self.size * (1 - self.size / 10)
        self.day += 1
        is_harvest = self.day == self.days
        return self._observe(), float(self.size) if is_harvest else 0.0, is_harvest, False, {}

    def _observe(self) -> np.ndarray:
        return np.array([self.day / self.days, self.size / 10, self.moisture, self.nutrients], np.float32)
