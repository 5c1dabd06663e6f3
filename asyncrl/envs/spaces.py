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

from asyncrl.common.dtypes import exact
from asyncrl.errors import UsageError

__all__ = ["SMALLEST_IMAGE", "Actions", "Entry", "Spaces", "pack", "spaces_of"]

SMALLEST_IMAGE = 36
"""Height and width that the convolutional networks need, in pixels."""
MOST_CHOICES = 2**18
"""Of one Discrete observation, and of an action: each is an input or an output of the network."""
_NOT_IN_TORCH = ("uint16", "uint32", "uint64")
"""They become float32, as networks see all numbers: torch has too few operations for them."""


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
        """How many actions there are; None unless an action is one choice, which MultiDiscrete([n]) is too."""
        return self.choices[0] if len(self.choices) == 1 else None

    @property
    def is_discrete(self) -> bool:
        """Does the environment take one integer, as of Discrete?"""
        return self.count is not None and not self.shape

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
            least, most = self._scale
            scaled = (least + most) / 2 + (most - least) / 2 * action
            converted = np.fmin(np.fmax(scaled, np.maximum(self.low, _LOWEST)), self.high)
        else:
            converted = action + (self.first[0] if self.count is not None else np.array(self.first))
        return converted.astype(self.dtype, copy=False).reshape(len(action), *self.shape)

    @cached_property
    def _are_the_same(self) -> bool:
        """Does the environment take what a policy gives?"""
        return self.is_discrete and self.first == (0,) and self.dtype == "int64"

    def of_policy(self, action: np.ndarray) -> np.ndarray:
        """The inverse: an environment's actions [B, *shape] as a policy gives them."""
        action = action.reshape(len(action), *self.policy_shape)
        if not self.is_continuous:
            return action.astype(np.int64) - (self.first[0] if self.count is not None else np.array(self.first))
        least, most = self._scale
        free = most > least  # the others have one value, which every number stands for
        scaled = (2 * action - least - most) / np.where(free, most - least, 1.0)
        return np.where(free, scaled, 0.0).astype(np.float32)

    @cached_property
    def _scale(self) -> tuple[np.ndarray, np.ndarray]:
        """What -1 and 1 of a policy stand for, for each number: its bounds, or themselves where there are none."""
        low, high = np.array(self.low), np.array(self.high)
        with np.errstate(over="ignore", invalid="ignore"):
            bounded = np.isfinite(high - low)
        return np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)

    def is_valid(self, action: np.ndarray) -> bool:
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


def spaces_of(env_id: str, observation: gymnasium.Space[Any], action: gymnasium.Space[Any]) -> Spaces:
    """Read one environment's spaces. Raises UsageError for those that nothing here can take."""
    actions = _actions_of(env_id, action)
    if isinstance(observation, spaces.Box):
        whole = _box(observation, "", ())
        if math.prod(whole.shape) == 0:
            raise UsageError(f"{env_id} has observations of shape {observation.shape}, without a single number")
        dtype = np.dtype(observation.dtype)
        own = dtype.name if dtype.kind in "iub" and dtype.name not in _NOT_IN_TORCH else whole.dtype
        return Spaces(
            whole.shape,
            whole.dtype if whole.is_image else own,
            actions,
            (),
            whole.channels_last,
            whole.given,
            whole.image_max,
        )
    entries = tuple(entry for entry in _entries(env_id, observation, ()) if math.prod(entry.shape))
    if not entries:
        raise UsageError(f"{env_id} has observations without a single number: {observation}")
    _check_choices(env_id, entries)
    return Spaces((sum(entry.nbytes for entry in entries),), "uint8", actions, entries)


def _entries(env_id: str, space: gymnasium.Space[Any], path: tuple[str | int, ...]) -> Iterator[Entry]:
    """The leaves of an observation space, in order; `path` are the keys that lead to it."""
    name, keys = _named(path)
    where = f"in {name!r} " if path else ""
    match space:
        case spaces.Dict():
            for key, part in space.spaces.items():
                if type(key) not in (str, int):
                    raise UsageError(
                        f"{env_id} has the key {key!r} in its observations; asyncrl takes text and whole numbers"
                    )
                yield from _entries(env_id, part, (*path, key))
        case spaces.Tuple():
            for place, part in enumerate(space.spaces):
                yield from _entries(env_id, part, (*path, str(place)))
        case spaces.Discrete():
            yield Entry(name, (), "int64", choices=int(space.n), first=int(space.start), keys=keys)
        case spaces.Box():
            yield _box(space, name, keys)
        case spaces.MultiBinary() | spaces.MultiDiscrete():
            dtype = "uint8" if space.dtype == np.uint8 else "float32"
            yield Entry(name, tuple(int(n) for n in space.shape), dtype, keys=keys)
        case _:
            raise UsageError(
                f"{env_id} has {type(space).__name__} observations {where}; asyncrl takes Box, Discrete, MultiDiscrete, "
                "MultiBinary, and Dict and Tuple of them."
            )


