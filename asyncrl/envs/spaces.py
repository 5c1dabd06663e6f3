"""The form of an environment's observations and actions, as networks and rollouts need it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np

from asyncrl.common.dtypes import exact
from asyncrl.envs.actions import Actions

__all__ = ["SMALLEST_IMAGE", "Actions", "Entry", "MaskSource", "Spaces", "pack"]

SMALLEST_IMAGE = 36
"""Smallest height and width for the convolutional networks, in pixels."""


class MaskSource(Enum):
    """Where an environment says which actions it allows next."""

    NONE = "none"
    OBSERVATION = "observation['action_mask']"
    METHOD = "action_masks()"
    INFO = "info['action_mask']"


@dataclass(frozen=True)
class Entry:
    """One part of an observation with several parts, which are stored as bytes, one after another."""

    name: str
    """Its keys joined by dots, such as "camera.left"; "" for the whole observation."""
    shape: tuple[int, ...]
    """Channels, height and width for images."""
    dtype: str
    """NumPy's name: uint8, int64 or float32."""
    choices: int = 0
    """Number of choices of a discrete part, which networks see as a one-hot vector; 0 for others."""
    channels_last: bool = False
    """Whether the environment's images are height × width × channels."""
    first: int = 0
    """The environment's number of the first choice."""
    keys: tuple[str | int, ...] = ()
    """Its keys, if splitting its name at the dots does not give them: keys with a dot, empty keys, integers."""
    given: tuple[int, ...] = ()
    """The environment's shape for images without channels, [H, W], or with frames last, [H, W, C, S]; else ()."""
    image_max: float | None = None
    """Largest value of a pixel. None means 255 for uint8, and not an image for floating-point numbers."""

    @property
    def is_image(self) -> bool:
        """Whether it has the form of an image that is large enough for convolutions."""
        has_pixels = self.dtype == "uint8" or self.image_max is not None
        return has_pixels and len(self.shape) >= 3 and min(self.shape[-2:]) >= SMALLEST_IMAGE

    @property
    def given_shape(self) -> tuple[int, ...]:
        """Shape of one value of the environment."""
        if self.channels_last:
            return (*self.shape[:-3], *self.shape[-2:], self.shape[-3])
        return self.given or self.shape

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        sizes = "×".join(map(str, self.shape)) or "one"
        form = f"one of {self.choices}" if self.choices else f"{sizes} {self.dtype}"
        return f"{self.name}: {form}" if self.name else form

    def find(self, observation: Any) -> Any:
        """Return its value in an observation. Raises ValueError if it is missing."""
        try:
            for key in self.keys or filter(None, self.name.split(".")):
                observation = observation[int(key)] if isinstance(observation, tuple | list) else observation[key]
        except (LookupError, TypeError, ValueError):
            raise ValueError(f"an observation without the part {self.name!r}") from None
        return observation

    def of(self, value: Any, *, check: bool = False) -> np.ndarray:
        """Convert a batch of the environment's values to [B, *shape].

        Raises ValueError for another shape and for numbers that do not fit the dtype; with `check`, also for numbers that
        are not finite or outside the choices.
        """
        array = np.asarray(value)
        if array.shape[1:] != self.given_shape:
            raise self._fault(f"has the shape {array.shape[1:]}, not {self.given_shape}")
        return self.converted(array, check=check)

    def converted(self, array: np.ndarray, *, check: bool = False) -> np.ndarray:
        """Convert as `of` does, with any leading axes and without checking the shape."""
        try:
            array = exact(array, self.dtype)
        except ValueError as problem:
            raise self._fault(str(problem)) from None
        if check:
            self._check(array)
        if self.choices:
            array = array - self.first
        if self.channels_last:
            return np.moveaxis(array, -1, -3)
        if self.given:
            return np.expand_dims(array, -3) if len(self.given) == 2 else np.moveaxis(array, (-1, -2), (-4, -3))
        return array

    def _check(self, array: np.ndarray) -> None:
        """Raise ValueError for numbers that are not finite or outside the choices."""
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise self._fault("is not finite")
        if self.choices:
            last = self.first + self.choices - 1
            wrong = array[(array < self.first) | (array > last)]
            if wrong.size:
                raise self._fault(f"is {wrong[0]}, outside the choices {self.first} … {last}")

    def _fault(self, what: str) -> ValueError:
        part = f"with a part {self.name!r} that" if self.name else "that"
        return ValueError(f"an observation {part} {what}")


