"""Seeds every episode, so that its course depends on its seed and its actions alone."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import gymnasium
import numpy as np

__all__ = ["EpisodeSeeding", "each_seed", "next_seed", "unpredictable_seeds"]

_STRIDE = 2 * 663_608_941
"""Twice an odd number near 2^30 / φ: seeds repeat after 2^30 episodes, and consecutive ones are far apart."""


def next_seed(seed: int) -> int:
    """Return the seed of the episode after that of `seed`.

    It has 31 bits and the parity of `seed`, so seeds for training and for evaluation never coincide.
    """
    return (seed + _STRIDE) % 2**31


def each_seed(seed: Any, num_envs: int) -> list[Any] | None:
    """Return the seed of each environment that `reset` of a vector environment is given: an int counts up; None is None.

    Raises ValueError for another number of seeds.
    """
    if seed is None:
        return None
    if isinstance(seed, Integral):
        return [int(seed) + i for i in range(num_envs)]
    if len(seed) != num_envs:
        raise ValueError(f"{num_envs} environments need as many seeds, not {len(seed)}")
    return [None if one is None else int(one) for one in seed]


def unpredictable_seeds(count: int) -> list[int]:
    """Return seeds of 31 bits from the operating system."""
    drawn: list[int] = np.random.default_rng().integers(2**31, size=count).tolist()
    return drawn


class EpisodeSeeding(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gives a reset without a seed the next seed, in place of the environment's current generator state."""

    seed: int | None = None
    """Seed of this episode."""
    steps = 0
    """Steps of this episode so far."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is None and self.seed is not None:
            seed = next_seed(self.seed)
        self.seed = seed
        self.steps = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.env.step(action)
