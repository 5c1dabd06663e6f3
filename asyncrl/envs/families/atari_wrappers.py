"""Wrappers of ale-py's vector environment: periodic seeding, and truncation at the cap in training with lives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from asyncrl.envs.seeding import each_seed, next_seed, unpredictable_seeds

__all__ = ["PeriodicSeeding", "TruncateLivesAtCap"]

RESEED_AFTER = 20_000
"""Steps after which a game's next episode takes a new seed.

A resumed run replays the steps since the last seed. Seeding more often would cost time: ale-py reloads the game for it,
which takes 82 ms, as long as some 500 steps.
"""


class PeriodicSeeding(VectorWrapper):
    """Reseeds games now and then; without a seed, an episode continues the previous one's random generator."""

    def __init__(self, env: VectorEnv, episode_ended: Callable[..., np.ndarray]) -> None:
        """`episode_ended` maps `terminated`, `truncated` and `infos` to whether ale-py resets in the next step."""
        super().__init__(env)
        self._episode_ended = episode_ended
        self._resets_next: np.ndarray = np.zeros(env.num_envs, dtype=bool)
        self.seeds_and_steps: np.ndarray = np.zeros((2, env.num_envs), dtype=np.int64)
        """[2, B] each game's last seed and the steps since"""
        self.seeds_and_steps[0] = unpredictable_seeds(env.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset with one seed per game; an int counts up, None takes the seeds that follow from the last ones.

        Games outside the option `reset_mask`, [B] bool, keep their state.
        """
        mask: np.ndarray = (options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))
        each = each_seed(seed, self.num_envs) or list(map(next_seed, self.seeds_and_steps[0].tolist()))
        seeds: Any = np.array(each, dtype=np.int32)[mask]
        self.seeds_and_steps[0, mask] = seeds
        self.seeds_and_steps[1, mask] = 0
        self._resets_next = self._resets_next & ~mask
        return self.env.reset(seed=seeds, options={"reset_mask": mask})

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        due = self._resets_next & (self.seeds_and_steps[1] >= RESEED_AFTER)
        observation, reward, terminated, truncated, infos = self.env.step(actions)
        self._resets_next = self._episode_ended(terminated, truncated, infos)
        self.seeds_and_steps[1] += 1
        if due.any():
            seeds = [next_seed(seed) for seed in self.seeds_and_steps[0].tolist()]
            observation, infos = self.reset(seed=seeds, options={"reset_mask": due})
        return observation, reward, terminated, truncated, infos


class TruncateLivesAtCap(VectorWrapper):
    """Truncates games whose last step before the cap also loses a life.

    ale-py reports only the lost life of that step, as a termination, and resets in the next one.
    """

    def __init__(self, env: VectorEnv, cap: int) -> None:
        super().__init__(env)
        self._cap = cap
        self._steps: np.ndarray = np.zeros(env.num_envs, dtype=np.int64)
        """[B] steps of each game"""

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._steps[(options or {}).get("reset_mask", slice(None))] = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, infos = self.env.step(actions)
        self._steps += 1
        truncated = truncated | (terminated & (self._steps >= self._cap))
        self._steps[truncated | (terminated & (infos["lives"] == 0))] = -1  # the next step resets
        return observation, reward, terminated, truncated, infos
