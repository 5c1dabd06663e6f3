"""Trading: hold, buy or sell short an asset whose price returns to a slowly moving value."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

WINDOW = 8


class Trading(gymnasium.Env[np.ndarray, int]):
    """The reward is the profit of one step, in units of the price's standard deviation, less the costs of trading."""

    def __init__(self, limit: int = 200, cost: float = 0.2, reversion: float = 0.15) -> None:
        self.limit, self.cost, self.reversion = limit, cost, reversion
        self.observation_space = spaces.Box(-np.inf, np.inf, (WINDOW + 1,), np.float32)
        self.action_space = spaces.Discrete(3)  # short, none, long

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.value = 100.0
        self.prices = [self.value + self.np_random.normal(0, 2)]
        for _ in range(WINDOW):
            self._move()
        self.position, self.steps = 0, 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        position = int(action) - 1
        costs = self.cost * abs(position - self.position)
        self.position = position
        self._move()
        self.steps += 1
        reward = position * (self.prices[-1] - self.prices[-2]) - costs
        return self._observe(), float(reward), False, self.steps >= self.limit, {}

    def _move(self) -> None:
        self.value += self.np_random.normal(0, 0.1)
        price = self.prices[-1]
        self.prices.append(price + self.reversion * (self.value - price) + self.np_random.normal())

    def _observe(self) -> np.ndarray:
        window = np.array(self.prices[-WINDOW:]) - self.value
        return np.append(window, self.position).astype(np.float32)
