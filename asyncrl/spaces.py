"""What networks and rollouts need to know of an environment's spaces."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from asyncrl.errors import UsageError

__all__ = ["Actions", "Spaces", "spaces_of"]


@dataclass(frozen=True)
class Actions:
    """One action: choices, numbered from 0, or numbers, of which ±1 are the bounds.

    A policy's actions are int64 [B] (one choice), int64 [B, parts] (several) or float32 [B, parts].
    """

    choices: tuple[int, ...] = ()
    """How many choices each part has; () where actions are numbers."""
    first: tuple[int, ...] = ()
    """What the environment calls the first choice of each part."""
    low: tuple[float, ...] = ()
    """Lower bound of each number; () where actions are choices."""
    high: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()
    """Of one action as the environment takes it."""
    dtype: str = "int64"
    """NumPy's name of what the environment takes."""

    @property
    def count(self) -> int | None:
        """How many actions there are; None unless an action is one choice."""
        return self.choices[0] if len(self.choices) == 1 and not self.shape else None

    @property
    def is_continuous(self) -> bool:
        return not self.choices

    @property
    def parts(self) -> int:
        """Choices or numbers in one action."""
        return len(self.choices) or len(self.low)

    @property
    def policy_shape(self) -> tuple[int, ...]:
        """Of one action as a policy gives it."""
        return () if self.count is not None else (self.parts,)

    def for_environment(self, action: np.ndarray) -> np.ndarray:
        """A policy's actions [B, …] as the environment takes them, [B, *shape]; numbers are clipped to the bounds."""
        converted: np.ndarray
        if self.is_continuous:
            low, high = np.array(self.low), np.array(self.high)
            bounded = np.isfinite(low) & np.isfinite(high)
            least, most = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
            converted = np.clip((least + most) / 2 + (most - least) / 2 * action, low, high)
        else:
            converted = action + (self.first[0] if self.count is not None else np.array(self.first))
        return converted.astype(self.dtype, copy=False).reshape(len(action), *self.shape)

    def of_policy(self, action: np.ndarray) -> np.ndarray:
        """The inverse: an environment's actions [B, *shape] as a policy gives them."""
        action = action.reshape(len(action), *self.policy_shape)
        if not self.is_continuous:
            return action.astype(np.int64) - (self.first[0] if self.count is not None else np.array(self.first))
        low, high = np.array(self.low), np.array(self.high)
        bounded = np.isfinite(low) & np.isfinite(high)
        least, most = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
        scaled: np.ndarray = (2 * action - least - most) / (most - least)
        return scaled.astype(np.float32)

    def random(self, random: np.random.Generator, count: int) -> np.ndarray:
        """`count` uniformly random actions as a policy gives them."""
        if self.is_continuous:
            return random.uniform(-1, 1, (count, self.parts)).astype(np.float32)
        drawn: np.ndarray = random.integers(0, self.choices, (count, self.parts))
        return drawn.reshape(count, *self.policy_shape)

    def __str__(self) -> str:
        if self.count is not None:
            return str(self.count)
        if not self.is_continuous:
            return " × ".join(map(str, self.choices))
        return f"{self.parts} numbers within " + ", ".join(
            f"[{a:g}, {b:g}]" for a, b in sorted({*zip(self.low, self.high, strict=True)})
        )


@dataclass(frozen=True)
class Spaces:
    """The shape and dtype of one observation, and what an action is.

    `observation_dtype` is NumPy's name ("uint8", "float32").
    """

    observation_shape: tuple[int, ...]
    observation_dtype: str
    actions: Actions

    @property
    def is_image(self) -> bool:
        """uint8 with channels, height and width: what the convolutional networks take."""
        return self.observation_dtype == "uint8" and len(self.observation_shape) == 3

    @property
    def observation_size(self) -> int:
        return math.prod(self.observation_shape)


def spaces_of(env_id: str, observation: gymnasium.Space[Any], action: gymnasium.Space[Any]) -> Spaces:
    """Read one environment's spaces. Raises UsageError for those that nothing here can take."""
    if not isinstance(observation, spaces.Box):
        raise UsageError(f"{env_id} has {type(observation).__name__} observations; asyncrl takes Box observations.")
    dtype = np.dtype(observation.dtype)
    return Spaces(
        observation_shape=tuple(int(n) for n in observation.shape),
        observation_dtype="float32" if dtype.kind == "f" else dtype.name,
        actions=_actions_of(env_id, action),
    )


def _actions_of(env_id: str, action: gymnasium.Space[Any]) -> Actions:
    dtype = np.dtype(action.dtype).name if action.dtype is not None else "int64"
    match action:
        case spaces.Discrete():
            return Actions((int(action.n),), (int(action.start),), dtype=dtype)
        case spaces.MultiDiscrete():
            choices, first = (tuple(int(n) for n in x.flatten()) for x in (action.nvec, action.start))
            return Actions(choices, first, shape=action.shape, dtype=dtype)
        case spaces.MultiBinary():
            parts = math.prod(action.shape)
            return Actions((2,) * parts, (0,) * parts, shape=action.shape, dtype=dtype)
        case spaces.Box() if np.dtype(dtype).kind == "f":
            low, high = (tuple(float(x) for x in bound.flatten()) for bound in (action.low, action.high))
            return Actions(low=low, high=high, shape=action.shape, dtype=dtype)
    raise UsageError(
        f"{env_id} has actions {action}; asyncrl takes Discrete, MultiDiscrete, MultiBinary and floating-point Box actions."
    )
