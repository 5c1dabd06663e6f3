"""What can go wrong, as a tree.

::

    AsyncRLError
    ├── UsageError               the user's mistake; the command line exits with 2
    │   ├── CheckpointError      a checkpoint that is damaged, truncated or foreign
    │   └── BotFault             a bot raised, or did what is no action
    ├── EnvironmentFault         an environment raised, or broke its contract
    ├── ActorDied                an actor's process or thread ended without a word
    ├── SystemFault              the operating system refused something: a full disk, a folder that cannot be written
    ├── ScheduleError            a rollout or weights other than the schedule says; a bug of ours
    └── DivergenceError          a gradient that is not finite, or weights beyond all bounds

Every message is one sentence that names the thing, the value and the remedy.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

__all__ = [
    "ActorDied",
    "AsyncRLError",
    "BotFault",
    "CheckpointError",
    "DamageWarning",
    "DivergenceError",
    "EnvironmentFault",
    "ScheduleError",
    "SystemFault",
    "UsageError",
    "closing",
    "suggestions",
]


class AsyncRLError(Exception):
    """The root of every error this package raises on purpose; catch it to catch them all."""


class UsageError(AsyncRLError):
    """The request cannot be met as it was put; nothing was started."""


class CheckpointError(UsageError):
    """A checkpoint cannot be used; the message names the file and the reason."""


class BotFault(UsageError):
    """A bot raised, or did what is no action; the message names its file and line."""


class EnvironmentFault(AsyncRLError):
    """An environment raised, or returned what its spaces forbid.

    `traceback` holds the environment's own traceback as text ("" when nothing was raised).
    """

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message, traceback)
        self.traceback = traceback

    def __str__(self) -> str:
        return str(self.args[0])


class ActorDied(AsyncRLError):
    """An actor ended without reporting a fault (killed, out of memory, a crash in native code)."""


class SystemFault(AsyncRLError):
    """The operating system refused something; the message names the path and the remedy."""


class ScheduleError(AsyncRLError):
    """A stamp on a rollout or on weights is not the one that the schedule asks for."""


class DivergenceError(AsyncRLError):
    """A gradient is not finite, or weights have grown beyond all bounds.

    `version` is the first version of the weights that is of no use, `step` where that was found.
    """

    def __init__(self, message: str, version: int = 0, step: int = 0) -> None:
        super().__init__(message, version, step)
        self.version, self.step = version, step

    def with_remedy(self, sentence: str) -> DivergenceError:
        """The same, which says what to do about it."""
        return DivergenceError(f"{self} {sentence}", self.version, self.step)

    def __str__(self) -> str:
        return str(self.args[0])


class _Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)


@contextmanager
def closing(thing: C) -> Iterator[C]:
    """As `contextlib.closing`; where both the block and `close` fail, it is the block's error that is raised."""
    try:
        yield thing
    except BaseException:
        with contextlib.suppress(AsyncRLError, OSError):
            thing.close()
        raise
    thing.close()


class DamageWarning(UserWarning):
    """A run's folder has a file that cannot be read and is not needed; the message says what is done without it."""


def suggestions(word: str, known: Iterable[str]) -> str:
    """`"; did you mean 'a' or 'b'?"`, or "" where nothing is near."""
    by_folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), list(by_folded), n=3, cutoff=0.6)
    names = [repr(by_folded[name]) for name in close]
    return f"; did you mean {' or '.join(names)}?" if names else ""
