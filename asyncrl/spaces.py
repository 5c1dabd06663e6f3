"""What networks and rollouts need to know of an environment's spaces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from asyncrl.errors import UsageError

__all__ = ["SMALLEST_IMAGE", "Actions", "Entry", "Spaces", "pack", "spaces_of"]

SMALLEST_IMAGE = 36
"""Height and width that the convolutional networks need, in pixels."""


_LOWEST = np.finfo(np.float32).min


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
        """A policy's actions [B, …] as the environment takes them, [B, *shape]; numbers are clipped to the bounds.

        What is not a number becomes the lower bound: of a policy that has diverged, it is the learner that finds out.
        """
        if self._are_the_same:
            return action
        converted: np.ndarray
        if self.is_continuous:
            low, high = np.array(self.low), np.array(self.high)
            bounded = np.isfinite(low) & np.isfinite(high)
            least, most = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
            scaled = (least + most) / 2 + (most - least) / 2 * action
            converted = np.fmin(np.fmax(scaled, np.maximum(low, _LOWEST)), high)
        else:
            converted = action + (self.first[0] if self.count is not None else np.array(self.first))
        return converted.astype(self.dtype, copy=False).reshape(len(action), *self.shape)

    @cached_property
    def _are_the_same(self) -> bool:
        """Does the environment take what a policy gives?"""
        return self.count is not None and self.first == (0,) and self.dtype == "int64"

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

    def permit(self, action: np.ndarray) -> bool:
        """Is this one action as a policy gives it? Numbers beyond their bounds are; they are clipped."""
        if action.shape != self.policy_shape:
            return False
        if self.is_continuous:
            return bool(np.isfinite(action).all())
        return bool(((action >= 0) & (action < np.array(self.choices))).all())

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
        return f"{self.parts} number{'s' * (self.parts != 1)} within " + ", ".join(
            f"[{a:g}, {b:g}]" for a, b in sorted({*zip(self.low, self.high, strict=True)})
        )


@dataclass(frozen=True)
class Entry:
    """One part of an observation that has several. They are kept as bytes, one after the other."""

    name: str
    """Its keys, as "camera.left"; "" for the whole observation."""
    shape: tuple[int, ...]
    """Of images: channels, height, width."""
    dtype: str
    """NumPy's name: uint8, int64 or float32."""
    choices: int = 0
    """How many there are, where it is a choice: networks see it as that many zeros and a one."""
    channels_last: bool = False
    """The environment gives height × width × channels."""

    @property
    def is_image(self) -> bool:
        """Large enough for convolutions."""
        return self.dtype == "uint8" and len(self.shape) >= 3 and min(self.shape[-2:]) >= SMALLEST_IMAGE

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        what = f"one of {self.choices}" if self.choices else "×".join(map(str, self.shape)) + f" {self.dtype}"
        return f"{self.name}: {what}" if self.name else what

    def of(self, value: Any) -> np.ndarray:
        """[B, *shape] of what the environment gave. Raises ValueError where that has another shape."""
        array = np.asarray(value)
        if self.channels_last and array.ndim >= 3:
            array = np.moveaxis(array, -1, -3)
        if array.shape[1:] != self.shape:
            raise ValueError(f"returned observations {self.name!r} of shape {array.shape[1:]}, its space says {self.shape}")
        return array.astype(self.dtype, copy=False)


@dataclass(frozen=True)
class Spaces:
    """The shape and dtype of one observation as networks take it, and what an action is.

    `observation_dtype` is NumPy's name ("uint8", "float32"). An observation with `entries` is uint8 [bytes], or
    [frames, bytes].
    """

    observation_shape: tuple[int, ...]
    observation_dtype: str
    actions: Actions
    entries: tuple[Entry, ...] = ()
    """The parts of an observation that is no array."""
    channels_last: bool = False
    """The environment gives height × width × channels."""

    @property
    def is_image(self) -> bool:
        """uint8 with channels, height and width: what the convolutional networks take."""
        return not self.entries and Entry("", self.observation_shape, self.observation_dtype).is_image

    @property
    def has_images(self) -> bool:
        """Is there one in it?"""
        return self.is_image or any(entry.is_image for entry in self.entries)

    @property
    def observation_size(self) -> int:
        return math.prod(self.observation_shape)

    def __str__(self) -> str:
        if self.entries:
            return ", ".join(map(str, self.entries))
        return str(Entry("", self.observation_shape, self.observation_dtype))

    def stacked(self, frames: int) -> Spaces:
        """The same where the last `frames` observations are one, oldest first."""
        shape = self.observation_shape
        if frames == 1:
            return self
        return replace(self, observation_shape=(frames, *(shape[1:] if self._is_gray else shape)))

    @property
    def _is_gray(self) -> bool:
        return not self.entries and len(self.observation_shape) == 3 and self.observation_shape[0] == 1


def pack(spaces: Spaces, observation: Any) -> np.ndarray:
    """A batch of the environment's observations as networks take them, without stacking: [B, *O].

    Raises ValueError where a part has not the shape that its space says.
    """
    if not spaces.entries:
        array = np.asarray(observation)
        return (np.moveaxis(array, -1, -3) if spaces.channels_last else array).astype(spaces.observation_dtype, copy=False)
    parts = [entry.of(_part(observation, entry.name)) for entry in spaces.entries]
    return np.concatenate([np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8) for x in parts], 1)


def spaces_of(env_id: str, observation: gymnasium.Space[Any], action: gymnasium.Space[Any]) -> Spaces:
    """Read one environment's spaces. Raises UsageError for those that nothing here can take."""
    actions = _actions_of(env_id, action)
    entries = tuple(_entries(env_id, observation, ""))
    if isinstance(observation, spaces.Box):
        (whole,) = entries
        dtype = np.dtype(observation.dtype)
        own = "float32" if dtype.kind == "f" else dtype.name
        return Spaces(whole.shape, own, actions, channels_last=whole.channels_last)
    return Spaces((sum(entry.nbytes for entry in entries),), "uint8", actions, entries)


def _entries(env_id: str, space: gymnasium.Space[Any], name: str) -> Iterator[Entry]:
    """The leaves of an observation space, in order."""
    inner = f"{name}." if name else ""
    match space:
        case spaces.Dict():
            for key, part in space.spaces.items():
                yield from _entries(env_id, part, f"{inner}{key}")
        case spaces.Tuple():
            for place, part in enumerate(space.spaces):
                yield from _entries(env_id, part, f"{inner}{place}")
        case spaces.Discrete():
            yield Entry(name, (), "int64", choices=int(space.n) + int(space.start))
        case spaces.Box() | spaces.MultiBinary() | spaces.MultiDiscrete():
            shape = tuple(int(n) for n in space.shape)
            last = space.dtype == np.uint8 and len(shape) >= 3 and shape[-1] <= 4 < min(shape[-3:-1])
            dtype = "uint8" if space.dtype == np.uint8 else "float32"
            yield Entry(name, (*shape[:-3], shape[-1], *shape[-3:-1]) if last else shape, dtype, channels_last=last)
        case _:
            where = f"in {name!r} " if name else ""
            raise UsageError(
                f"{env_id} has {type(space).__name__} observations {where}; asyncrl takes Box, Discrete, MultiDiscrete, "
                "MultiBinary, and Dict and Tuple of them."
            )


def _part(observation: Any, name: str) -> Any:
    """What lies under the keys `name` of an observation."""
    for key in filter(None, name.split(".")):
        observation = observation[int(key)] if isinstance(observation, tuple | list) else observation[key]
    return observation


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
