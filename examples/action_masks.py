"""Train in an environment where most actions are forbidden most of the time.

    python examples/action_masks.py

The environment says which actions are allowed: by `info["action_mask"]`, by a method `action_masks()` or in its
observation. Every algorithm with discrete actions obeys it: in training, evaluation, play and imitation.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

import asyncrl


class Sorting(gymnasium.Env[np.ndarray, int]):
    """Sort numbers by swapping neighbours; only a swap that puts the smaller one first is allowed."""

    def __init__(self, size: int = 6) -> None:
        self.size = size
        self.observation_space = spaces.Box(0.0, 1.0, (size,), np.float32)
        self.action_space = spaces.Discrete(size)  # the last action: done

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.numbers = self.np_random.permutation(self.size)
        return self._observe(), {}

    def action_masks(self) -> np.ndarray:
        """Return 1 for swaps of neighbours in the wrong order, and for "done"."""
        return np.append(self.numbers[:-1] > self.numbers[1:], True).astype(np.int8)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if not self.action_masks()[action]:
            raise ValueError(f"action {action} is not allowed for {self.numbers}")
        if action == self.size - 1:
            unsorted = int(self.action_masks()[:-1].sum())
            return self._observe(), float(-unsorted) if unsorted else 1.0, True, False, {}
        self.numbers[[action, action + 1]] = self.numbers[[action + 1, action]]
        return self._observe(), 0.0, False, False, {}

    def _observe(self) -> np.ndarray:
        return (self.numbers / (self.size - 1)).astype(np.float32)


def main(steps: int = 40_000, algorithm: str = "ppo") -> float:
    """Return the mean return of the trained agent; at best 1."""
    run = asyncrl.train(Sorting, algorithm, steps=steps, progress=True)
    score = asyncrl.evaluate(run, episodes=100, greedy=True).mean
    print(f"mean return {score:.2f}")
    return score


if __name__ == "__main__":
    main()
