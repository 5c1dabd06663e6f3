"""Every episode has a seed of its own: what happens in it depends on that seed and its actions alone."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

__all__ = ["Reseeded", "episode_seed"]


def episode_seed(root: int, number: int) -> int:
    """Of an environment's episode `number` (from 0) since it was reset with `root`, which is the first one's.

    31 bits, odd where `root` is odd: seeds for training and for evaluation never meet.
    """
    if number == 0:
        return root
    (word,) = np.random.SeedSequence([root, number]).generate_state(1)
    return (int(word) & 0x7FFF_FFFE) | (root & 1)


class Reseeded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A reset without a seed takes `episode_seed` instead of going on with the environment's generator."""

    _root: int | None = None
    _number = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self._root, self._number = seed, 0
        elif self._root is not None:
            self._number += 1
            seed = episode_seed(self._root, self._number)
        return self.env.reset(seed=seed, options=options)
