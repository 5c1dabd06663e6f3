"""Checks what an environment returns and turns its exceptions into EnvironmentFault, also in worker processes."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import gymnasium
import numpy as np

from asyncrl.common.signals import is_from_keyboard
from asyncrl.envs.global_generators import IsolatedGenerators
from asyncrl.envs.observation_checks import ObservationCheck, described
from asyncrl.errors import EnvironmentFault

__all__ = ["CheckedEnv", "fault_of"]

_LARGEST = float(np.finfo(np.float32).max)
"""Largest reward, as rewards are stored as float32."""


class CheckedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Raises EnvironmentFault for whatever the environment raises or returns against Gymnasium's interface.

    The fault of an exception has the environment's traceback, which vector environments lose. The fault of a broken
    interface has none: a result that is not a pair or five-tuple, an observation that does not fit its space
    (`ObservationCheck`; some vector environments broadcast a wrong shape), a reward that is not one finite number. Bounds
    of Box spaces are not checked, because many environments exceed theirs and nothing relies on them.

    With `generators`, the environment has its own state of the process's random generators.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], generators: IsolatedGenerators | None = None) -> None:
        super().__init__(env)
        self._check_observation = ObservationCheck(env.observation_space, type(env.unwrapped).__name__)
        self._generators = generators

    @classmethod
    def made(cls, make: Callable[[], gymnasium.Env[Any, Any]], seed: int | None) -> CheckedEnv:
        """Make an environment whose constructor's draws from the process's generators depend on `seed` alone."""
        generators = IsolatedGenerators()
        return cls(generators.make(make, seed), generators)

    @property
    def is_isolated(self) -> bool:
        """Whether it has its own state of the process's generators, so that calls need `preserved_generators`."""
        return self._generators is not None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        with _translate_exceptions("reset"):
            if self._generators is None:
                result = self.env.reset(seed=seed, options=options)
            else:
                result = self._generators.reset(self.env.reset, seed, options)
        if not isinstance(result, tuple) or len(result) != 2:
            hint = "" if isinstance(result, tuple) else "; return observation, {} as Gymnasium's environments do"
            raise EnvironmentFault(f"returned {described(result)} from reset, not a pair of observation and info{hint}")
        observation, info = result
        _check_info(info)
        return self._check_observation(observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        try:  # `_translate_exceptions` would cost three times as much
            result = self.env.step(action) if self._generators is None else self._step_isolated(action)
        except BaseException as problem:
            raise fault_of(problem, "step") from problem
        if not isinstance(result, tuple) or len(result) != 5:
            five = "the five values observation, reward, terminated, truncated, info"
            is_old = isinstance(result, tuple) and len(result) == 4
            hint = "; replace the old gym's done by terminated and truncated" if is_old else ""
            raise EnvironmentFault(f"returned {described(result)} from step, not {five}{hint}")
        observation, reward, terminated, truncated, info = result
        observation = self._check_observation(observation)
        _check_info(info)
        return observation, _reward(reward), _flag("terminated", terminated), _flag("truncated", truncated), info

    def _step_isolated(self, action: Any) -> Any:
        assert self._generators is not None
        result = self._generators.step(self.env.step, action)
        if not self._generators.in_use:
            self._generators = None
        return result


def fault_of(problem: BaseException, verb: str) -> EnvironmentFault:
    """Return the fault of an exception that an environment raised in `verb`; call it where the exception is caught.

    SystemExit and KeyboardInterrupt are faults too. Only Ctrl-C itself is raised again.
    """
    if is_from_keyboard(problem):
        raise problem
    if isinstance(problem, EnvironmentFault):  # a worker's fault comes wrapped in another one
        inner = problem.args[0]
        return inner if isinstance(inner, EnvironmentFault) else problem
    raised = f"raised {type(problem).__name__} in {verb}"
    return EnvironmentFault(": ".join(filter(None, [raised, str(problem)])), traceback.format_exc())


@contextmanager
def _translate_exceptions(verb: str) -> Iterator[None]:
    try:
        yield
    except BaseException as problem:
        raise fault_of(problem, verb) from problem


def _check_info(info: Any) -> None:
    if not isinstance(info, dict):
        raise EnvironmentFault(f"returned the info {described(info)}, which is not a dict")


def _reward(reward: Any) -> float:
    if type(reward) is not float:
        values = _array(reward)
        if values is None or values.size != 1 or values.dtype.kind not in "biuf":
            raise EnvironmentFault(f"returned the reward {described(reward)}, which is not one number")
        reward = float(values.item())
    if not -_LARGEST <= reward <= _LARGEST:
        too_large = f", which is beyond ±{_LARGEST:.3g}, the range of float32" if math.isfinite(reward) else ""
        raise EnvironmentFault(f"returned the reward {reward}{too_large}")
    return float(reward)


def _flag(name: str, value: Any) -> bool:
    if type(value) is bool:
        return value
    array = _array(value)
    if array is None or array.shape != () or array.dtype.kind not in "biu":
        raise EnvironmentFault(f"returned {name} = {described(value)}, which is neither true nor false")
    return bool(array)


def _array(value: Any) -> np.ndarray | None:
    """Return a number, or an array or tensor of any library, as an array; None for anything else."""
    if isinstance(value, int | float | np.generic) or hasattr(value, "__array__"):
        with suppress(RuntimeError, TypeError):  # a tensor with a gradient, or on a GPU
            return np.asarray(value)
    return None
