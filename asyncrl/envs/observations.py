"""Converts observations to the form of rollouts: one array, channels first, with frames stacked."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper

from asyncrl.common.dtypes import limits
from asyncrl.envs.spaces import Spaces, pack
from asyncrl.errors import EnvironmentFault

__all__ = ["Observations"]


class Observations(VectorWrapper):
    """Returns observations [B, *O] in the form of `spaces`, with stacks of `stack` frames.

    Frames from before an episode are zero. Raises EnvironmentFault for an observation whose shape differs from its
    space's and, with `check`, for values that do not fit; `check` is for vector environments that do not check these.
    """

    def __init__(self, env: VectorEnv, spaces: Spaces, stack: int, *, check: bool = False) -> None:
        super().__init__(env)
        shape, dtype = spaces.observation_shape, np.dtype(spaces.observation_dtype)
        self.single_observation_space = gymnasium.spaces.Box(*limits(dtype), shape, dtype.type)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, self.num_envs)
        self._spaces = spaces
        self._check = check
        self._frames = np.zeros((self.num_envs, *shape), dtype) if stack > 1 else None
        self._begins = np.zeros(self.num_envs, dtype=bool)
        """[B] whether the next observation is the first of an episode"""

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))
        observation, infos = self.env.reset(seed=seed, options=options)
        previous = self._frames
        self._begins = self._begins | mask
        stacked = self._stacked(observation)
        self._begins = self._begins & ~mask
        if previous is not None:
            stacked[~mask] = previous[~mask]
        return stacked, infos

    def step(self, actions: Any) -> tuple[np.ndarray, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, infos = self.env.step(actions)
        stacked = self._stacked(observation)
        self._begins = np.asarray(terminated) | np.asarray(truncated)
        return stacked, reward, terminated, truncated, infos

    def _stacked(self, observation: Any) -> np.ndarray:
        try:
            newest = pack(self._spaces, observation, check=self._check)
        except ValueError as problem:
            raise EnvironmentFault(f"returned {problem}") from None
        if self._frames is None:
            return newest
        frames = np.empty_like(self._frames)  # callers may keep the previous array
        frames[:, :-1] = self._frames[:, 1:]
        frames[self._begins, :-1] = 0
        frames[:, -1] = newest.reshape(frames[:, -1].shape)  # a gray frame is one channel
        self._frames = frames
        return frames
