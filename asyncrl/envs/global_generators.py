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
import ctypes
import random
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import VectorEnv, VectorWrapper
from numpy.random import mtrand

from asyncrl.errors import EnvironmentFault

__all__ = ["IsolatedGenerators", "preserved_generators", "seeded_generators"]

_WATCHED_RESETS = 20
_WATCHED_STEPS = 1_000
_MERSENNE_TWISTER = 624 * 4 + 4
"""Bytes of its state: the key and the position."""

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
        torch = _torch()
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
    unseeded = _Unseeded()
    with preserved_generators(), _installed([unseeded]):
        unseeded.seed(seed)
        mtrand.set_bit_generator(np.random.MT19937(seed))
        random.seed(seed)
        torch = _torch()
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
        self._unseeded = _Unseeded()
        self._sources: list[_Source] = [_NumPy(), _Python(), _Torch(), self._unseeded]
        self._drawn: list[_Source] = []
        """Generators that the environment has drawn from."""
        self._resets = self._steps = 0

    @property
    def in_use(self) -> bool:
        """Whether the environment draws from any generator, or is still being watched."""
        return bool(self._drawn) or self._watches_resets

    def make(self, make: Callable[[], _Env], seed: int | None) -> _Env:
        """Call a constructor, whose draws depend on `seed` alone."""
        imported = _torch() is not None
        env = self._make(make, seed)
        if not imported and _has_drawn_from_torch():  # the constructor imported torch, so its seed came too late
            env.close()
            env = self._make(make, seed)
        self._sources += [_Spaces(env), _OwnGenerator(env)]
        return env

    def reset(self, reset: Callable[..., _T], seed: int | None, options: dict[str, Any] | None) -> _T:
        """Call an environment's `reset`. Its draws and those of the steps after it depend on `seed` alone."""
        if self._steps < _WATCHED_STEPS:
            self._note_draws()
        sources = self._sources if self._watches_resets else self._drawn
        self._resets += 1
        with _installed(sources):
            for source in sources:
                source.seed(seed)
            result = reset(seed=seed, options=options)
        if sources is self._sources:
            self._note_draws()
        return result

    def step(self, step: Callable[[Any], _T], action: Any) -> _T:
        """Call an environment's `step`."""
        if self._steps >= _WATCHED_STEPS:
            if not self._drawn:
                return step(action)
            with _installed(self._drawn):
                return step(action)
        self._steps += 1
        with _installed(self._sources):
            result = step(action)
        if self._steps == _WATCHED_STEPS:
            self._note_draws()
        return result

    def _make(self, make: Callable[[], _Env], seed: int | None) -> _Env:
        with _hidden_generators(), _installed(self._sources):
            for source in self._sources:
                source.seed(seed)
            env = make()
            self._unseeded.seed(seed)  # a generator that the constructor made says nothing about the calls to come
        _known_spaces.update((id(space), space) for space in _spaces_of(env))
        return env

    @property
    def _watches_resets(self) -> bool:
        return self._resets < _WATCHED_RESETS or self._steps < _WATCHED_STEPS

    def _note_draws(self) -> None:
        self._drawn += [source for source in self._sources if source not in self._drawn and source.has_drawn()]


class _Source(Protocol):
    """One environment's state of one generator."""

    def install(self) -> None:
        """Make it the process's state."""

    def remove(self) -> None:
        """Save it again. `preserved_generators` restores the process's state."""

    def seed(self, seed: int | None) -> None:
        """Seed it while it is installed; None takes a seed from the operating system."""

    def has_drawn(self) -> bool:
        """Return whether it has changed since it was seeded."""


@contextlib.contextmanager
def _installed(sources: Sequence[_Source]) -> Iterator[None]:
    for source in sources:
        source.install()
    try:
        yield
    finally:
        for source in sources:
            source.remove()


