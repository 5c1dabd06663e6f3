"""One environment that says what went wrong in it, also from inside a worker process."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np

from asyncrl.envs.observed import ObservationCheck, described
from asyncrl.errors import EnvironmentFault
from asyncrl.interruption import is_from_keyboard

__all__ = ["Checked", "fault_of"]


class Checked(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Raises EnvironmentFault with the environment's own traceback for whatever it raises or returns against the rules.

    Vector environments bring only an exception's value out of a worker, and some quietly broadcast an observation of
    the wrong shape; both are caught here, before them. A fault without a traceback is a broken contract: an answer
    that is no pair or five-tuple, an observation that its space forbids (`ObservationCheck`), a reward that is not one
    finite number. Bounds are not checked: many environments leave theirs now and then, and nothing here relies on
    them.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._observed = ObservationCheck(env.observation_space, type(env.unwrapped).__name__)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        with _telling("reset"):
            answer = self.env.reset(seed=seed, options=options)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise EnvironmentFault(f"returned {described(answer)} from reset, not a pair of observation and info")
        observation, info = answer
        _check_info(info)
        return self._observed(observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        try:  # as `_telling`, at a third of its cost
            answer = self.env.step(action)
        except BaseException as problem:
            raise fault_of(problem, "step") from problem
        if not isinstance(answer, tuple) or len(answer) != 5:
            raise EnvironmentFault(
                f"returned {described(answer)} from step, not the five observation, reward, terminated, truncated, info"
            )
        observation, reward, terminated, truncated, info = answer
        observation = self._observed(observation)
        _check_info(info)
        return observation, _reward(reward), _flag("terminated", terminated), _flag("truncated", truncated), info


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
    if not math.isfinite(reward):
        raise EnvironmentFault(f"returned the reward {reward}")
    return float(reward)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | int | np.bool_ | np.integer):
        raise EnvironmentFault(f"returned the {name} {described(value)}, which is neither true nor false")
    return bool(value)
