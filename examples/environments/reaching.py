"""Reaching in the plane: an arm of two links moves its hand to a target."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Reaching(gymnasium.Env[np.ndarray, np.ndarray]):
    """Two torques accelerate the joints. The reward is the negative distance of the hand, less the effort."""

    def __init__(self, limit: int = 100) -> None:
        self.limit = limit
        self.observation_space = spaces.Box(-np.inf, np.inf, (8,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.angles = self.np_random.uniform(-np.pi, np.pi, 2)
        self.velocities = np.zeros(2)
        radius, direction = self.np_random.uniform(0.5, 1.8), self.np_random.uniform(-np.pi, np.pi)
        self.target = radius * np.array([np.cos(direction), np.sin(direction)])
        self.steps = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        torque = np.clip(action, -1, 1)
        self.velocities = 0.9 * self.velocities + 0.5 * torque
        self.angles = self.angles + 0.1 * self.velocities
        self.steps += 1
        reward = -np.linalg.norm(self._hand() - self.target) - 0.05 * np.square(torque).sum()
        return self._observe(), float(reward), False, self.steps >= self.limit, {}

    def _hand(self) -> np.ndarray:
        directions = np.cumsum(self.angles)
        return np.array([np.cos(directions).sum(), np.sin(directions).sum()])

    def _observe(self) -> np.ndarray:
        parts = np.cos(self.angles), np.sin(self.angles), self.velocities, self.target - self._hand()
        return np.concatenate(parts).astype(np.float32)
