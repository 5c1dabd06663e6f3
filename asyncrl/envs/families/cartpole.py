"""CartPole's vector environment with a seed for every episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

from asyncrl.envs.seeding import next_seed

__all__ = ["SeededCartPole"]


class SeededCartPole(CartPoleVectorEnv):
    """CartPole whose episodes begin where ``CartPole-v1`` begins when it is reset with the episode's seed.

    Gymnasium's own class draws the beginnings of all episodes from one generator.
    """

    state: Any
    """[4, B] float64"""
    _seeds: list[int]
    """[B] seeds of the current episodes"""

    @property
    def seeds_and_steps(self) -> np.ndarray:
        """[2, B] int64: the seed of each environment's episode and its steps so far."""
        return np.array([self._seeds, self.steps], dtype=np.int64)

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin new episodes; an int seeds environment i with ``seed + i``.

        Environments outside the option `reset_mask`, [B] bool, keep their state.
        """
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0] >> 1)
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        if mask.all():
            super().reset(seed=0)
            self._seeds = list(seeds)
        self.prev_done[mask] = False
        self.steps[mask] = 0
        for i in np.flatnonzero(mask).tolist():
            self._begin(i, int(seeds[i]))
        return self.state.T.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        done = [i for i, ended in enumerate(self.prev_done.tolist()) if ended]
        result = super().step(action)
        if done:
            for i in done:
                self._begin(i, next_seed(self._seeds[i]))
            result[0][done] = self.state[:, done].T
        return result

    def _begin(self, i: int, seed: int) -> None:
        self._seeds[i] = seed
        self.state[:, i] = np.random.default_rng(seed).uniform(self.low, self.high, 4)