class _NumPy:
    """`np.random`. Its bit generator is exchanged, which copies nothing."""

    def __init__(self) -> None:
        self._own = np.random.MT19937(0)
        self._seeded = self._state()

    def install(self) -> None:
        mtrand.set_bit_generator(self._own)

    def remove(self) -> None: ...

    def seed(self, seed: int | None) -> None:
        np.random.seed(None if seed is None else seed % 2**32)
        self._seeded = self._state()

    def has_drawn(self) -> bool:
        return self._state() != self._seeded

    def _state(self) -> bytes:
        return ctypes.string_at(self._own.ctypes.state_address, _MERSENNE_TWISTER)


class _Python:
    """`random`. `getstate` takes longer than a step of many environments, so it is called only after a draw.

    A draw is detected by drawing one more normal number: it then differs from the expected one. That draw is part of the
    stream.
    """

    def __init__(self) -> None:
        self._state: Any = None
        self._seeded: Any = None
        self._next = 0.0

    def install(self) -> None:
        if self._state is not None:
            random.setstate(self._state)

    def remove(self) -> None:
        if random.gauss(0.0, 1.0) != self._next:
            self._keep()

    def seed(self, seed: int | None) -> None:
        random.seed(seed)
        self._keep()
        self._seeded = self._state
        random.setstate(self._state)

    def has_drawn(self) -> bool:
        return self._state is not self._seeded

    def _keep(self) -> None:
        self._state = random.getstate()
        self._next = random.gauss(0.0, 1.0)


class _Torch:
    """torch's default generator, if torch is imported; workers import it only if their environment does."""

    def __init__(self) -> None:
        self._state: Any = None
        self._seeded: Any = None

    def install(self) -> None:
        if self._state is not None:
            _torch().set_state(self._state)

    def remove(self) -> None:
        if self._state is not None:
            self._state = _torch().get_state()

    def seed(self, seed: int | None) -> None:
        torch = _torch()
        if torch is None:
            return
        torch.seed() if seed is None else torch.manual_seed(seed)
        self._state = self._seeded = torch.get_state()

    def has_drawn(self) -> bool:
        return self._state is not None and not self._state.equal(self._seeded)


class _Spaces:
    """The generators of an environment's spaces, which are often attributes of the class."""

    def __init__(self, env: Any) -> None:
        self._spaces = list({id(space): space for space in _spaces_of(env)}.values())
        self._saved = [space._np_random for space in self._spaces]
        self._own: list[Any] = [np.random.default_rng(0) for _ in self._spaces]
        self._seeded: list[Any] = []

    def install(self) -> None:
        self._saved = [space._np_random for space in self._spaces]
        for space, own in zip(self._spaces, self._own, strict=True):
            space._np_random = own

    def remove(self) -> None:
        self._own = [space.np_random for space in self._spaces]
        for space, saved in zip(self._spaces, self._saved, strict=True):
            space._np_random = saved

    def seed(self, seed: int | None) -> None:
        for index, space in enumerate(self._spaces):
            space._np_random = np.random.default_rng(None if seed is None else (seed, index))
        self._seeded = [space.np_random.bit_generator.state for space in self._spaces]

    def has_drawn(self) -> bool:
        return bool(self._seeded) and [own.bit_generator.state for own in self._own] != self._seeded


_known_spaces = weakref.WeakValueDictionary[int, spaces.Space[Any]]()
"""Spaces of the environments made in this process, by identity; a constructor may meet them again in its class."""


@contextlib.contextmanager
def _hidden_generators() -> Iterator[None]:
    """Take the generators from the known spaces during a constructor, which would continue them."""
    hidden: list[tuple[Any, Any]] = [(space, space._np_random) for space in _known_spaces.values()]
    for space, _ in hidden:
        space._np_random = None
    try:
        yield
    finally:
        for space, generator in hidden:
            space._np_random = generator


