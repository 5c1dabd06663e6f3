"""Gives every environment its own state of the random generators that a process shares.

Environments should draw from `np_random`, but many draw from `np.random`, `random` or torch's default generator, or sample
a space. Each of these is one stream for the whole process, or for all copies of a class. Here every environment has its own
state of each. It is installed during the environment's calls only, and seeded with the episode's seed before every reset.
Generators that Gymnasium makes without a seed in these calls are seeded, too. So an episode is a function of its seed and
its actions on every engine, and no two actors play the same one.

This costs a few microseconds per call. It stops for each generator that an environment has not drawn from in its first
resets and steps.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.random import mtrand

from asyncrl.envs.generator_states import (
    GeneratorState,
    NumPyState,
    OwnState,
    PythonState,
    SpaceStates,
    TorchState,
    UnseededState,
    has_drawn_from_torch,
    hidden_space_generators,
    installed,
    note_spaces,
    torch_generator,
)
from asyncrl.errors import EnvironmentFault

__all__ = ["IsolatedGenerators", "preserved_generators", "seeded_generators"]

_WATCHED_RESETS = 20
_WATCHED_STEPS = 1_000
_LOCK_TIMEOUT = 300.0
"""Seconds that a thread waits for an environment in another thread."""

_lock = threading.RLock()
_T = TypeVar("_T")
_Env = TypeVar("_Env", gymnasium.Env[Any, Any], VectorEnv[Any, Any, Any])


@contextlib.contextmanager
def preserved_generators() -> Iterator[None]:
    """Restore the process's generators on exit; environments may use them inside, in one thread at a time.

    A pending second normal number of `np.random.randn` is lost. Raises EnvironmentFault if an environment in another
    thread never finishes its call.
    """
    with _held():
        torch = torch_generator()
        saved = mtrand.get_bit_generator(), random.getstate(), None if torch is None else torch.get_state()
        try:
            yield
        finally:
            mtrand.set_bit_generator(saved[0])
            random.setstate(saved[1])
            if torch is not None:
                torch.set_state(saved[2])


@contextlib.contextmanager
def seeded_generators(seed: int) -> Iterator[None]:
    """As `preserved_generators`, and let draws in the block depend on `seed` alone."""
    unseeded = UnseededState()
    with preserved_generators(), installed([unseeded]):
        unseeded.seed(seed)
        mtrand.set_bit_generator(np.random.MT19937(seed))
        random.seed(seed)
        torch = torch_generator()
        if torch is not None:
            torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def _held() -> Iterator[None]:
    if not _lock.acquire(timeout=_LOCK_TIMEOUT):
        raise EnvironmentFault(f"waited {_LOCK_TIMEOUT:.0f} s for an environment in another thread, which has not returned")
    try:
        yield
    finally:
        _lock.release()


class IsolatedGenerators:
    """One environment's state of the shared generators.

    Its methods are called inside `preserved_generators` wherever other code uses the generators too.
    """

    def __init__(self) -> None:
        self._unseeded = UnseededState()
        self._states: list[GeneratorState] = [NumPyState(), PythonState(), TorchState(), self._unseeded]
        self._drawn: list[GeneratorState] = []
        """Generators that the environment has drawn from."""
        self._resets = self._steps = 0

    @property
    def in_use(self) -> bool:
        """Whether the environment draws from any generator, or is still being watched."""
        return bool(self._drawn) or self._watches_resets

    def make(self, make: Callable[[], _Env], seed: int | None) -> _Env:
        """Call a constructor, whose draws depend on `seed` alone."""
        imported = torch_generator() is not None
        env = self._make(make, seed)
        if not imported and has_drawn_from_torch():  # the constructor imported torch, so its seed came too late
            env.close()
            env = self._make(make, seed)
        self._states += [SpaceStates(env), OwnState(env)]
        return env

    def reset(self, reset: Callable[..., _T], seed: int | None, options: dict[str, Any] | None) -> _T:
        """Call an environment's `reset`. Its draws and those of the steps after it depend on `seed` alone."""
        if self._steps < _WATCHED_STEPS:
            self._note_draws()
        states = self._states if self._watches_resets else self._drawn
        self._resets += 1
        with installed(states):
            for state in states:
                state.seed(seed)
            result = reset(seed=seed, options=options)
        if states is self._states:
            self._note_draws()
        return result

    def step(self, step: Callable[[Any], _T], action: Any) -> _T:
        """Call an environment's `step`."""
        if self._steps >= _WATCHED_STEPS:
            if not self._drawn:
                return step(action)
            with installed(self._drawn):
                return step(action)
        self._steps += 1
        with installed(self._states):
            result = step(action)
        if self._steps == _WATCHED_STEPS:
            self._note_draws()
        return result

    def _make(self, make: Callable[[], _Env], seed: int | None) -> _Env:
        with hidden_space_generators(), installed(self._states):
            for state in self._states:
                state.seed(seed)
            env = make()
            self._unseeded.seed(seed)  # a generator that the constructor made says nothing about the calls to come
        note_spaces(env)
        return env

    @property
    def _watches_resets(self) -> bool:
        return self._resets < _WATCHED_RESETS or self._steps < _WATCHED_STEPS

    def _note_draws(self) -> None:
        self._drawn += [state for state in self._states if state not in self._drawn and state.has_drawn()]
