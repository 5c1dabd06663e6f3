"""The form of an environment's observations and actions, as networks and rollouts need it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from asyncrl.common.dtypes import exact
from asyncrl.envs.actions import Actions

__all__ = ["SMALLEST_IMAGE", "Actions", "Entry", "Spaces", "pack"]

SMALLEST_IMAGE = 36
"""Smallest height and width for the convolutional networks, in pixels."""


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
    first: int = 0
    """What the environment calls the first choice."""
    keys: tuple[str | int, ...] = ()
    """Where it is found, unless splitting its name at the dots tells: keys with a dot, empty keys, numbers."""
    given: tuple[int, ...] = ()
    """The environment's own shape, of images without channels [H, W], or with frames last, [H, W, C, S]."""
    image_max: float | None = None
    """What the brightest pixel is, where that is not 255. None: 255, or no image, for floating-point numbers."""

    @property
    def is_image(self) -> bool:
        """Large enough for convolutions."""
        known = self.dtype == "uint8" or self.image_max is not None
        return known and len(self.shape) >= 3 and min(self.shape[-2:]) >= SMALLEST_IMAGE

    @property
    def given_shape(self) -> tuple[int, ...]:
        """Shape of one value as the environment gives it."""
        if self.channels_last:
            return (*self.shape[:-3], *self.shape[-2:], self.shape[-3])
        return self.given or self.shape

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        sizes = "×".join(map(str, self.shape)) or "one"
        what = f"one of {self.choices}" if self.choices else f"{sizes} {self.dtype}"
        return f"{self.name}: {what}" if self.name else what

    def find(self, observation: Any) -> Any:
        """Its value in an observation. Raises ValueError where there is none."""
        try:
            for key in self.keys or filter(None, self.name.split(".")):
                observation = observation[int(key)] if isinstance(observation, tuple | list) else observation[key]
        except (LookupError, TypeError, ValueError):
            raise ValueError(f"an observation without the part {self.name!r}") from None
        return observation

    def of(self, value: Any, *, check: bool = False) -> np.ndarray:
        """[B, *shape] of a batch of what the environment gives. Raises ValueError for another shape and for numbers that
        the dtype cannot hold; with `check`, also for those that are not finite or none of the choices.
        """
        array = np.asarray(value)
        if array.shape[1:] != self.given_shape:
            raise self._fault(f"has the shape {array.shape[1:]}, not {self.given_shape}")
        return self.converted(array, check=check)

    def converted(self, array: np.ndarray, *, check: bool = False) -> np.ndarray:
        """As `of`, of any leading axes, and the shape is not looked at."""
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
        """Raise ValueError for numbers that are not finite, and for what is none of the choices."""
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise self._fault("is not finite")
        if self.choices:
            last = self.first + self.choices - 1
            wrong = array[(array < self.first) | (array > last)]
            if wrong.size:
                raise self._fault(f"is {wrong[0]}, which is none of {self.first} … {last}")

    def _fault(self, what: str) -> ValueError:
        part = f"with a part {self.name!r} that" if self.name else "that"
        return ValueError(f"an observation {part} {what}")


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
    given: tuple[int, ...] = ()
    """As an entry's."""
    image_max: float | None = None
    """As an entry's."""

    @cached_property
    def parts(self) -> tuple[Entry, ...]:
        """The entries; of an observation that is one array, that alone."""
        dtype = self.observation_dtype
        whole = Entry("", self.observation_shape, dtype, 0, self.channels_last, given=self.given, image_max=self.image_max)
        return self.entries or (whole,)

    @property
    def is_image(self) -> bool:
        """Channels, height and width: what the convolutional networks take."""
        return not self.entries and self.has_images

    @property
    def has_images(self) -> bool:
        """Is there one in it?"""
        return any(part.is_image for part in self.parts)

    @property
    def observation_size(self) -> int:
        return math.prod(self.observation_shape)

    @property
    def is_as_given(self) -> bool:
        """Does the network take the environment's own array? (But for its dtype.)"""
        return not (self.entries or self.channels_last or self.given)

    def __str__(self) -> str:
        return ", ".join(map(str, self.parts))

    def stacked(self, frames: int) -> Spaces:
        """The same where the last `frames` observations are one, oldest first."""
        shape = self.observation_shape
        if frames == 1:
            return self
        return replace(self, observation_shape=(frames, *(shape[1:] if self._is_gray else shape)))

    def unpacked(self, observation: np.ndarray) -> Any:
        """What one observation [*O] is made of: the values of its parts by name; of one that has no parts, its value."""
        if not self.entries:
            return observation
        values: dict[str, Any] = {}
        borders = np.cumsum([entry.nbytes for entry in self.entries])[:-1]
        for entry, part in zip(self.entries, np.split(observation, borders, -1), strict=True):
            value = np.ascontiguousarray(part).view(entry.dtype).reshape((*part.shape[:-1], *entry.shape))
            values[entry.name] = value + entry.first if entry.choices else value
        return values[""] if [*values] == [""] else values

    @property
    def _is_gray(self) -> bool:
        return not self.entries and len(self.observation_shape) == 3 and self.observation_shape[0] == 1


def pack(spaces: Spaces, observation: Any, *, check: bool = False, single: bool = False) -> np.ndarray:
    """A batch of the environment's observations as networks take them, without stacking: [B, *O].

    With `single` it is one observation, and B is 1. Raises ValueError as `Entry.of`; the shape of an observation that is
    one array is not looked at.
    """
    values = (np.asarray(part.find(observation)) for part in spaces.parts)
    batches = (value[None] if single else value for value in values)
    if not spaces.entries:
        return spaces.parts[0].converted(next(batches), check=check)
    parts = [entry.of(batch, check=check) for entry, batch in zip(spaces.entries, batches, strict=True)]
    return np.concatenate([np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8) for x in parts], 1)
