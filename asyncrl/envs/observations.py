"""From what environments show to what rollouts keep: one array, channels first, the newest frames together."""

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
    """Gives observations [B, *O] as `spaces` says, stacks of `stack` frames included; what fits already is let through.

    Frames from before an episode are zero. Raises EnvironmentFault for an observation of another shape than its space's;
    with `check`, which the vector environment does not do by itself, for values that do not fit.
    """

    def __init__(self, env: VectorEnv, spaces: Spaces, stack: int, *, check: bool = False) -> None:
        super().__init__(env)
        shape, dtype = spaces.observation_shape, np.dtype(spaces.observation_dtype)
        self.single_observation_space = gymnasium.spaces.Box(*limits(dtype), shape, dtype.type)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, self.num_envs)
        self._spaces, self._check = spaces, check
        self._frames = np.zeros((self.num_envs, *shape), dtype) if stack > 1 else None
        self._over = np.zeros(self.num_envs, dtype=bool)
        """[B] what is seen next begins an episode"""

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        begins = (options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))
        observation, infos = self.env.reset(seed=seed, options=options)
        before = self._frames
        self._over = self._over | begins
        seen = self._seen(observation)
        self._over = self._over & ~begins
        if before is not None:
            seen[~begins] = before[~begins]
        return seen, infos

    def step(self, actions: Any) -> tuple[np.ndarray, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, infos = self.env.step(actions)
        seen = self._seen(observation)
        self._over = np.asarray(terminated) | np.asarray(truncated)
        return seen, reward, terminated, truncated, infos

    def _seen(self, observation: Any) -> np.ndarray:
        try:
            newest = pack(self._spaces, observation, check=self._check)
        except ValueError as problem:
            raise EnvironmentFault(f"returned {problem}") from None
        if self._frames is None:
            return newest
        frames = np.empty_like(self._frames)  # who has seen the last one may keep it
        frames[:, :-1] = self._frames[:, 1:]
        frames[self._over, :-1] = 0
        frames[:, -1] = newest.reshape(frames[:, -1].shape)  # a gray frame has a channel of its own
        self._frames = frames
        return frames
