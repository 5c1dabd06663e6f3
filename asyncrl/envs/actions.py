"""The form of an action: what a policy gives, and what the environment takes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from asyncrl.common.counting import counted
from asyncrl.errors import UsageError

__all__ = ["LOWEST", "Actions", "actions_of"]

MAX_CHOICES = 2**18
"""Most choices of an action: each is an output of the network."""
LOWEST = np.finfo(np.float32).min
"""Lower bound of real numbers that have none."""
_MOST_SHOWN = 8
"""Parts of an action, or bounds, that a message shows."""


@dataclass(frozen=True)
class Actions:
    """The form of one action: discrete choices numbered from 0, or real numbers with the bounds -1 and 1.

    A policy's actions are int64 [B] (one choice), int64 [B, parts] (several) or float32 [B, parts].
    """

    choices: tuple[int, ...] = ()
    """Number of choices of each part; () for real numbers."""
    first: tuple[int, ...] = ()
    """The environment's number of each part's first choice."""
    low: tuple[float, ...] = ()
    """The environment's lower bound of each real number; () for choices."""
    high: tuple[float, ...] = ()
    """The environment's upper bound of each real number; () for choices."""
    shape: tuple[int, ...] = ()
    """Shape of one action of the environment."""
    dtype: str = "int64"
    """NumPy's name of the environment's dtype."""

    @property
    def count(self) -> int | None:
        """Number of actions if an action is one choice (Discrete, or MultiDiscrete with one part), else None."""
        return self.choices[0] if len(self.choices) == 1 else None

    @property
    def is_discrete(self) -> bool:
        """Whether the environment takes one integer, as Discrete does."""
        return self.count is not None and not self.shape

    @property
    def is_continuous(self) -> bool:
        return not self.choices

    @property
    def parts(self) -> int:
        """Number of choices or real numbers in one action."""
        return len(self.choices) or len(self.low)

    @property
    def policy_shape(self) -> tuple[int, ...]:
        """Shape of one action of a policy."""
        return () if self.count is not None else (self.parts,)

    def for_environment(self, action: np.ndarray) -> np.ndarray:
        """Convert a policy's actions [B, …] to the environment's [B, *shape]; real numbers are clipped to the bounds.

        NaN becomes the lower bound: a diverged policy is detected by the learner, not here.
        """
        if self._is_identity:
            return action
        converted: np.ndarray
        if self.is_continuous:
            center, reach, lowest, highest = self._affine
            converted = np.fmin(np.fmax(center + reach * action, lowest), highest)
        else:
            converted = np.asarray(action + self._first)
        return converted.astype(self.dtype, copy=False).reshape(len(action), *self.shape)

    def of_policy(self, action: np.ndarray) -> np.ndarray:
        """Convert the environment's actions [B, *shape] to a policy's; the inverse of `for_environment`."""
        action = action.reshape(len(action), *self.policy_shape)
        if not self.is_continuous:
            return np.asarray(action.astype(np.int64) - self._first)
        low, high = self.scale
        varies = high > low  # a number whose bounds are equal has one value, for any number of the policy
        scaled = (2 * action.astype(np.float64) - low - high) / np.where(varies, high - low, 1.0)
        return np.where(varies, scaled, 0.0).astype(np.float32)

    def is_valid(self, action: np.ndarray) -> bool:
        """Return whether `action` is one action of a policy. Numbers outside the bounds are valid; they are clipped."""
        if action.shape != self.policy_shape:
            return False
        if self.is_continuous:
            return bool(np.isfinite(action).all())
        return bool(((action >= 0) & (action < np.array(self.choices))).all())

    def random(self, random: np.random.Generator, count: int) -> np.ndarray:
        """Return `count` uniformly random actions of a policy, [count, …]."""
        if self.is_continuous:
            return random.uniform(-1, 1, (count, self.parts)).astype(np.float32)
        drawn: np.ndarray = random.integers(0, self.choices, (count, self.parts))
        return drawn.reshape(count, *self.policy_shape)

    def split(self, choices: np.ndarray) -> list[np.ndarray]:
        """Split an array […, Σ choices] with a number for each choice into those of the parts of an action."""
        return [choices] if len(self.choices) == 1 else np.split(choices, np.cumsum(self.choices)[:-1], -1)

    @cached_property
    def _is_identity(self) -> bool:
        """Whether the environment takes a policy's actions as they are."""
        return self.is_discrete and self.first == (0,) and self.dtype == "int64"

    @cached_property
    def _affine(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The environment's numbers for 0, their distance to those for 1, and the bounds."""
        low, high = self.scale
        return (low + high) / 2, (high - low) / 2, np.maximum(self.low, LOWEST), np.array(self.high)

    @property
    def _first(self) -> Any:
        return self.first[0] if self.count is not None else np.array(self.first)

    @cached_property
    def scale(self) -> tuple[np.ndarray, np.ndarray]:
        """The environment's numbers for -1 and 1.

        They are the bounds; with a single one, this bound and the number 2 away from it; without any, -1 and 1.
        """
        low, high = np.array(self.low), np.array(self.high)
        has_low, has_high = low > LOWEST, high < -LOWEST
        return (
            np.where(has_low, low, np.where(has_high, high - 2, -1.0)),
            np.where(has_high, high, np.where(has_low, low + 2, 1.0)),
        )

    @property
    def in_words(self) -> str:
        """What the environment has, as `2 discrete actions` or `actions of 2 × 3 choices`."""
        if self.count is not None:
            return counted(self.count, "discrete action")
        return f"actions of {self}" if self.is_continuous else f"actions of {self} choices"

    def __str__(self) -> str:
        if self.count is not None:
            return str(self.count)
        if not self.is_continuous:
            return _listed(" × ", map(str, self.choices))
        bounds = sorted(set(zip(self.low, self.high, strict=True)))
        ranges = _listed(", ", (f"[{_bound(low)}, {_bound(high)}]" for low, high in bounds))
        return f"{counted(self.parts, 'number')} within {ranges}"


def _listed(separator: str, words: Iterable[str]) -> str:
    """The first words, and "…" if there are more."""
    shown = list(words)
    return separator.join(shown if len(shown) <= _MOST_SHOWN else [*shown[:_MOST_SHOWN], "…"])


def _bound(number: float) -> str:
    return f"{number:g}" if LOWEST < number < -LOWEST else f"{'-' * (number < 0)}inf"


def actions_of(env_id: str, space: gymnasium.Space[Any]) -> Actions:
    """Return the form of an action space. Raises UsageError for a space that is not supported."""
    dtype = np.dtype(space.dtype).name if space.dtype is not None else "int64"
    if space.shape is not None and math.prod(space.shape) == 0:
        raise UsageError(f"{env_id} has actions {space}, in which there is nothing to choose")
    match space:
        case _ if (count := _outputs(space)) > MAX_CHOICES:
            raise UsageError(
                f"{env_id} has actions {space}; networks have an output for each choice, which takes gigabytes above "
                f"{MAX_CHOICES:,}, and these are {count:,}"
            )
        case spaces.Discrete():
            return Actions((int(space.n),), (int(space.start),), dtype=dtype)
        case spaces.MultiDiscrete():
            choices, first = (tuple(int(n) for n in x.flatten()) for x in (space.nvec, space.start))
            return Actions(choices, first, shape=space.shape, dtype=dtype)
        case spaces.MultiBinary():
            parts = math.prod(space.shape)
            return Actions((2,) * parts, (0,) * parts, shape=space.shape, dtype=dtype)
        case spaces.Box() if np.dtype(dtype).kind == "f":
            low, high = (tuple(float(x) for x in bound.flatten()) for bound in (space.low, space.high))
            return Actions(low=low, high=high, shape=space.shape, dtype=dtype)
    raise UsageError(
        f"{env_id} has actions {space}; asyncrl takes Discrete, MultiDiscrete, MultiBinary and floating-point Box actions"
    )


def _outputs(space: gymnasium.Space[Any]) -> int:
    """Return the number of choices in all parts of an action."""
    match space:
        case spaces.Discrete():
            return int(space.n)
        case spaces.MultiDiscrete():
            return int(space.nvec.sum())
        case spaces.MultiBinary():
            return 2 * math.prod(space.shape)
    return 0
