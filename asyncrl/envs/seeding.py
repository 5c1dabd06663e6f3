"""What happens in an environment depends on what it was seeded with and on its actions since; most are at every episode."""

from __future__ import annotations

from typing import Any

import gymnasium

__all__ = ["EpisodeSeeding", "next_seed"]

_STRIDE = 2 * 663_608_941
"""Twice an odd number next to 2^30 / φ: seeds come back after 2^30 episodes, and those of neighbours are far apart."""


def next_seed(seed: int) -> int:
    """What follows `seed`.

    31 bits, odd where `seed` is odd: seeds for training and for evaluation never meet.
    """
    return (seed + _STRIDE) % 2**31


class EpisodeSeeding(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A reset without a seed takes the next one instead of going on with the environment's generator."""

    seed: int | None = None
    """What this episode was reset with."""
    steps = 0
    """Of this episode."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is None and self.seed is not None:
            seed = next_seed(self.seed)
        self.seed, self.steps = seed, 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.env.step(action)