def _named(path: tuple[str | int, ...]) -> tuple[str, tuple[str | int, ...]]:
    """A part's name, and its keys where splitting the name does not give them."""
    tells = all(isinstance(key, str) and key and "." not in key for key in path)
    name = ".".join(f"[{key}]" if isinstance(key, int) else key if key and "." not in key else repr(key) for key in path)
    return name, () if tells else path


def _box(space: spaces.Box, name: str, keys: tuple[str | int, ...]) -> Entry:
    """A Box as an entry: with channels first where it is an image."""
    shape = tuple(int(n) for n in space.shape)
    given = _otherwise_given(shape)
    small = not given and space.dtype == np.uint8 and len(shape) >= 3 and shape[-1] <= 4 < min(shape[-3:-1])
    last = small or _channels_last(shape)
    ordered = shape
    if last:
        ordered = (*shape[:-3], shape[-1], *shape[-3:-1])
    elif given:
        ordered = (1, *shape) if len(shape) == 2 else (shape[3], shape[2], *shape[:2])
    brightest = 255.0 if space.dtype == np.uint8 else _brightest(space)
    image = Entry(name, ordered, "uint8", 0, last, 0, keys, given)
    if brightest is not None and image.is_image:
        dtype = "float32" if np.dtype(space.dtype).kind == "f" else "uint8"
        return replace(image, dtype=dtype, image_max=None if dtype == "uint8" and brightest == 255 else brightest)
    if small:
        return image
    return Entry(name, shape, "uint8" if space.dtype == np.uint8 else "float32", keys=keys)


def _channels_last(shape: tuple[int, ...]) -> bool:
    """Is it […, H, W, C], large enough for convolutions? C may be frames × colours, but few beside H and W."""
    return len(shape) >= 3 and min(shape[-3:-1]) >= max(SMALLEST_IMAGE, 2 * shape[-1])


def _otherwise_given(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, where it is that of images [H, W] or [H, W, C, S]."""
    large = len(shape) in (2, 4) and min(shape[:2]) >= max(SMALLEST_IMAGE, 2 * math.prod(shape[2:]))
    return shape if large and not _channels_last(shape) else ()


def _brightest(space: spaces.Box) -> float | None:
    """What white is, of numbers that have the bounds of pixels: 1 or 255; None for others."""
    low, high = float(space.low.min(initial=0)), float(space.high.max(initial=0))
    return None if low < 0 or not 0 < high <= 255 else 1.0 if high <= 1 else 255.0


def _check_choices(env_id: str, entries: tuple[Entry, ...]) -> None:
    most = max(entries, key=lambda entry: entry.choices)
    if sum(entry.choices for entry in entries) > MOST_CHOICES:
        part = f" in {most.name!r}" if most.name else ""
        raise UsageError(
            f"{env_id} has observations{part} that are one of {most.choices:,}; networks see a choice as that many zeros "
            f"and a one, which takes gigabytes above {MOST_CHOICES:,} in all: describe it by numbers, in a Box"
        )


def _actions_of(env_id: str, action: gymnasium.Space[Any]) -> Actions:
    dtype = np.dtype(action.dtype).name if action.dtype is not None else "int64"
    if action.shape is not None and math.prod(action.shape) == 0:
        raise UsageError(f"{env_id} has actions {action}, in which there is nothing to choose")
    match action:
        case _ if (count := _outputs(action)) > MOST_CHOICES:
            raise UsageError(
                f"{env_id} has actions {action}; networks have an output for each choice, which takes gigabytes above "
                f"{MOST_CHOICES:,}, and these are {count:,}"
            )
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


def _outputs(action: gymnasium.Space[Any]) -> int:
    """How many choices there are in all parts of an action."""
    match action:
        case spaces.Discrete():
            return int(action.n)
        case spaces.MultiDiscrete():
            return int(action.nvec.sum())
    return 0
