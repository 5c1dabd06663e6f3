"""One environment that says what went wrong in it, also from inside a worker process."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np

from asyncrl.common.signals import is_from_keyboard
from asyncrl.envs.global_generators import IsolatedGenerators
from asyncrl.envs.observation_checks import ObservationCheck, described
from asyncrl.errors import EnvironmentFault

__all__ = ["CheckedEnv", "fault_of"]

_LARGEST = float(np.finfo(np.float32).max)
"""Of rewards, which are kept as float32."""


class CheckedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Raises EnvironmentFault with the environment's own traceback for whatever it raises or returns against the rules.

    Vector environments bring only an exception's value out of a worker, and some quietly broadcast an observation of
    the wrong shape; both are caught here, before them. A fault without a traceback is a broken contract: an answer
    that is no pair or five-tuple, an observation that its space forbids (`ObservationCheck`), a reward that is not one
    finite number. Bounds are not checked: many environments leave theirs now and then, and nothing here relies on
    them.

    With `generators`, the environment has its own state of the generators that a process shares.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], generators: IsolatedGenerators | None = None) -> None:
        super().__init__(env)
        self._observed = ObservationCheck(env.observation_space, type(env.unwrapped).__name__)
        self._generators = generators

    @classmethod
    def made(cls, make: Callable[[], gymnasium.Env[Any, Any]], seed: int | None) -> CheckedEnv:
        """A new environment; what its constructor draws from the process's generators follows from `seed`."""
        generators = IsolatedGenerators()
        return cls(generators.make(make, seed), generators)

    @property
    def borrows(self) -> bool:
        """Must the process's generators be `lent` to it?"""
        return self._generators is not None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        with _telling("reset"):
            if self._generators is None:
                answer = self.env.reset(seed=seed, options=options)
            else:
                answer = self._generators.reset(self.env.reset, seed, options)
        if not isinstance(answer, tuple) or len(answer) != 2:
            hint = "" if isinstance(answer, tuple) else "; return observation, {} as Gymnasium's environments do"
            raise EnvironmentFault(f"returned {described(answer)} from reset, not a pair of observation and info{hint}")
        observation, info = answer
        _check_info(info)
        return self._observed(observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        try:  # as `_telling`, at a third of its cost
            answer = self.env.step(action) if self._generators is None else self._step_watched(action)
        except BaseException as problem:
            raise fault_of(problem, "step") from problem
        if not isinstance(answer, tuple) or len(answer) != 5:
            five = "the five observation, reward, terminated, truncated, info"
            old = isinstance(answer, tuple) and len(answer) == 4
            hint = "; in place of the old gym's done, say terminated and truncated" if old else ""
            raise EnvironmentFault(f"returned {described(answer)} from step, not {five}{hint}")
        observation, reward, terminated, truncated, info = answer
        observation = self._observed(observation)
        _check_info(info)
        return observation, _reward(reward), _flag("terminated", terminated), _flag("truncated", truncated), info

    def _step_watched(self, action: Any) -> Any:
        assert self._generators is not None
        answer = self._generators.step(self.env.step, action)
        if not self._generators.in_use:
            self._generators = None
        return answer


def fault_of(problem: BaseException, verb: str) -> EnvironmentFault:
    """What an environment raised in `verb`, to be called where it was caught.

    SystemExit, KeyboardInterrupt and the like are faults as others are; only Ctrl-C itself is raised on.
    """
    if is_from_keyboard(problem):
        raise problem
    if isinstance(problem, EnvironmentFault):  # a worker's comes wrapped in another of its type
        inner = problem.args[0]
        return inner if isinstance(inner, EnvironmentFault) else problem
    raised = f"raised {type(problem).__name__} in {verb}"
    return EnvironmentFault(": ".join(filter(None, [raised, str(problem)])), traceback.format_exc())


@contextmanager
def _telling(verb: str) -> Iterator[None]:
    try:
        yield
    except BaseException as problem:
        raise fault_of(problem, verb) from problem


def _check_info(info: Any) -> None:
    if not isinstance(info, dict):
        raise EnvironmentFault(f"returned the info {described(info)}, which is no dict")


def _reward(reward: Any) -> float:
    if type(reward) is not float:
        values = np.asarray(reward) if isinstance(reward, int | float | np.generic | np.ndarray) else None
        if values is None or values.size != 1 or values.dtype.kind not in "biuf":
            raise EnvironmentFault(f"returned the reward {described(reward)}, which is not one number")
        reward = float(values.item())
    if not -_LARGEST <= reward <= _LARGEST:
        too_large = f", whose size is above {_LARGEST:.3g}, what float32 holds" if math.isfinite(reward) else ""
        raise EnvironmentFault(f"returned the reward {reward}{too_large}")
    return float(reward)


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value[()]
    if not isinstance(value, bool | int | np.bool_ | np.integer):
        raise EnvironmentFault(f"returned the {name} {described(value)}, which is neither true nor false")
    return bool(value)
