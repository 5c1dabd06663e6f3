"""The arguments ALGO and ENV of a command."""

from __future__ import annotations

from collections.abc import Sequence

from asyncrl.algorithms import algorithm_named, is_algorithm
from asyncrl.errors import UsageError

__all__ = ["algorithm_and_env", "env_alone"]


def algorithm_and_env(words: Sequence[str], command: str) -> tuple[str | None, str | None]:
    """ALGO and ENV of `asyncrl COMMAND ALGO ENV`; None if missing. Raises UsageError for an unknown algorithm."""
    if len(words) > 2:
        raise UsageError(f"unexpected {words[2]!r} after the environment; options begin with --")
    first, second = (*words, None, None)[:2]
    if first is None or is_algorithm(first):
        return first, second
    if second is not None and is_algorithm(second):
        raise UsageError(f"the algorithm comes first: asyncrl {command} {second} {first}")
    if second is None and any(mark in first for mark in (":", "/", "-v")):
        raise UsageError(f"the algorithm is missing: asyncrl {command} ALGO {first} (asyncrl list algorithms)")
    return algorithm_named(first).name, second


def env_alone(arguments: Sequence[str], command: str) -> None:
    """Raise UsageError if an algorithm stands before or after the environment of `asyncrl COMMAND ENV --algo ALGO`."""
    first, second = (*arguments, "--", "--")[:2]
    if second.startswith("-") or first.startswith("-"):
        return
    for algorithm, env in ((first, second), (second, first)):
        if is_algorithm(algorithm):
            raise UsageError(f"the algorithm is an option of {command}: asyncrl {command} {env} --algo {algorithm}")
