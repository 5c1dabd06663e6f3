"""One environment's state of each random generator that its process shares; `global_generators.py` exchanges them."""

from __future__ import annotations

import contextlib
import ctypes
import random
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import VectorWrapper
from numpy.random import mtrand

__all__ = [
    "GeneratorState",
    "NumPyState",
    "OwnState",
    "PythonState",
    "SpaceStates",
    "TorchState",
    "UnseededState",
    "has_drawn_from_torch",
    "hidden_space_generators",
    "installed",
    "note_spaces",
    "torch_generator",
]

_MERSENNE_TWISTER = 624 * 4 + 4
"""Bytes of its state: the key and the position."""


class GeneratorState(Protocol):
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
def installed(states: Sequence[GeneratorState]) -> Iterator[None]:
    """Make these the process's states during the block."""
    for state in states:
        state.install()
    try:
        yield
    finally:
        for state in states:
            state.remove()


class NumPyState:
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


class PythonState:
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


class TorchState:
    """torch's default generator, if torch is imported; workers import it only if their environment does."""

    def __init__(self) -> None:
        self._state: Any = None
        self._seeded: Any = None

    def install(self) -> None:
        if self._state is not None:
            torch_generator().set_state(self._state)

    def remove(self) -> None:
        if self._state is not None:
            self._state = torch_generator().get_state()

    def seed(self, seed: int | None) -> None:
        torch = torch_generator()
        if torch is None:
            return
        torch.seed() if seed is None else torch.manual_seed(seed)
        self._state = self._seeded = torch.get_state()

    def has_drawn(self) -> bool:
        return self._state is not None and not self._state.equal(self._seeded)


class SpaceStates:
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


def note_spaces(env: Any) -> None:
    """Remember the spaces of an environment that has been made in this process."""
    _known_spaces.update((id(space), space) for space in _spaces_of(env))


@contextlib.contextmanager
def hidden_space_generators() -> Iterator[None]:
    """Take the generators from the known spaces during a constructor, which would continue them."""
    hidden: list[tuple[Any, Any]] = [(space, space._np_random) for space in _known_spaces.values()]
    for space, _ in hidden:
        space._np_random = None
    try:
        yield
    finally:
        for space, generator in hidden:
            space._np_random = generator


class UnseededState:
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


class OwnState:
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


def torch_generator() -> Any:
    """Return torch's default generator; None if torch is not imported."""
    return getattr(sys.modules.get("torch"), "default_generator", None)


def has_drawn_from_torch() -> bool:
    """Return whether torch's default generator has changed since the import."""
    torch = sys.modules.get("torch")
    return torch is not None and not torch.default_generator.get_state().equal(torch.Generator().get_state())
