"""Resource allocation: divide a capacity among queues whose demand changes."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Allocation(gymnasium.Env[np.ndarray, np.ndarray]):
    """Shares are the softmax of the action. Work that waits costs more in some queues than in others."""

    def __init__(self, queues: int = 4, limit: int = 100) -> None:
        self.limit = limit
        self.prices = np.linspace(0.5, 2.0, queues)
        self.observation_space = spaces.Box(0.0, np.inf, (2 * queues,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (queues,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        queues = len(self.prices)
        self.waiting = self.np_random.uniform(0, 2, queues)
        self.demand = self.np_random.uniform(0.1, 0.4, queues)
        self.steps = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        weights = np.exp(3 * np.clip(action, -1, 1))
        served = np.minimum(self.waiting, weights / weights.sum())  # the capacity is one unit of work per step
        self.waiting = np.minimum(self.waiting - served + self.np_random.poisson(4 * self.demand) / 4, 10.0)
        self.demand = np.clip(self.demand + self.np_random.normal(0, 0.02, len(self.demand)), 0.05, 0.45)
        self.steps += 1
        return self._observe(), -float(self.prices @ self.waiting) / 10, False, self.steps >= self.limit, {}

    def _observe(self) -> np.ndarray:
        return np.concatenate([self.waiting, self.demand]).astype(np.float32)