class _Unseeded:
    """Generators that Gymnasium makes without a seed: `np_random` before it is seeded, new spaces, FrozenLake's maps.

    Those that other threads make meanwhile are not the environment's. A space may belong to a class or a module and meet
    other environments, so it has the generator in this environment's calls only, and another one in the next episode.
    """

    def __init__(self) -> None:
        self._gymnasiums: Any = None
        self._thread = 0
        self._seed: int | None = None
        self._made = 0
        self._own: list[tuple[weakref.ref[Any], Any]] = []
        """Spaces that were without a generator, with this environment's, or with the others' in its calls."""

    def install(self) -> None:
        self._gymnasiums, self._thread = seeding.np_random, threading.get_ident()
        seeding.np_random = self._np_random
        self._exchange()

    def remove(self) -> None:
        self._exchange()
        seeding.np_random = self._gymnasiums

    def seed(self, seed: int | None) -> None:
        self._seed, self._made = seed, 0
        self._exchange()
        self._own.clear()

    def has_drawn(self) -> bool:
        return self._made > 0

    def _np_random(self, seed: int | None = None) -> tuple[np.random.Generator, int]:
        if seed is None and threading.get_ident() == self._thread:
            self._made += 1
            if self._seed is not None:
                seed = int(np.random.SeedSequence((self._seed, self._made)).generate_state(1, np.uint64)[0])
            space = sys._getframe(1).f_locals.get("self")  # the caller, if it is the property `Space.np_random`
            if isinstance(space, spaces.Space) and space._np_random is None:
                self._own.append((weakref.ref(space), None))
        made: tuple[np.random.Generator, int] = self._gymnasiums(seed)
        return made

    def _exchange(self) -> None:
        """Exchange the generators that the spaces have for those that are kept here."""
        found = [(space, kept) for ref, kept in self._own if (space := ref()) is not None]
        self._own = [(weakref.ref(space), space._np_random) for space, _ in found]
        for space, kept in found:
            space._np_random = kept


class _OwnGenerator:
    """`np_random` of an environment whose `reset` forgets to seed it (``super().reset(seed=seed)``)."""

    def __init__(self, env: Any) -> None:
        self._env = env.unwrapped
        made = getattr(self._env, "_np_random", None)  # by Gymnasium, when the constructor drew from it
        self._own: Any = made if isinstance(made, np.random.Generator) and self._env.np_random_seed != -1 else None
        self._seeded: Any = None if self._own is None else self._own.bit_generator.state

    def install(self) -> None: ...

    def remove(self) -> None: ...

    def seed(self, seed: int | None) -> None:
        if getattr(self._env, "_np_random", self) is self._own:  # the environment has not made its own
            with contextlib.suppress(AttributeError):  # vector environments of single ones do not take one
                self._env.np_random = self._own = np.random.default_rng(seed)
                self._seeded = self._own.bit_generator.state

    def has_drawn(self) -> bool:
        is_in_use = self._own is not None and getattr(self._env, "_np_random", None) is self._own
        return is_in_use and bool(self._own.bit_generator.state != self._seeded)


def _spaces_of(env: Any) -> Iterator[spaces.Space[Any]]:
    """Yield every space of an environment and its wrappers, and the spaces inside them."""
    layer: Any = env
    while layer is not None:
        for name in ("observation_space", "action_space", "single_observation_space", "single_action_space"):
            yield from _within(getattr(layer, name, None))
        layer = layer.env if isinstance(layer, gymnasium.Wrapper | VectorWrapper) else None


def _within(space: Any) -> Iterator[spaces.Space[Any]]:
    if isinstance(space, spaces.Space):
        yield space
        parts = getattr(space, "spaces", ())
        for part in parts.values() if isinstance(parts, dict) else parts:
            yield from _within(part)


def _torch() -> Any:
    """Return torch's default generator; None if torch is not imported."""
    return getattr(sys.modules.get("torch"), "default_generator", None)


def _has_drawn_from_torch() -> bool:
    """Return whether torch's default generator has changed since the import."""
    torch = sys.modules.get("torch")
    return torch is not None and not torch.default_generator.get_state().equal(torch.Generator().get_state())
