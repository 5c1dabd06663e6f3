"""Checks an environment's observations against its observation space."""

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
    """Checks observations and converts them to the dtypes of the space.

    Raises EnvironmentFault for a shape or structure that differs from the space's, for numbers that are not finite or do
    not fit its dtype, and for values outside its choices. Numbers that float32, the networks' dtype, rounds are reported
    once.
    """

    def __init__(self, space: gymnasium.Space[Any], env: str) -> None:
        self._space = space
        self._env = env
        self._has_reported = False
        self._check = self._array if isinstance(space, spaces.Box) else self._any

    def __call__(self, observation: Any) -> Any:
        return self._check(self._space, observation, "an observation")

    def _any(self, space: gymnasium.Space[Any], observation: Any, name: str) -> Any:
        match space:
            case spaces.Box():
                return self._array(space, observation, name)
            case spaces.Dict():
                if not isinstance(observation, Mapping) or observation.keys() != space.spaces.keys():
                    keys = list(space.spaces)
                    raise EnvironmentFault(
                        f"returned {name} that is {described(observation)}; its space has the keys {keys}"
                    )
                return {key: self._any(part, observation[key], f"{name}[{key!r}]") for key, part in space.spaces.items()}
            case spaces.Tuple():
                if not isinstance(observation, tuple) or len(observation) != len(space.spaces):
                    parts = len(space.spaces)
                    raise EnvironmentFault(f"returned {name} that is {described(observation)}; its space has {parts} parts")
                each = zip(space.spaces, observation, strict=True)
                return tuple(self._any(part, value, f"{name}[{i}]") for i, (part, value) in enumerate(each))
        if not space.contains(observation):
            raise EnvironmentFault(f"returned {name} that is {observation!r}; its space is {space}")
        if not isinstance(observation, np.ndarray):
            return observation
        if not (self._has_reported or _is_ordinary(observation)):
            self._has_reported = report_rounding(self._env, observation, name)
        return _in_dtype(space, observation, name)

    def _array(self, space: gymnasium.Space[Any], observation: Any, name: str) -> np.ndarray:
        try:
            values = np.asarray(observation)
        except ValueError:  # lists of different lengths
            values = np.array(None)
        if values.shape != space.shape:
            found = f"that is {described(observation)}" if values.dtype.kind == "O" else f"of shape {values.shape}"
            raise EnvironmentFault(f"returned {name} {found}; its space has {space.shape}")
        if not _is_ordinary(values):
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                where = tuple(map(int, np.argwhere(~np.isfinite(values))[0]))
                raise EnvironmentFault(f"returned {name} that is not finite: {values[where]} at {where}")
            if not self._has_reported:
                self._has_reported = report_rounding(self._env, values, name)
            if values.dtype.kind == "f":
                _exact(values, np.float32, name, "the dtype of networks")
        return values if values.dtype == space.dtype else _in_dtype(space, values, name)


def report_rounding(env: str, values: np.ndarray, name: str = "an observation") -> bool:
    """Report, once per environment and process, a number above 2^24 that float32 rounds; returns whether there is one."""
    found = first_rounded(values) if values.dtype != np.float32 and values.dtype.kind in "iuf" else None
    if found is not None and env not in _reported:
        _reported.add(env)
        value, seen = found
        print(
            f"{env} returned {name} with {value}, which float32, the dtype of networks, rounds to {seen:.0f}: "
            "subtract an offset in the environment, or scale its observations",
            file=sys.stderr,
        )
    return found is not None


def described(value: Any) -> str:
    """Describe a value of the wrong kind in a few words."""
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {sorted(map(str, value))}"
    text = repr(value)
    return f"{text if len(text) <= 40 else text[:40] + '…'} ({type(value).__name__})"


def _is_ordinary(values: np.ndarray) -> bool:
    """Return whether all numbers are finite, and below 2^24 if float32 might round them."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "f":
        ordinary = np.isfinite(values) if size <= 4 else np.abs(values) < LARGEST_EXACT
        return bool(ordinary.all())
    if kind not in "iu" or size < 4 or not values.size:
        return True
    return bool(values.max() < LARGEST_EXACT and values.min() > -LARGEST_EXACT)


def _in_dtype(space: gymnasium.Space[Any], values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise EnvironmentFault(f"returned {name} of dtype {values.dtype}; its space has {space.dtype}")
    return _exact(values, space.dtype, name, "the dtype of its space")


def _exact(values: np.ndarray, dtype: Any, name: str, role: str) -> np.ndarray:
    try:
        return exact(values, dtype)
    except ValueError as problem:
        raise EnvironmentFault(f"returned {name} that {problem}, {role}") from None