@dataclass(frozen=True)
class Spaces:
    """The shape and dtype of one observation as networks take it, and the form of an action.

    `observation_dtype` is NumPy's name ("uint8", "float32"). An observation with `entries` is uint8 [bytes], or
    [frames, bytes] when stacked.
    """

    observation_shape: tuple[int, ...]
    observation_dtype: str
    actions: Actions
    entries: tuple[Entry, ...] = ()
    """The parts of an observation that is not one array."""
    channels_last: bool = False
    """See `Entry`."""
    given: tuple[int, ...] = ()
    """See `Entry`."""
    image_max: float | None = None
    """See `Entry`."""
    action_mask: MaskSource = MaskSource.NONE
    """Where the action mask comes from. The mask is the last entry: uint8 [Σ choices], 1 where a choice is allowed."""

    @property
    def is_masked(self) -> bool:
        """Whether observations contain an action mask."""
        return self.action_mask is not MaskSource.NONE

    @cached_property
    def features(self) -> Spaces:
        """The spaces as encoders see them: without the action mask."""
        if not self.is_masked:
            return self
        entries = self.entries[:-1]
        shape = (sum(entry.nbytes for entry in entries),)
        first = entries[0]
        if len(entries) == 1 and not first.choices:
            one = Spaces(first.shape, first.dtype, self.actions, image_max=first.image_max)
        else:
            one = Spaces(shape, "uint8", self.actions, entries)
        return one.stacked(self.observation_shape[0]) if len(self.observation_shape) == 2 else one

    def legal(self, observation: np.ndarray) -> np.ndarray:
        """Return which choices are allowed, [B, Σ choices] bool, in observations [B, *O] that contain an action mask.

        A part of an action without any allowed choice, as after an episode's last step, counts as unrestricted.
        """
        newest = observation[:, -1] if len(self.observation_shape) == 2 else observation
        mask = newest[:, -self.entries[-1].nbytes :] != 0
        parts = [part | ~part.any(1, keepdims=True) for part in self.actions.split(mask)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, 1)

    def first_legal(self, observation: np.ndarray) -> np.ndarray:
        """Return the first allowed action of a policy, [B, …], in observations [B, *O] that contain an action mask."""
        return self._each_part(self.legal(observation), lambda legal: legal.argmax(1))

    def random_actions(self, random: np.random.Generator, observation: np.ndarray) -> np.ndarray:
        """Return uniformly random actions of a policy, [B, …], among those allowed in the observations [B, *O]."""
        if not self.is_masked:
            return self.actions.random(random, len(observation))
        return self._each_part(
            self.legal(observation), lambda legal: np.where(legal, random.random(legal.shape), -1).argmax(1)
        )

    def allows(self, action: np.ndarray, observation: np.ndarray) -> np.ndarray:
        """Return [B] bool: whether the mask in the observation [B, *O] allows a policy's action [B, …]."""
        if not self.is_masked:
            return np.ones(len(action), dtype=bool)
        parts = zip(self.actions.split(self.legal(observation)), action.reshape(len(action), -1).T, strict=True)
        return np.asarray(np.all([legal[np.arange(len(action)), chosen] for legal, chosen in parts], 0))

    def _each_part(self, legal: np.ndarray, choose: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return the policy's actions [B, …] that `choose` takes for each part from its [B, choices] of `legal`."""
        return np.stack([choose(part) for part in self.actions.split(legal)], 1).reshape(
            len(legal), *self.actions.policy_shape
        )

    @cached_property
    def parts(self) -> tuple[Entry, ...]:
        """The entries; for an observation that is one array, a single entry."""
        whole = Entry(
            "",
            self.observation_shape,
            self.observation_dtype,
            channels_last=self.channels_last,
            given=self.given,
            image_max=self.image_max,
        )
        return self.entries or (whole,)

    @property
    def is_image(self) -> bool:
        """Whether the observation is one image [C, H, W], the input of convolutional networks."""
        return not self.entries and self.has_images

    @property
    def has_images(self) -> bool:
        """Whether any part is an image."""
        return any(part.is_image for part in self.parts)

    @property
    def observation_size(self) -> int:
        return math.prod(self.observation_shape)

    @property
    def is_as_given(self) -> bool:
        """Whether networks take the environment's array, except for its dtype."""
        return not (self.entries or self.channels_last or self.given)

    def __str__(self) -> str:
        if not self.is_masked:
            return ", ".join(map(str, self.parts))
        return f"{', '.join(map(str, self.parts[:-1]))}, with a mask of {self.entries[-1].shape[0]} choices"

    def values(self, observation: Any) -> list[Any]:
        """Return the values of the parts in an observation of the environment, or in a batch.

        Where the mask is not part of the environment's own observation, `observation` is a mapping with the keys
        `observation` and `action_mask`. Raises ValueError if a part is missing.
        """
        if self.action_mask in (MaskSource.NONE, MaskSource.OBSERVATION):
            return [part.find(observation) for part in self.parts]
        return [*(part.find(observation["observation"]) for part in self.parts[:-1]), observation["action_mask"]]

    def stacked(self, frames: int) -> Spaces:
        """Return the spaces for stacks of the last `frames` observations, oldest first."""
        shape = self.observation_shape
        if frames == 1:
            return self
        return replace(self, observation_shape=(frames, *(shape[1:] if self._is_gray else shape)))

    def split(self, observation: np.ndarray) -> list[np.ndarray]:
        """Return the values […, *shape] of the parts of observations […, *O] as `pack` returns them."""
        if not self.entries:
            return [observation]
        borders = np.cumsum([entry.nbytes for entry in self.entries])[:-1]
        return [
            np.ascontiguousarray(x).view(entry.dtype).reshape((*x.shape[:-1], *entry.shape))
            for entry, x in zip(self.entries, np.split(observation, borders, -1), strict=True)
        ]

    def unpacked(self, observation: np.ndarray) -> Any:
        """Return the values of one observation's parts by name; for an observation that is one array, the array.

        An action mask that is not part of the environment's own observation is left out.
        """
        if not self.entries:
            return observation
        parts = zip(self.entries, self.split(observation), strict=True)
        values = {entry.name: value + entry.first if entry.choices else value for entry, value in parts}
        if self.action_mask in (MaskSource.METHOD, MaskSource.INFO):
            del values[self.entries[-1].name]
        return values[""] if [*values] == [""] else values

    @property
    def _is_gray(self) -> bool:
        return not self.entries and len(self.observation_shape) == 3 and self.observation_shape[0] == 1


def pack(spaces: Spaces, observation: Any, *, check: bool = False, single: bool = False) -> np.ndarray:
    """Convert a batch of the environment's observations to the networks' form without stacking, [B, *O].

    With `single`, `observation` is one observation and B is 1. Raises ValueError as `Entry.of` does; the shape of an
    observation that is one array is not checked.
    """
    values = map(np.asarray, spaces.values(observation))
    batches = (value[None] if single else value for value in values)
    if not spaces.entries:
        return spaces.parts[0].converted(next(batches), check=check)
    parts = [entry.of(batch, check=check) for entry, batch in zip(spaces.entries, batches, strict=True)]
    return np.concatenate([np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8) for x in parts], 1)
