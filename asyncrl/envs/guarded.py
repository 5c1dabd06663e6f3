"""One environment that says what went wrong in it, also from inside a worker process."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np

from asyncrl.errors import EnvironmentFault

__all__ = ["Guarded", "fault_of"]


class Guarded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Raises EnvironmentFault with the environment's own traceback for whatever it raises.

    Vector environments bring only an exception's value out of a worker, and some quietly broadcast an
    observation of the wrong shape; both are caught here, before them.
    """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        with _telling("reset"):
            observation, info = self.env.reset(seed=seed, options=options)
        return self._checked(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        with _telling("step"):
            observation, reward, terminated, truncated, info = self.env.step(action)
        return self._checked(observation), reward, terminated, truncated, info

    def _checked(self, observation: Any) -> Any:
        expected = self.observation_space.shape
        if expected is not None and np.shape(observation) != expected:  # of what is no array, `pack` sees every part
            raise EnvironmentFault(f"returned an observation of shape {np.shape(observation)}, its space says {expected}")
        return observation


def fault_of(problem: Exception, verb: str) -> EnvironmentFault:
    """What an environment raised in `verb`, to be called where it was caught."""
    if isinstance(problem, EnvironmentFault):  # a worker's comes wrapped in another of its type
        inner = problem.args[0]
        return inner if isinstance(inner, EnvironmentFault) else problem
    return EnvironmentFault(f"raised {type(problem).__name__} in {verb}: {problem}", traceback.format_exc())


@contextmanager
def _telling(verb: str) -> Iterator[None]:
    try:
        yield
    except Exception as problem:
        raise fault_of(problem, verb) from problem
