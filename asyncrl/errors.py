"""The exceptions of this package.

::

    AsyncRLError
    ├── UsageError               an invalid request; the command line exits with 2
    │   ├── CheckpointError      a damaged, incomplete or incompatible checkpoint
    │   └── BotFault             a bot raised or returned an invalid action
    ├── EnvironmentFault         an environment raised or broke its contract
    ├── ActorDied                an actor's process or thread ended without an error
    ├── LearnerDied              one of several learners ended without an error
    ├── SystemFault              an error of the operating system, such as a full disk
    ├── ScheduleError            a rollout or weights out of schedule; a bug in asyncrl
    └── DivergenceError          a loss or gradient that is not finite, or exploding weights

Every message is one sentence that names the thing, the value and the remedy.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator
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
    "LearnerDied",
    "ScheduleError",
    "SinkWarning",
    "SystemFault",
    "UsageError",
    "closing",
    "continued",
    "suggestions",
]


class AsyncRLError(Exception):
    """Base class of all errors that this package raises."""


class UsageError(AsyncRLError):
    """The request is invalid; nothing was started. Raised by a bot or a callback, it ends the run, which is saved."""


class CheckpointError(UsageError):
    """A checkpoint cannot be used; the message names the file and the reason."""


class BotFault(UsageError):
    """A bot raised or returned an invalid action; the message names its file and line."""


class EnvironmentFault(AsyncRLError):
    """An environment raised, or returned values outside its spaces.

    `traceback` is the text of the environment's traceback, or "" if it raised nothing.
    """

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message, traceback)
        self.traceback = traceback

    def __str__(self) -> str:
        return str(self.args[0])


class ActorDied(AsyncRLError):
    """An actor ended without reporting an error: it was killed, ran out of memory, or crashed in native code."""


class LearnerDied(AsyncRLError):
    """One of several learners ended without reporting an error, or does not answer."""


class SystemFault(AsyncRLError):
    """The operating system reported an error; the message names the path and the remedy."""


class ScheduleError(AsyncRLError):
    """The stamp of a rollout or of weights is not the one that the schedule requires."""


class DivergenceError(AsyncRLError):
    """A loss or a gradient is not finite, or the weights exploded.

    `version` is the first unusable version of the weights, `step` the environment step at which it was found.
    """

    def __init__(self, message: str, version: int = 0, step: int = 0) -> None:
        super().__init__(message, version, step)
        self.version = version
        self.step = step

    def with_remedy(self, sentence: str) -> DivergenceError:
        """Return a copy whose message ends with the remedy."""
        return DivergenceError(f"{self} {sentence}", self.version, self.step)

    def __str__(self) -> str:
        return str(self.args[0])


class _Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)


@contextmanager
def closing(resource: C) -> Iterator[C]:
    """Close `resource` at the end of the block. If the block raises, errors on closing are suppressed."""
    try:
        yield resource
    except BaseException:
        with contextlib.suppress(AsyncRLError, OSError):
            resource.close()
        raise
    resource.close()


class DamageWarning(UserWarning):
    """An unneeded file of a run folder cannot be read; the message says how the run continues without it."""


class SinkWarning(UserWarning):
    """A destination of records failed and gets no more of them; training goes on."""


def continued(sentence: str, more: str) -> str:
    """Return `sentence; more`, or `sentence? More` if it ends with the question of `suggestions`."""
    return f"{sentence} {more[:1].upper()}{more[1:]}" if sentence.endswith("?") else f"{sentence}; {more}"


_SYNONYMS = {"gpu": "cuda", "cuda": "gpu", "float32": "fp32", "bfloat16": "bf16"}
"""Other words for values, in letters that lead to none of them or to another value."""


def suggestions(word: str, known: Iterable[str], write: Callable[[str], str] = str) -> str:
    """Return similar names, each as `write` has it, as `"; did you mean 'a' or 'b'?"`, or "" if there are none."""
    by_folded = {name.casefold(): name for name in known}
    folded = word.casefold()
    close = [synonym for synonym in [_SYNONYMS.get(folded)] if synonym in by_folded]
    close = close or difflib.get_close_matches(folded, list(by_folded), n=3, cutoff=0.6)
    names = [repr(write(by_folded[name])) for name in close]
    return f"; did you mean {' or '.join(names)}?" if names else ""
