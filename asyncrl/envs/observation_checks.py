"""What an environment shows, held to its space."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from asyncrl.common.dtypes import LARGEST_EXACT, exact, first_rounded
from asyncrl.errors import EnvironmentFault

__all__ = ["ObservationCheck", "described", "report_rounding"]

_reported: set[str] = set()


class ObservationCheck:
    """Takes an environment's observations and returns them in the dtypes of its space.

    Raises EnvironmentFault for another shape or structure than the space's, for numbers that are not finite or that
    its dtype cannot hold, and for what is none of its choices. Numbers that float32 rounds, in which networks see them, are
    reported once.
    """

    def __init__(self, space: gymnasium.Space[Any], env: str) -> None:
        self._space, self._env = space, env
        self._reported = False
        self._hold = self._array if isinstance(space, spaces.Box) else self._held

    def __call__(self, observation: Any) -> Any:
        return self._hold(self._space, observation, "an observation")

    def _held(self, space: gymnasium.Space[Any], observation: Any, name: str) -> Any:
        match space:
            case spaces.Box():
                return self._array(space, observation, name)
            case spaces.Dict():
                if not isinstance(observation, Mapping) or observation.keys() != space.spaces.keys():
                    keys = list(space.spaces)
                    raise EnvironmentFault(
                        f"returned {name} that is {described(observation)}, its space has the keys {keys}"
                    )
                return {key: self._held(part, observation[key], f"{name}[{key!r}]") for key, part in space.spaces.items()}
            case spaces.Tuple():
                if not isinstance(observation, tuple) or len(observation) != len(space.spaces):
                    parts = len(space.spaces)
                    raise EnvironmentFault(f"returned {name} that is {described(observation)}, its space has {parts} parts")
                each = zip(space.spaces, observation, strict=True)
                return tuple(self._held(part, value, f"{name}[{i}]") for i, (part, value) in enumerate(each))
        if not space.contains(observation):
            raise EnvironmentFault(f"returned {name} that is {observation!r}, its space is {space}")
        if not isinstance(observation, np.ndarray):
            return observation
        if not (self._reported or _is_ordinary(observation)):
            self._reported = report_rounding(self._env, observation, name)
        return _held_by(space, observation, name)

    def _array(self, space: gymnasium.Space[Any], observation: Any, name: str) -> np.ndarray:
        values = np.asarray(observation)
        if values.shape != space.shape:
            raise EnvironmentFault(f"returned {name} of shape {values.shape}, its space says {space.shape}")
        if not _is_ordinary(values):
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                where = tuple(map(int, np.argwhere(~np.isfinite(values))[0]))
                raise EnvironmentFault(f"returned {name} that is not finite: {values[where]} at {where}")
            if not self._reported:
                self._reported = report_rounding(self._env, values, name)
            if values.dtype.kind == "f":
                _exact(values, np.float32, name, "in which networks see it")
        return values if values.dtype == space.dtype else _held_by(space, values, name)


def report_rounding(env: str, values: np.ndarray, name: str = "an observation") -> bool:
    """Say once in a process where float32 rounds a number above 2^24; returns whether it does."""
    found = first_rounded(values) if values.dtype != np.float32 and values.dtype.kind in "iuf" else None
    if found is not None and env not in _reported:
        _reported.add(env)
        value, seen = found
        print(
            f"{env} returned {name} with {value}, and networks see float32, which rounds it to {seen:.0f}: "
            "subtract what all observations have in common, or scale them",
            file=sys.stderr,
        )
    return found is not None


def described(value: Any) -> str:
    """A value of the wrong kind in a few words."""
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {sorted(map(str, value))}"
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:40] + '…'} ({type(value).__name__})"


def _is_ordinary(values: np.ndarray) -> bool:
    """Are all numbers finite, and below 2^24 where float32 might round them?"""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "f":
        ordinary = np.isfinite(values) if size <= 4 else np.abs(values) < LARGEST_EXACT
        return bool(ordinary.all())
    if kind not in "iu" or size < 4 or not values.size:
        return True
    return bool(values.max() < LARGEST_EXACT and values.min() > -LARGEST_EXACT)


def _held_by(space: gymnasium.Space[Any], values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise EnvironmentFault(f"returned {name} of dtype {values.dtype}, its space says {space.dtype}")
    return _exact(values, space.dtype, name, "the dtype of its space")


def _exact(values: np.ndarray, dtype: Any, name: str, role: str) -> np.ndarray:
    try:
        return exact(values, dtype)
    except ValueError as problem:
        raise EnvironmentFault(f"returned {name} that {problem}, {role}") from None
