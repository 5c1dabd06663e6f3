"""Environments with unusual observation and action spaces; ids are `space_envs:Name`."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

KINDS: dict[str, spaces.Space] = {
    **{name: spaces.Box(0, 1, (3,), np.dtype(name).type) for name in ("bool", "int8", "int16", "int64", "float16")},
    **{name: spaces.Box(0, 1000, (3,), np.dtype(name).type) for name in ("uint16", "uint32", "uint64", "float64")},
    "scalar": spaces.Box(-1, 1, ()),
    "negative": spaces.Discrete(5, start=-2),
    "all negative": spaces.Discrete(3, start=-3),
    "keys": spaces.Dict({"arm.left": spaces.Discrete(2), "": spaces.Box(-1, 1, (2,)), 7: spaces.MultiBinary(2)}),
    "gray": spaces.Box(0, 255, (36, 40), np.uint8),
    "float image": spaces.Box(0, 1, (36, 36, 3), np.float32),
    "plane": spaces.Box(-1, 1, (40, 36)),
    "cube": spaces.Box(0, 255, (36, 33, 34), np.uint8),
    "frames last": spaces.Box(0, 255, (36, 36, 3, 4), np.uint8),
    "a flag": spaces.Box(-1, 1, (2,)),
    "one choice": spaces.MultiDiscrete([3], start=[2]),
    "one bit": spaces.MultiBinary(1),
}
"""Spaces by name."""


class SpaceEnv(gymnasium.Env[Any, Any]):
    """Observes samples of a space for five steps; the reward is 1 if the action's first number is not 0."""

    def __init__(self, kind: str = "scalar", acts: str | None = None) -> None:
        self.observation_space = KINDS[kind]
        self.action_space = spaces.Discrete(2) if acts is None else KINDS[acts]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self._steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        assert action in self.action_space
        return self.observation_space.sample(), float(np.ravel(action)[0] != 0), self._steps == 5, False, {}


class Flag(SpaceEnv):
    """Observes a random number and a constant 0."""

    def __init__(self) -> None:
        super().__init__("a flag")

    def reset(self, **how: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = super().reset(**how)
        return observation * np.float32([1, 0]), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, *others = super().step(action)
        return observation * np.float32([1, 0]), *others


class Reusing(VectorEnv):
    """Counts steps, and returns the same array every time."""

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.NEXT_STEP}
    single_observation_space = spaces.Box(0, np.inf, (1,), np.float32)
    single_action_space = spaces.Discrete(2)

    def __init__(self, num_envs: int = 1, **how: Any) -> None:
        self.num_envs = num_envs
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._seen = np.zeros((num_envs, 1), np.float32)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._seen[:] = 0
        return self._seen, {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self._seen += 1
        over = (self._seen[:, 0] % 10 == 0).copy()
        return self._seen, np.ones(self.num_envs), over, np.zeros(self.num_envs, bool), {}


class One(gymnasium.Env[Any, Any]):
    """The single environment of `Reusing`."""

    observation_space, action_space = Reusing.single_observation_space, Reusing.single_action_space


gymnasium.register("Reusing-v0", entry_point=One, vector_entry_point=Reusing)
