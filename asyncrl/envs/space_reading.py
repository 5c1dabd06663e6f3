"""Reads Gymnasium's spaces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from asyncrl.envs.actions import actions_of
from asyncrl.envs.spaces import SMALLEST_IMAGE, Entry, MaskSource, Spaces
from asyncrl.errors import UsageError

__all__ = ["spaces_of"]

MAX_CHOICES = 2**18
"""Most choices of all Discrete parts of an observation: each is an input of the network."""
_NOT_IN_TORCH = ("uint16", "uint32", "uint64")
"""Dtypes that become float32, for which torch has more operations."""


def spaces_of(
    env_id: str,
    observation: gymnasium.Space[Any],
    action: gymnasium.Space[Any],
    mask: MaskSource = MaskSource.NONE,
) -> Spaces:
    """Return the form of one environment's spaces, with the action mask that comes from `mask`.

    Raises UsageError for spaces that are not supported.
    """
    actions = actions_of(env_id, action)
    if isinstance(observation, spaces.Box) and mask is MaskSource.NONE:
        whole = _box(observation, "", ())
        if math.prod(whole.shape) == 0:
            raise UsageError(f"{env_id} has observations of shape {observation.shape}, which hold no number")
        dtype = np.dtype(observation.dtype)
        own = dtype.name if dtype.kind in "iub" and dtype.name not in _NOT_IN_TORCH else whole.dtype
        return Spaces(
            observation_shape=whole.shape,
            observation_dtype=whole.dtype if whole.is_image else own,
            actions=actions,
            channels_last=whole.channels_last,
            given=whole.given,
            image_max=whole.image_max,
        )
    if mask is MaskSource.OBSERVATION:
        assert isinstance(observation, spaces.Dict)
        observation = spaces.Dict({key: part for key, part in observation.items() if key != "action_mask"})
    entries = tuple(entry for entry in _entries(env_id, observation, ()) if math.prod(entry.shape))
    if not entries:
        raise UsageError(f"{env_id} has observations that hold no number: {observation}")
    _check_choices(env_id, entries)
    if mask is not MaskSource.NONE:
        entries = (*entries, Entry("action_mask", (sum(actions.choices),), "uint8"))
    return Spaces((sum(entry.nbytes for entry in entries),), "uint8", actions, entries, action_mask=mask)


def _entries(env_id: str, space: gymnasium.Space[Any], path: tuple[str | int, ...]) -> Iterator[Entry]:
    """Yield the leaves of an observation space in order; `path` holds the keys that lead to it."""
    name, keys = _named(path)
    where = f" in {name!r}" if path else ""
    match space:
        case spaces.Dict():
            for key, part in space.spaces.items():
                if type(key) not in (str, int):
                    raise UsageError(
                        f"{env_id} has the key {key!r} in its observations; asyncrl takes strings and integers"
                    )
                yield from _entries(env_id, part, (*path, key))
        case spaces.Tuple():
            for index, part in enumerate(space.spaces):
                yield from _entries(env_id, part, (*path, str(index)))
        case spaces.Discrete():
            yield Entry(name, (), "int64", choices=int(space.n), first=int(space.start), keys=keys)
        case spaces.Box():
            yield _box(space, name, keys)
        case spaces.MultiBinary() | spaces.MultiDiscrete():
            dtype = "uint8" if space.dtype == np.uint8 else "float32"
            yield Entry(name, tuple(int(n) for n in space.shape), dtype, keys=keys)
        case _:
            raise UsageError(
                f"{env_id} has {type(space).__name__} observations{where}; asyncrl takes Box, Discrete, MultiDiscrete, "
                "MultiBinary, and Dict and Tuple of them"
            )


def _named(path: tuple[str | int, ...]) -> tuple[str, tuple[str | int, ...]]:
    """Return a part's name, and its keys where splitting the name at the dots would not give them."""
    is_split = all(isinstance(key, str) and key and "." not in key for key in path)
    name = ".".join(f"[{key}]" if isinstance(key, int) else key if key and "." not in key else repr(key) for key in path)
    return name, () if is_split else path


def _box(space: spaces.Box, name: str, keys: tuple[str | int, ...]) -> Entry:
    """Return the entry of a Box; images have their channels first."""
    shape = tuple(int(n) for n in space.shape)
    given = _shape_without_channels(shape)
    is_small = not given and space.dtype == np.uint8 and len(shape) >= 3 and shape[-1] <= 4 < min(shape[-3:-1])
    channels_last = is_small or _has_channels_last(shape)
    ordered = shape
    if channels_last:
        ordered = (*shape[:-3], shape[-1], *shape[-3:-1])
    elif given:
        ordered = (1, *shape) if len(shape) == 2 else (shape[3], shape[2], *shape[:2])
    largest = _pixel_max(space)
    image = Entry(name, ordered, "uint8", channels_last=channels_last, keys=keys, given=given)
    if largest is not None and image.is_image:
        dtype = "float32" if np.dtype(space.dtype).kind == "f" else "uint8"
        return replace(image, dtype=dtype, image_max=None if dtype == "uint8" and largest == 255 else largest)
    if is_small:
        return image
    return Entry(name, shape, "uint8" if space.dtype == np.uint8 else "float32", keys=keys)


def _has_channels_last(shape: tuple[int, ...]) -> bool:
    """Return whether a shape is […, H, W, C] with C (perhaps frames × colours) small beside an H and W for convolutions."""
    return len(shape) >= 3 and min(shape[-3:-1]) >= max(SMALLEST_IMAGE, 2 * shape[-1])


def _shape_without_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape if it is that of images [H, W] or [H, W, C, S], else ()."""
    is_large = len(shape) in (2, 4) and min(shape[:2]) >= max(SMALLEST_IMAGE, 2 * math.prod(shape[2:]))
    return shape if is_large and not _has_channels_last(shape) else ()


def _pixel_max(space: spaces.Box) -> float | None:
    """Return the largest pixel value, 1 or 255, of numbers with the bounds of pixels; None for others."""
    low = float(space.low.min(initial=0))
    high = float(space.high.max(initial=0))
    if low < 0 or not 0 < high <= 255:
        return None
    return 1.0 if high <= 1 else 255.0


def _check_choices(env_id: str, entries: tuple[Entry, ...]) -> None:
    largest = max(entries, key=lambda entry: entry.choices)
    if sum(entry.choices for entry in entries) > MAX_CHOICES:
        part = f" in {largest.name!r}" if largest.name else ""
        raise UsageError(
            f"{env_id} has observations{part} that are one of {largest.choices:,}; choices become one-hot vectors, "
            f"which take gigabytes above {MAX_CHOICES:,} in all: describe it by numbers, in a Box"
        )
