"""A grid world: walk through the gap in a wall to a goal that is somewhere else in every episode."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

MOVES = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])


class GridWorld(gymnasium.Env[np.ndarray, int]):
    """Each step costs 0.1, the goal gives 1, walking into a wall leaves the agent where it is."""

    def __init__(self, size: int = 8, limit: int = 100) -> None:
        self.size, self.limit = size, limit
        self.observation_space = spaces.Box(0.0, 1.0, (4,), np.float32)
        self.action_space = spaces.Discrete(len(MOVES))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.agent, self.goal = self._free_cell(), self._free_cell()
        self.steps = 0
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        cell = np.clip(self.agent + MOVES[action], 0, self.size - 1)
        if not self._is_wall(cell):
            self.agent = cell
        self.steps += 1
        arrived = bool((self.agent == self.goal).all())
        return self._observe(), 1.0 if arrived else -0.1, arrived, self.steps >= self.limit, {}

    def _is_wall(self, cell: np.ndarray) -> bool:
        """A wall divides the grid in the middle, with a gap at the top."""
        return bool(cell[0] == self.size // 2 and cell[1] > 0)

    def _free_cell(self) -> np.ndarray:
        while True:
            cell = self.np_random.integers(self.size, size=2)
            if not self._is_wall(cell):
                return cell

    def _observe(self) -> np.ndarray:
        return (np.concatenate([self.agent, self.goal]) / (self.size - 1)).astype(np.float32)
